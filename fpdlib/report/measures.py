"""From per-example outcomes to measurements and decided comparisons: scores, means over seeds, paired tests (in percent)."""

from __future__ import annotations

import numpy as np
import pandas as pd

from fpdlib import evaluation, statistics
from fpdlib.results.evidence import Evidence

SIGNIFICANCE = 0.05
FEW = f"fewer than {statistics.SEEDS} seeds"
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
    seeds = seeds or evidence.complete(name)
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
    rates = [evidence.clean(name, seed) for seed in evidence.complete(name)]
    return {"value": 100 * float(np.mean([r.value for r in rates])), "n": rates[0].n,
            "undertrained": any(r.value < evidence.profile.clean_floor for r in rates)}  # fmt: skip


def by_seed(evidence: Evidence, name: str, attack: str, seeds: list[int] | None = None) -> pd.DataFrame:
    """Scores (images, seeds) of a network; seeds: all that are there. NotComputed if none is."""
    seeds = seeds or evidence.complete(name)
    return pd.concat({seed: scores(evidence, name, attack, seed) for seed in seeds}, axis=1, join="inner")


def versus(a: pd.DataFrame, b: pd.DataFrame) -> statistics.Comparison:
    """Scores of one method against those of another on the images that both have."""
    both = a.index.intersection(b.index)
    return statistics.compare(a.loc[both].to_numpy().T, b.loc[both].to_numpy().T)


def masked(evidence: Evidence, name: str) -> bool:
    """Whether the worst case over the suite lies clearly below what the published attack leaves on the same images.

    Its gradients then hide adversarial examples that exist, and its curve, which comes from gradients, is an upper bound.
    """
    published, sound = WHITE_BOX if "white-box" in evidence.profile.attacks else ("published/linf-pgd", "worst/linf")
    told, worst = by_seed(evidence, name, published), by_seed(evidence, name, sound)
    if worst.shape[1] > 1:
        return versus(told, worst).low > 0.01
    only = (told.iloc[:, 0] - worst.iloc[:, 0]).dropna() > 0
    return statistics.masked(only.to_numpy())


def compare(evidence: Evidence, better: str, worse: str, attack: str) -> dict:
    """One asserted pair under one measure: the difference over seeds and images, and holds / does not hold / not decided.

    Undecided when a network is undertrained, with fewer than three seeds of one, when p >= 0.05, when curves differ by less than
    LADDER_ERROR or the higher one belongs to a network with masked gradients.
    """
    a, b = by_seed(evidence, better, attack), by_seed(evidence, worse, attack)
    found = versus(a, b)
    clear, few = found.p < SIGNIFICANCE, min(found.seeds) < statistics.SEEDS
    winner = better if found.effect > 0 else worse
    weak = [name for name in (better, worse) if clean(evidence, name)["undertrained"]]
    if weak:
        verdict, reason = "not decided", f"undertrained: {', '.join(weak)}"
    elif max(a.mean().max(), b.mean().max()) < 0.02:
        verdict, reason = "not decided", "both at the floor"
    elif few or not found.decides:
        verdict, reason = "not decided", FEW if few else "everything at one bound"
    elif not clear:
        verdict, reason = "not decided", "no significant difference"
    elif attack == "curve" and abs(100 * found.effect) < LADDER_ERROR:
        verdict, reason = "not decided", "less than the ladder's own error"
    elif attack == "curve" and masked(evidence, winner):
        verdict, reason = "not decided", f"masked gradients: {winner}"
    else:
        verdict, reason = ("holds", "") if found.effect > 0 else ("does not hold", "opposite order")
    return {
        "better": better, "worse": worse, "measure": attack, "difference": 100 * found.effect, "low": 100 * found.low,
        "high": 100 * found.high, "p": found.p, "n": found.n, "seeds": min(found.seeds), "verdict": verdict, "reason": reason,
    }  # fmt: skip


def combine(verdicts: list[str]) -> str:
    """A claim of several pairs holds if all hold, fails if one fails, and is undecided otherwise."""
    if all(v == "holds" for v in verdicts):
        return "holds"
    return "does not hold" if "does not hold" in verdicts else "not decided"
