"""From per-example outcomes to measurements and decided comparisons: scores, means over seeds, paired tests (in percent)."""

from __future__ import annotations

import numpy as np
import pandas as pd

from fpdlib import evaluation
from fpdlib.errors import NotComputed
from fpdlib.results.evidence import Evidence

SIGNIFICANCE = 0.05
# Points of curve area. APGD leaves up to 8.4 points less than the ladder at a rung (benchmarks/ladder_vs_autoattack.py); the
# rungs from 0.03 to 0.07, where networks fall, hold a fifth of the area. A smaller difference may be the ladder's own error.
LADDER_ERROR = 2.0
WHITE_BOX = ("white-box", "sound-pgd")  # Table 1's published point and its worst case


def scores(evidence: Evidence, name: str, attack: str, seed: int, numbers_only: bool = False) -> pd.Series:
    """`score`, remembered: every table, claim and figure asks for the same ones."""
    known, which = vars(evidence).setdefault("scores", {}), (name, attack, seed, numbers_only)
    if which not in known:
        known[which] = score(evidence, *which)
    return known[which]


def score(evidence: Evidence, name: str, attack: str, seed: int, numbers_only: bool) -> pd.Series:
    """Per image: robust or not at the attack's epsilon; for a ladder, the area under the robustness curve.

    `average` is Table 1's last column, the mean of white-box and transfer.
    `sound-pgd` (Table 1) and `worst/linf`, `worst/l2`, `worst-native/...` (the other tables) count an image as robust only
    if no attack of that norm and space broke it at that epsilon or below: a wide ball with a rugged loss can hide from one
    attack what a smaller radius, a weaker attack or a transfer finds. Their images are those of the sound attack.
    numbers_only: breaks that rest on an output which is not a number do not count (see `evaluation.robust`).
    """
    suite = evidence.profile.attacks
    if attack == "average":
        return sum(scores(evidence, name, part, seed, numbers_only) for part in ("white-box", "transfer-oracle")) / 2
    if attack != "sound-pgd" and not attack.startswith("worst"):
        return evaluation.curve_score(evidence.outcome(name, attack, seed), numbers_only).astype(float)
    base = attack.replace("worst", "sound", 1)
    like = suite[base]
    same = [key for key, spec in suite.items() if attack == "sound-pgd"
            or ((spec.norm, spec.space) == (like.norm, like.space) and spec.eps[-1] <= like.eps[-1])]  # fmt: skip
    standing = evaluation.robust(evidence.outcome(name, base, seed), numbers_only).iloc[:, -1].copy()
    for other in same:
        hits = evaluation.robust(evidence.outcome(name, other, seed), numbers_only).iloc[:, -1]
        standing.loc[hits.index[~hits].intersection(standing.index)] = False
    return standing.astype(float)


def measurement(evidence: Evidence, name: str, attack: str, seeds: list[int] | None = None) -> dict:
    """Mean over seeds in percent, Wilson 95 % interval at n images (of the mean), and the range over seeds.

    `nan`: how much of what is missing to 100 % rests on outputs that are not numbers alone, in percent: for a 0/1 score the share
    of broken images that no attack broke otherwise. nan where nothing is broken. Raises NotComputed if no seed is there.
    """
    seeds = seeds or [evidence.first(name), *evidence.seeds(name)[1:]]
    per_seed = [scores(evidence, name, attack, seed) for seed in seeds]
    values = [float(s.mean()) for s in per_seed]
    mean, n = float(np.mean(values)), len(per_seed[0])
    interval = evaluation.rate(np.arange(n) < round(mean * n))
    otherwise = np.mean([scores(evidence, name, attack, seed, numbers_only=True).mean() for seed in seeds])
    return {
        "value": 100 * mean, "n": n, "low": 100 * interval.low, "high": 100 * interval.high,
        "nan": 100 * float(otherwise - mean) / (1 - mean) if mean < 1 else float("nan"),
        "seeds": len(seeds), "seed_min": 100 * min(values), "seed_max": 100 * max(values),
    }  # fmt: skip


def clean(evidence: Evidence, name: str) -> dict:
    """Mean clean accuracy over seeds, of how many images, and whether a seed lies below the profile's floor."""
    rates = [evidence.clean(name, seed) for seed in evidence.seeds(name)]
    if not rates:
        raise NotComputed(f"{evidence.setting}: not everything is there of {name}; `python -m fpdlib work` computes it.")
    return {"value": 100 * float(np.mean([r.value for r in rates])), "n": rates[0].n,
            "undertrained": any(r.value < evidence.profile.clean_floor for r in rates)}  # fmt: skip


def masked(evidence: Evidence, name: str) -> bool:
    """Whether the published attack leaves clearly more (95 % intervals apart) than the worst case over the suite.

    Its gradients then hide adversarial examples that exist, and its curve, which comes from gradients, is an upper bound.
    """
    published, sound = WHITE_BOX if "white-box" in evidence.profile.attacks else ("published/linf-pgd", "worst/linf")
    return measurement(evidence, name, published)["low"] > measurement(evidence, name, sound)["high"]


def compare(evidence: Evidence, better: str, worse: str, attack: str) -> dict:
    """One asserted pair under one measure: paired difference on the same images, and holds / does not hold / not decided.

    Undecided when a network is undertrained, when curves differ by less than LADDER_ERROR or the higher one belongs to a network
    with masked gradients, when p >= 0.05 or the 95 % interval of the mean contains 0, or when not every seed has the same sign.
    Scores are averaged per image over the seeds that both networks have before the test.
    """
    seeds = [evidence.first(better, worse), *evidence.seeds(better, worse)[1:]]
    a, b = ([scores(evidence, name, attack, seed) for seed in seeds] for name in (better, worse))
    difference = evaluation.paired(sum(a) / len(a), sum(b) / len(b))
    signs = {np.sign(float((x - y).mean())) for x, y in zip(a, b, strict=True)}
    # ranks and means can disagree on a skewed difference; a verdict needs both
    clear = difference.p < SIGNIFICANCE and (difference.low > 0 or difference.high < 0)
    winner = better if difference.value > 0 else worse
    weak = [name for name in (better, worse) if clean(evidence, name)["undertrained"]]
    if weak:
        verdict, reason = "not decided", f"undertrained: {', '.join(weak)}"
    elif attack == "curve" and clear and abs(100 * difference.value) < LADDER_ERROR:
        verdict, reason = "not decided", "less than the ladder's own error"
    elif attack == "curve" and masked(evidence, winner):
        verdict, reason = "not decided", f"masked gradients: {winner}"
    elif not clear:
        floor = max(float(s.mean()) for s in (*a, *b)) < 0.02
        verdict, reason = "not decided", "both at the floor" if floor else "no significant difference"
    elif len(signs) > 1:
        verdict, reason = "not decided", "seeds disagree"
    else:
        verdict, reason = ("holds", "") if difference.value > 0 else ("does not hold", "opposite order")
    return {
        "better": better, "worse": worse, "measure": attack, "difference": 100 * difference.value,
        "low": 100 * difference.low, "high": 100 * difference.high, "p": difference.p, "n": difference.n,
        "seeds": len(seeds), "verdict": verdict, "reason": reason,
    }  # fmt: skip


def combine(verdicts: list[str]) -> str:
    """A claim of several pairs holds if all hold, fails if one fails, and is undecided otherwise."""
    if all(v == "holds" for v in verdicts):
        return "holds"
    return "does not hold" if "does not hold" in verdicts else "not decided"
