"""From per-example outcomes to measurements and decided comparisons: scores, means over seeds, tests (in percent)."""

import functools
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd

from fpdlib import evaluation, statistics
from fpdlib.errors import NotComputed
from fpdlib.results.evidence import Evidence

SIGNIFICANCE = 0.05
FEW = f"fewer than {statistics.SEEDS} seeds"
WITHIN = 1 + 1e-5  # of a float32 epsilon
FLOOR = 0.05  # of clean accuracy below the plain network's of the same budget, from which on a network is undertrained
FAILED = 0.9  # of the clean accuracy: what an attack that fails leaves


def remembered(function: Callable) -> Callable:
    """A function of evidence, computed once: every table, claim and figure asks for the same ones."""
    return functools.wraps(function)(lambda evidence, *arguments: evidence.remember(function, *arguments))


def planned(evidence: Evidence, name: str, measure: str, seed: int) -> tuple[str, ...]:
    """The attacks that a measure of a network takes into account.

    `average`: Table 1's last column, the mean of white-box and transfer. `worst...` and `radius...`: every attack that is planned
    in the norm and space of the suite's sound one. Any other: itself.
    """
    if measure == "average":
        prefix = "published/" * ("white-box" not in evidence.profile.attacks)
        return f"{prefix}white-box", f"{prefix}transfer-oracle"
    if not measure.startswith(("worst", "radius")):
        return (measure,)
    suite, base = evidence.profile.attacks, measure.replace("worst", "sound", 1)
    like = suite[base]
    alike = (key for key, spec in suite.items() if (spec.norm, spec.space) == (like.norm, like.space))
    return (base, *(key for key in alike if key != base and evidence.planned(name, key, seed)))


def parts(evidence: Evidence, name: str, measure: str, seed: int) -> tuple[str, ...]:
    """The attacks whose outcomes a measure of a network rests on: `planned`; in the worst case, where the sound attack leaves no
    image of any seed, those that are there, as none could change it."""
    found = planned(evidence, name, measure, seed)
    if measure.startswith("worst") and evidence.has(name, found[0], seed) and leaves_nothing(evidence, name, found[0]):
        return tuple(key for key in found if evidence.has(name, key, seed))
    return found


@remembered
def leaves_nothing(evidence: Evidence, name: str, attack: str) -> bool:
    """Whether an attack leaves no image of any network that it was made on: of all seeds, so that none is chosen by its outcome."""
    here = evidence.seeds(name, attacks=(attack,))
    return bool(here) and not any(evaluation.robust(evidence.outcome(name, attack, seed)).iloc[:, -1].any() for seed in here)


@remembered
def scores(evidence: Evidence, name: str, measure: str, seed: int, numbers_only: bool = False) -> pd.Series:
    """Per image: robust or not under an attack, 1.0 or 0.0; of `average` their mean.

    `worst...`: robust only if nothing that any attack of that norm and space found lies within its epsilon. `radius...`: the
    distance of the nearest find, as a share of the paper's epsilon and at most 1, so that the mean is the area under the
    robustness curve from 0 to that epsilon. The images are those of the sound or radius attack.
    numbers_only: breaks that rest on an output which is not a number do not count (see `evaluation.robust`).
    """
    attacks, suite = parts(evidence, name, measure, seed), evidence.profile.attacks
    if measure == "average":
        return sum(scores(evidence, name, part, seed, numbers_only) for part in attacks) / 2
    if attacks == (measure,) and not measure.startswith("radius"):
        return evaluation.robust(evidence.outcome(name, measure, seed), numbers_only).iloc[:, -1].astype(float)
    spec = suite[attacks[0]]
    finds = [evaluation.radii(evidence.outcome(name, attack, seed), spec.norm, numbers_only) for attack in attacks]
    nearest = pd.concat(finds, axis=1).reindex(finds[0].index).min(axis=1)
    if measure.startswith("worst"):
        return (nearest > spec.eps[-1] * WITHIN).astype(float)
    return nearest.clip(upper=reach(evidence, measure)) / reach(evidence, measure)


def reach(evidence: Evidence, measure: str = "radius") -> float:
    """The epsilon up to which radii count: that of the suite's sound attack."""
    return evidence.profile.attacks[measure.replace("radius", "sound", 1)].eps[-1]


def seeds_of(evidence: Evidence, name: str, measure: str) -> list[int]:
    """The seeds that have what a measure needs. Raises NotComputed if none has."""
    if measure.startswith(("worst", "radius")) and measure.replace("worst", "sound", 1) not in evidence.profile.attacks:
        raise NotComputed(f"{evidence.setting} has no {measure}")
    found = [
        seed for seed in evidence.planned_seeds if evidence.seeds(name, attacks=parts(evidence, name, measure, seed)).count(seed)
    ]
    if not found:
        evidence.complete(name, attacks=parts(evidence, name, measure, evidence.planned_seeds[0]))  # says what is missing
    return found


def by_seed(evidence: Evidence, name: str, measure: str, seeds: list[int] | None = None) -> pd.DataFrame:
    """Scores (images, seeds) of a network; seeds: all that are there. NotComputed if none is."""
    seeds = seeds_of(evidence, name, measure) if seeds is None else seeds
    return pd.concat({seed: scores(evidence, name, measure, seed) for seed in seeds}, axis=1, join="inner")


def measurement(evidence: Evidence, name: str, measure: str, seeds: list[int] | None = None) -> dict:
    """Mean over seeds in percent, Wilson 95 % interval at n images (of the mean), and the range over seeds.

    `nan`: how much of what is missing to 100 % rests on outputs that are not numbers alone, in percent: for a 0/1 score the share
    of broken images that no attack broke otherwise. nan where nothing is broken, or attacks that could break otherwise are missing.
    `masked`: see there. Raises NotComputed if no seed is there.
    """
    seeds = seeds or seeds_of(evidence, name, measure)
    per_seed = [scores(evidence, name, measure, seed) for seed in seeds]
    values = [float(s.mean()) for s in per_seed]
    mean, n = float(np.mean(values)), len(per_seed[0])
    interval = evaluation.rate(np.arange(n) < round(mean * n))
    whole = all(evidence.has(name, part, seed) for seed in seeds for part in planned(evidence, name, measure, seed))
    otherwise = np.mean([scores(evidence, name, measure, seed, True).mean() for seed in seeds])
    return {
        "value": 100 * mean, "n": n, "low": 100 * interval.low, "high": 100 * interval.high,
        "nan": 100 * float(otherwise - mean) / (1 - mean) if mean < 1 and whole else float("nan"),
        "seeds": len(seeds), "seed_min": 100 * min(values), "seed_max": 100 * max(values), "masked": masked(evidence, name, measure),
    }  # fmt: skip


def clean_by_seed(evidence: Evidence, name: str) -> pd.DataFrame:
    """Whether the clean image is classified correctly (images, seeds), on the images of the suite's largest attack on the network's
    own inputs."""
    suite = evidence.profile.attacks
    seeded = (key for key, spec in suite.items() if spec.order == "seeded")
    most = max(seeded, key=lambda key: (suite[key].images, len(evidence.seeds(name, attacks=(key,)))))
    right = {}
    for seed in evidence.complete(name, attacks=(most,)):
        frame = evidence.outcome(name, most, seed).drop_duplicates("index").set_index("index").sort_index()
        right[seed] = (frame["clean_prediction"] == frame["label"]).astype(float)
    return pd.concat(right, axis=1, join="inner")


def plain(evidence: Evidence, name: str) -> tuple[Evidence, str]:
    """The plain network of the same budget, and the evidence that has it, whatever part of the plan was asked for; the network itself
    where there is none."""
    other = evidence.paper.plain(name)
    if other and other not in evidence.names:
        evidence = evidence.whole(evidence.setting).at(evidence.setting)
    return evidence, other if other in evidence.names else name


@remembered
def undertrained(evidence: Evidence, name: str) -> bool:
    """Whether the clean accuracy lies below the plain network's by more than 5 points: the whole paired 95 % interval of each trained
    network does, or of all together."""
    try:
        mine, other = clean_by_seed(evidence, name), clean_by_seed(*plain(evidence, name))
    except NotComputed:  # the plain network is not there
        return False
    pairs = [(mine.iloc[:, [number]], other.iloc[:, [number]]) for number in range(min(mine.shape[1], other.shape[1]))]
    each = all(versus(*pair).high < -FLOOR for pair in pairs)
    return each or (len(pairs) > 1 and bool(versus(mine, other).high < -FLOOR))


def clean(evidence: Evidence, name: str) -> dict:
    """Mean clean accuracy over the seeds that are there, of how many images, and whether the network is undertrained."""
    rates = [evidence.clean(name, seed) for seed in evidence.complete(name, attacks=())]
    return {"value": 100 * float(np.mean([r.value for r in rates])), "n": rates[0].n, "undertrained": undertrained(evidence, name)}


def worst_of(evidence: Evidence, measure: str) -> str:
    """The worst case that a measure is held against: over all attacks of its norm and space. '' for worst case and radius."""
    suite = evidence.profile.attacks
    if measure not in suite or measure.startswith(("radius", "sound")):
        return ""
    spec = suite[measure]
    alike = (key for key, one in suite.items()
             if key.startswith("sound") and one.surrogate is None and (one.norm, one.space) == (spec.norm, spec.space))  # fmt: skip
    return next((key.replace("sound", "worst", 1) for key in alike), "")


@remembered
def masked(evidence: Evidence, name: str, measure: str) -> bool:
    """Whether the worst case lies clearly below what an attack leaves on the same images: it then fails to find what there is."""
    if measure == "average":
        return any(masked(evidence, name, part) for part in parts(evidence, name, measure, 0))
    if not (worst := worst_of(evidence, measure)):
        return False
    try:
        told, found = by_seed(evidence, name, measure), by_seed(evidence, name, worst)
    except NotComputed:
        return False
    both, seeds = told.index.intersection(found.index), [seed for seed in told if seed in found]
    if len(both) < 2 or not seeds:
        return False
    alone = [statistics.masked((told.loc[both, seed] > found.loc[both, seed]).to_numpy()) for seed in seeds]
    return all(alone) or (len(seeds) > 1 and gap(told, found).low > 0.01)


@remembered
def blind(evidence: Evidence, name: str, measure: str) -> bool:
    """Whether the search for radii misses what other attacks find: at the epsilon of the suite's sound attack it alone leaves
    clearly more than the worst case. Its radii are then upper bounds, which order nothing."""
    if not measure.startswith("radius"):
        return False
    bound, norm = reach(evidence, measure) * WITHIN, evidence.profile.attacks[measure].norm
    worst = by_seed(evidence, name, measure.replace("radius", "worst", 1), seeds_of(evidence, name, measure))
    alone = pd.concat({seed: evaluation.radii(evidence.outcome(name, measure, seed), norm) > bound for seed in worst}, axis=1)
    both = worst.index.intersection(alone.index)
    missed = alone.loc[both] & (worst.loc[both] == 0)
    return all(statistics.masked(missed[seed].to_numpy()) for seed in missed)


def gap(told: pd.DataFrame, found: pd.DataFrame) -> statistics.Comparison:
    """What one method's networks keep under one attack and lose under another: (images, seeds) twice, the same networks.
    NotComputed if they have no seed in common."""
    if not (seeds := [seed for seed in told if seed in found]):
        raise NotComputed("no network has both attacks")
    difference = (told[seeds] - found[seeds]).dropna()
    return replace(statistics.compare(difference.to_numpy().T, np.zeros((1, len(difference)))), seeds=(len(seeds), len(seeds)))


def versus(a: pd.DataFrame, b: pd.DataFrame) -> statistics.Comparison:
    """Scores of one method against those of another on the images that both have."""
    both = a.index.intersection(b.index)
    return statistics.compare(a.loc[both].to_numpy().T, b.loc[both].to_numpy().T)


def adjusted(evidence: Evidence, better: str, worse: str, measure: str, p: float) -> float:
    """p of a comparison; of a headline comparison adjusted for their number (Holm). The family is always all of the paper's,
    whatever part of the plan was asked for; what is not there or decides nothing counts with p = 1. With other seeds than the
    family's, p is multiplied by their number instead."""
    comparison, headlines = (evidence.setting, better, worse, measure), evidence.paper.headlines
    if comparison not in {line.comparison for line in headlines}:
        return p
    root = evidence.at(headlines[0].setting)
    known = vars(root).setdefault("family", {})
    if not known:
        whole, found = evidence.whole(*dict.fromkeys(line.setting for line in headlines)), {}
        for line in headlines:
            try:
                a, b = (by_seed(whole.at(line.setting), name, line.measure) for name in (line.better, line.worse))
                one = versus(a, b)
                found[line.comparison] = one.p if one.decides else 1.0
            except NotComputed:
                found[line.comparison] = 1.0
        known |= dict(zip(found, zip(found.values(), statistics.holm(list(found.values())), strict=True), strict=True))
    raw, holm = known[comparison]
    return holm if np.isclose(raw, p) else min(1.0, p * len(headlines))


def fails(evidence: Evidence, measure: str, *names: str) -> bool:
    """Whether an attack fails on all of these networks: it leaves nearly what is classified correctly, and the worst case does not.
    An average fails if each of its attacks does."""
    if measure == "average":
        return all(fails(evidence, part, *names) for part in parts(evidence, names[0], measure, 0))
    left = ((by_seed(evidence, name, measure).to_numpy().mean(), clean_by_seed(evidence, name).to_numpy().mean()) for name in names)
    return all(masked(evidence, name, measure) for name in names) and all(kept >= FAILED * right for kept, right in left)


def compare(evidence: Evidence, better: str, worse: str, measure: str) -> dict:
    """One asserted pair under one measure: the difference over seeds and images, and holds / does not hold / not decided.

    Undecided when a network is undertrained, with fewer than three seeds of one, when everything is at the floor, when the attack
    fails on both, when the search for radii is blind, when p >= 0.05 (Holm-adjusted for a headline comparison). `smallest`: the
    smallest difference that such a comparison can find.
    """
    a, b = by_seed(evidence, better, measure), by_seed(evidence, worse, measure)
    found = versus(a, b)
    p = adjusted(evidence, better, worse, measure, found.p)
    weak = [name for name in (better, worse) if undertrained(evidence, name)]
    if weak:
        reason = f"undertrained: {', '.join(weak)}"
    elif not measure.startswith("radius") and max(a.mean().max(), b.mean().max()) < 0.02:
        reason = "both at the floor"
    elif min(found.seeds) < statistics.SEEDS:
        reason = FEW
    elif not found.decides:
        reason = "everything at one bound"
    elif fails(evidence, measure, better, worse):
        reason = "the attack fails on both"
    elif missed := [name for name in (better, worse) if blind(evidence, name, measure)]:
        reason = f"the search for radii misses what other attacks find: {', '.join(missed)}"
    elif p >= SIGNIFICANCE:
        beside = f" (p = {found.p:.2g} alone, {p:.2g} among the headline claims)" if p != found.p else ""
        reason = f"no significant difference{beside}"
    else:
        reason = ""
    verdict = "not decided" if reason else "holds" if found.effect > 0 else "does not hold"
    hidden = [name for name in (better, worse) if masked(evidence, name, measure)]
    notes = [*(["opposite order"] * (verdict == "does not hold")), *([f"masked: {', '.join(hidden)}"] if hidden else [])]
    return {
        "better": better, "worse": worse, "measure": measure, "difference": 100 * found.effect, "low": 100 * found.low,
        "high": 100 * found.high, "p": found.p, "p_adjusted": p, "smallest": 100 * found.smallest, "n": found.n,
        "seeds": min(found.seeds), "verdict": verdict, "reason": reason or "; ".join(notes),
    }  # fmt: skip


def combine(verdicts: list[str]) -> str:
    """A claim of several pairs holds if all hold, fails if one fails, and is undecided otherwise."""
    if verdicts and all(v == "holds" for v in verdicts):
        return "holds"
    return "does not hold" if "does not hold" in verdicts else "not decided"
