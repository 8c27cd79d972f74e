"""From per-example outcomes to measurements and decided comparisons: scores, means over seeds, paired tests.

Functions take a list of `Lab`s, one per seed of one profile and setting. Accuracies are percent.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from fpdlib import evaluation
from fpdlib.results.lab import Lab

SIGNIFICANCE = 0.05
# Points of curve area. APGD leaves up to 8.4 points less than the ladder at a rung (benchmarks/ladder_vs_autoattack.py); the
# rungs from 0.03 to 0.07, where networks fall, hold a fifth of the area. A smaller difference may be the ladder's own error.
LADDER_ERROR = 2.0
WHITE_BOX = ("white-box", "sound-pgd")  # Table 1's published point and its worst case


def scores(lab: Lab, name: str, attack: str, numbers_only: bool = False) -> pd.Series:
    """Per image: robust or not at the attack's epsilon; for a ladder, the area under the robustness curve.

    `average` is Table 1's last column, the mean of white-box and transfer.
    `sound-pgd` (Table 1) and `worst/linf`, `worst/l2`, `worst-native/...` (the other tables) count an image as robust only
    if no attack of that norm and space broke it at that epsilon or below: a wide ball with a rugged loss can hide from one
    attack what a smaller radius, a weaker attack or a transfer finds. Their images are those of the sound attack.
    numbers_only: breaks that rest on an output which is not a number do not count (see `evaluation.robust`).
    """
    if attack == "sound-pgd":
        return worst_case(lab, name, attack, list(lab.profile.attacks), numbers_only)
    if attack == "average":
        return sum(scores(lab, name, part, numbers_only) for part in ("white-box", "transfer-oracle")) / 2
    if attack.startswith("worst"):
        sound = attack.replace("worst", "sound", 1)
        base = lab.profile.attacks[sound]
        same = [key for key, spec in lab.profile.attacks.items()
                if (spec.norm, spec.space) == (base.norm, base.space) and spec.eps[-1] <= base.eps[-1]]  # fmt: skip
        return worst_case(lab, name, sound, same, numbers_only)
    return evaluation.curve_score(lab.outcome(name, attack), numbers_only).astype(float)


def worst_case(lab: Lab, name: str, base: str, attacks: list[str], numbers_only: bool = False) -> pd.Series:
    """Per image of the attack `base`: 1 if none of the attacks that were run on it broke it."""
    standing = evaluation.robust(lab.outcome(name, base), numbers_only).iloc[:, -1].copy()
    for attack in attacks:
        hits = evaluation.robust(lab.outcome(name, attack), numbers_only).iloc[:, -1]
        broken = hits.index[~hits].intersection(standing.index)
        standing.loc[broken] = False
    return standing.astype(float)


def available(labs: list[Lab], *names: str) -> list[Lab]:
    """The labs that have every outcome of these networks; if none has, the first, which will compute them."""
    return [lab for lab in labs if not lab.missing(names)] or labs[:1]


def measurement(labs: list[Lab], name: str, attack: str) -> dict:
    """Mean over seeds in percent, Wilson 95 % interval at n images (of the mean), and the range over seeds.

    `nan`: how much of what is missing to 100 % rests on outputs that are not numbers alone, in percent: for a 0/1 score the share
    of broken images that no attack broke otherwise. nan where nothing is broken.
    """
    labs = available(labs, name)
    per_seed = [scores(lab, name, attack) for lab in labs]
    values = [float(s.mean()) for s in per_seed]
    mean, n = float(np.mean(values)), len(per_seed[0])
    interval = evaluation.rate(np.arange(n) < round(mean * n))
    otherwise = np.mean([scores(lab, name, attack, numbers_only=True).mean() for lab in labs])
    return {
        "value": 100 * mean, "n": n, "low": 100 * interval.low, "high": 100 * interval.high,
        "nan": 100 * float(otherwise - mean) / (1 - mean) if mean < 1 else float("nan"),
        "seeds": len(labs), "seed_min": 100 * min(values), "seed_max": 100 * max(values),
    }  # fmt: skip


def clean(labs: list[Lab], name: str) -> dict:
    labs = available(labs, name)
    rates = [lab.clean(name) for lab in labs]
    return {"value": 100 * float(np.mean([r.value for r in rates])), "n": rates[0].n,
            "undertrained": any(lab.undertrained(name) for lab in labs)}  # fmt: skip


def masked(labs: list[Lab], name: str) -> bool:
    """Whether the published attack leaves clearly more (95 % intervals apart) than the worst case over the suite.

    Its gradients then hide adversarial examples that exist, and its curve, which comes from gradients, is an upper bound.
    """
    published, sound = WHITE_BOX if "white-box" in labs[0].profile.attacks else ("published/linf-pgd", "worst/linf")
    return measurement(labs, name, published)["low"] > measurement(labs, name, sound)["high"]


def compare(labs: list[Lab], better: str, worse: str, attack: str) -> dict:
    """One asserted pair under one measure: paired difference on the same images, and holds / does not hold / not decided.

    Undecided when a network is undertrained, when curves differ by less than LADDER_ERROR or the higher one belongs to a network
    with masked gradients, when p >= 0.05 or the 95 % interval of the mean contains 0, or when not every seed has the same sign.
    Scores are averaged per image over the seeds that both networks have before the test.
    """
    labs = available(labs, better, worse)
    a = [scores(lab, better, attack) for lab in labs]
    b = [scores(lab, worse, attack) for lab in labs]
    difference = evaluation.paired(sum(a) / len(a), sum(b) / len(b))
    signs = {np.sign(float((x - y).mean())) for x, y in zip(a, b, strict=True)}
    # ranks and means can disagree on a skewed difference; a verdict needs both
    clear = difference.p < SIGNIFICANCE and (difference.low > 0 or difference.high < 0)
    winner = better if difference.value > 0 else worse
    weak = [name for name in (better, worse) if clean(labs, name)["undertrained"]]
    if weak:
        verdict, reason = "not decided", f"undertrained: {', '.join(weak)}"
    elif attack == "curve" and clear and abs(100 * difference.value) < LADDER_ERROR:
        verdict, reason = "not decided", "less than the ladder's own error"
    elif attack == "curve" and masked(labs, winner):
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
        "seeds": len(labs), "verdict": verdict, "reason": reason,
    }  # fmt: skip


def combine(verdicts: list[str]) -> str:
    """A claim of several pairs holds if all hold, fails if one fails, and is undecided otherwise."""
    if all(v == "holds" for v in verdicts):
        return "holds"
    return "does not hold" if "does not hold" in verdicts else "not decided"
