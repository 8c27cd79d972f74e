"""How each kind of claim is tested: functions from outcomes to a `Verdict`.

'holds', 'does not hold', 'not decided' (an interval that contains the claimed bound, seeds that disagree) or 'not tested'. Intervals
are over images; `seeds` says how many networks were trained. `claims` has what applies to all: stand-ins, undertrained networks.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from fpdlib import evaluation, network, training
from fpdlib.paper import published, theorem
from fpdlib.paper.experiments import FAMILIES, VARIANTS, Profile, explored, get_profile
from fpdlib.paper.suites import NETWORKS, UNBOUNDED
from fpdlib.report.measures import combine, compare, scores
from fpdlib.results.evidence import Evidence

PROTOCOLS = ("published", "current", "sound")
LINF = ("linf-fgsm", "linf-pgd", "linf-cw")
# Which of a table's columns a claim is about. Attacks without a radius leave what they failed to find, so they count only where the
# paper's own average, or they themselves, are the claim.
COLUMNS = {
    "linf": LINF, "l2": ("l2-fgsm", "l2-pgd"), "bounded": (*LINF, "l2-fgsm", "l2-pgd"), "cw": ("linf-cw", "l2-cw"),
    "all": (*LINF, "l2-fgsm", "l2-pgd", *UNBOUNDED),
}  # fmt: skip
GAIN = 5.0  # points: what a claimed gain without a number has to reach; with one, half of it
CLEAN_MARGIN = 1.0  # points of clean accuracy that count as nothing
# Table 1 orders its networks by the average of white-box and transfer. At eps 0.3 every worst case is 0, which orders nothing: the
# third column then has the area under the PGD curve.
TABLE1_MEASURES = {"published": "average", "current": "current", "sound": "curve"}
AREA = "points of PGD-curve area"


@dataclass(frozen=True)
class Verdict:
    """One claim under one protocol: effect with its 95 % interval in `unit`, how many images and seeds, and why."""

    verdict: str
    effect: float = float("nan")
    low: float = float("nan")
    high: float = float("nan")
    unit: str = "points"
    n: int = 0
    seeds: int = 0
    reason: str = ""


NOT_TESTED = "not tested"


def decide(low: float, high: float, bound: float = 0.0) -> str:
    """holds if the interval is above the bound (0, or what a claimed gain has to reach), does not hold if it is below."""
    return "holds" if low > bound else "does not hold" if high < bound else "not decided"


def variant(name: str) -> str:
    return NETWORKS.get(name, name)


def keys(evidence: Evidence, where: str, protocol: str) -> list[str]:
    """The attacks of a setting that speak for a protocol: its columns (`COLUMNS`), or the worst case per norm."""
    columns = COLUMNS[where]
    if protocol == "sound":
        if where == "all":  # the average of a table's columns has no worst case
            return []
        norms = dict.fromkeys(column.split("-")[0] for column in columns)
        return [f"worst/{norm}" for norm in norms if f"sound/{norm}" in evidence.profile.attacks]
    return [f"{protocol}/{column}" for column in columns if f"{protocol}/{column}" in evidence.profile.attacks]


def interval(differences: list[pd.Series]) -> tuple[float, float, float]:
    """Mean of per-image differences, in percent, over attacks, with its 95 % interval.

    The attacks share images, so their errors are taken as fully correlated. Where all images agree the sample has no variance,
    and the rule of three (3 / n) takes its place.
    """
    effect = 100 * np.mean([d.mean() for d in differences])
    half = 100 * np.mean([max(1.96 * d.std(ddof=1) / np.sqrt(len(d)), 3 / len(d)) for d in differences])
    return effect, effect - half, effect + half


def order(evidence: Evidence, better: str, worse: str, where: str, protocol: str, gain: float = 0.0) -> Verdict:
    """Mean paired difference over the attacks of a protocol, on the same images per attack."""
    a, b = variant(better), variant(worse)
    seeds = [evidence.first(a, b), *evidence.seeds(a, b)[1:]]
    if where == "transfer":
        attacks = [key for key in evidence.profile.attacks if key.startswith(protocol + "/")]
    else:
        attacks = keys(evidence, where, protocol)
    if not attacks:
        return Verdict(NOT_TESTED, reason="no such attack in this protocol")
    first, second = ([[scores(evidence, name, attack, seed) for seed in seeds] for attack in attacks] for name in (a, b))
    differences = [sum(x) / len(x) - sum(y) / len(y) for x, y in zip(first, second, strict=True)]
    effect, low, high = interval(differences)
    verdict, reason = decide(low, high, gain), ""
    per_seed = [sum(x[i].mean() - y[i].mean() for x, y in zip(first, second, strict=True)) for i in range(len(seeds))]
    if len(set(np.sign(per_seed))) > 1 and not gain:
        verdict, reason = "not decided", "seeds disagree"
    elif max(s.mean() for group in (*first, *second) for s in group) < 0.02:  # nothing to order; but no gain either
        verdict, reason = verdict if gain else "not decided", "both at the floor"
    return Verdict(verdict, effect, low, high, "points", min(map(len, differences)), len(seeds), reason)


def area_or_points(protocol: str) -> str:
    return AREA if TABLE1_MEASURES[protocol] == "curve" else "points"


def table1_pair(evidence: Evidence, better: str, worse: str, where: str, protocol: str) -> Verdict:
    """One pair of Table 1 or of the text: a transfer, which only `published` has, or the measure of the protocol."""
    if where == "transfer-oracle" and protocol != "published":
        return Verdict(NOT_TESTED, reason="a transfer has no other protocol")
    # beside Table 1 no transfers are computed
    measure = where or ("white-box" if protocol == "published" else TABLE1_MEASURES[protocol])
    found = compare(evidence, better, worse, measure)
    return Verdict(found["verdict"], found["difference"], found["low"], found["high"], area_or_points(protocol), found["n"],
                   found["seeds"], found["reason"])  # fmt: skip


def exploration(evidence: Evidence, section: str, protocol: str) -> Verdict:
    """All pairs of one of Table 1's explorations; the effect is the smallest difference among them."""
    here = evidence.at("protocols") if protocol == "current" else evidence
    return several([compare(here, a, b, TABLE1_MEASURES[protocol]) for a, b in explored(section).pairs], protocol)


def several(pairs: list[dict], protocol: str) -> Verdict:
    """One verdict on several pairs that a claim asserts together: the weakest pair's numbers, every pair's reason."""
    least = min(pairs, key=lambda pair: pair["difference"])
    words = [f"{p['better']} over {p['worse']}: {p['reason'] or p['verdict']}" for p in pairs]
    reason = pairs[0]["reason"] if len(pairs) == 1 else "; ".join(words)
    return Verdict(combine([pair["verdict"] for pair in pairs]), least["difference"], least["low"], least["high"],
                   area_or_points(protocol), least["n"], least["seeds"], reason)  # fmt: skip


def clean_accuracy(evidence: Evidence, better: str, worse: str) -> Verdict:
    """Whether the clean accuracy of the first is at most one point below that of the second (two proportions, all test images)."""
    a, b = variant(better), variant(worse)
    seeds, n = evidence.seeds(a, b), evidence.clean(a, evidence.first(a, b)).n
    p, q = (np.mean([evidence.clean(name, seed).value for seed in seeds]) for name in (a, b))
    effect, half = 100 * (p - q), 100 * 1.96 * np.sqrt((p * (1 - p) + q * (1 - q)) / n)
    low, high = effect - half, effect + half
    return Verdict(decide(low, high, -CLEAN_MARGIN), effect, low, high, "points", n, len(seeds))


def training_cost(cheap: str, dear: str) -> Verdict:
    """Multiply-accumulates of the second network's training over the first's, as the paper trains (profile `paper`); counted."""
    paper, total = get_profile("paper"), []
    for name in (variant(cheap), variant(dear)):
        spent = 0.0
        while name:
            recipe = VARIANTS[name].recipe(paper)
            spent += recipe.epochs * training.training_macs(recipe, network.cost(VARIANTS[name].spec(paper)))
            name = recipe.begin
        total.append(spent)
    ratio = total[1] / total[0]
    return Verdict("holds" if ratio > 1 else "does not hold", ratio, ratio, ratio, "times the multiply-accumulates", 1, 0,
                   "counted for the paper's ResNet-101, epochs and 100 attack steps")  # fmt: skip


def masking(evidence: Evidence, name: str, control: str) -> Verdict:
    """How much of the L-inf accuracy that the published attacks leave falls to the sound ones, against the same of a control.

    Any weak attack leaves more than a strong one; masked gradients show as a larger gap than that of a network without FPD, on the
    same images. Positive: the gap of `name` is the larger one.
    """
    pair = variant(name), variant(control)
    seeds, gaps, left = [evidence.first(*pair), *evidence.seeds(*pair)[1:]], [], []
    for one in pair:
        per_seed = []
        for seed in seeds:
            told = [scores(evidence, one, f"published/{column}", seed) for column in LINF]
            both = pd.concat([*told, scores(evidence, one, "worst/linf", seed)], axis=1).dropna()
            published_worst = both.iloc[:, :-1].min(axis=1)
            per_seed.append(published_worst - both.iloc[:, -1])
            left.append(published_worst.mean())
        gaps.append(sum(per_seed) / len(per_seed))
    effect, low, high = interval([gaps[0] - gaps[1]])
    verdict = "does not hold" if low > 0 else "holds" if high < GAIN else "not decided"
    reason = f"gaps {100 * gaps[0].mean():.1f} and {100 * gaps[1].mean():.1f}"
    if max(left) < 0.02:
        verdict, reason = "not decided", "nothing is left to be masked"
    return Verdict(verdict, effect, low, high, "points", len(gaps[0]), len(seeds), reason)


def attack_cost(evidence: Evidence, slow: str, fast: str, unit: str) -> Verdict:
    """Geometric mean over the published attacks of the ratio of what they take on two networks: 'multiply-accumulates' or 'passes'.

    Counted, not timed, so that it does not depend on the machine; `tables.times` has the seconds.
    """
    seed, spent = evidence.first(variant(slow), variant(fast)), []
    for name in (variant(slow), variant(fast)):
        macs = network.cost(evidence.result(name, "", seed).spec)
        weights = (macs["forward_macs"], macs["pixel_macs"]) if unit == "multiply-accumulates" else (1, 1)
        counts = [evidence.meta(name, attack, seed)["counts"] for attack in keys(evidence, "all", "published")]
        spent.append(np.array([c["forwards"] * weights[0] + c["backwards"] * weights[1] for c in counts]))
    if not all(one.all() for one in spent):
        return Verdict("not decided", reason="an attack found no correctly classified image")
    ratios = np.log(spent[0] / spent[1])
    mean = ratios.mean()
    half = stats.t.ppf(0.975, len(ratios) - 1) * ratios.std(ddof=1) / np.sqrt(len(ratios))
    effect, low, high = np.exp((mean, mean - half, mean + half))
    return Verdict(decide(low, high, 1.0), effect, low, high, f"times the {unit}", len(ratios), 1, "n counts attacks")


def between_attacks(evidence: Evidence, name: str, known: str, other: str) -> Verdict:
    """How much accuracy a network keeps under one attack and loses under another of the same radius, on the same images."""
    name = variant(name)
    seeds = [evidence.first(name), *evidence.seeds(name)[1:]]
    pairs = [(scores(evidence, name, known, seed), scores(evidence, name, other, seed)) for seed in seeds]
    effect, low, high = interval([sum(a - b for a, b in pairs) / len(pairs)])
    return Verdict(decide(low, high, GAIN), effect, low, high, "points", len(pairs[0][0]), len(seeds))


def restored(evidence: Evidence, better: str, worse: str) -> Verdict:
    """Mean difference in PSNR (dB) between two pairs of F's pictures, on the same images."""
    frame = evidence.study("F", "restoration")["restoration"]
    by = frame.pivot(index="index", columns="pair", values="psnr")
    found = evaluation.paired(by[better], by[worse])
    return Verdict(decide(found.low, found.high), found.value, found.low, found.high, "dB", found.n, 1)


def smoother(evidence: Evidence, better: str, worse: str) -> Verdict:
    """Paired mean difference of how much the gradient turns; less is better."""
    a, b = (evidence.study(name, "smoothness")["study"].set_index("index")["turn"] for name in (better, worse))
    found = evaluation.paired(-a, -b)
    return Verdict(decide(found.low, found.high), found.value, found.low, found.high, "less turning of the gradient", found.n, 1)


def stable(evidence: Evidence, better: str, worse: str, delta: float = 0.01) -> Verdict:
    """Paired mean difference of the share of answers that stay within delta."""
    frames = (evidence.study(name, "neighbourhood")["study"] for name in (better, worse))
    a, b = (frame[np.isclose(frame["delta"], delta)].set_index("index")["stable"] for frame in frames)
    found = evaluation.paired(a, b)
    return Verdict(decide(found.low, found.high), found.value, found.low, found.high, "share of stable answers", found.n, 1)


def filtered(evidence: Evidence, name: str) -> Verdict:
    """Accuracy on clean and attacked images that pass a threshold on the restoration error (90 % of the clean ones), minus that on
    all of them; images are drawn again for the interval."""
    frame = evidence.study(variant(name), "filter")["study"]
    clean_errors = frame.loc[frame["images"] == "clean", "error"]
    wide = frame.assign(kept=frame["error"] <= clean_errors.quantile(0.9)).pivot(index="index", columns="images")
    right, kept = wide["right"].to_numpy(float), wide["kept"].to_numpy(float)
    draws = np.random.default_rng(0).integers(0, len(right), (2000, len(right)))

    def gain(chosen: np.ndarray) -> np.ndarray:
        return (right[chosen] * kept[chosen]).sum((-2, -1)) / kept[chosen].sum((-2, -1)) - right[chosen].mean((-2, -1))

    effect = 100 * gain(np.arange(len(right)))
    low, high = 100 * np.quantile(gain(draws), (0.025, 0.975))
    return Verdict(decide(low, high), effect, low, high, "points", len(right), 1, "clean and attacked images alike")


def families(evidence: Evidence, protocol: str) -> Verdict:
    """F over O in each of five other CNN families; holds only if it does in all."""
    measure = "white-box" if protocol == "published" else TABLE1_MEASURES[protocol]
    return several([compare(evidence, f"{family} F", f"{family} O", measure) for family in FAMILIES], protocol)


def less(profile: Profile, first: str, second: str, what: str) -> Verdict:
    """What the first network has more than the second, 'parameters' or 'forward_macs'; holds if it is none, or less."""
    counts = [network.cost(VARIANTS[name].spec(profile))[what] for name in (first, second)]
    difference = counts[0] - counts[1]
    return Verdict("holds" if difference <= 0 else "does not hold", difference, difference, difference,
                   what.replace("forward_macs", "multiply-accumulates forward"), 1, 0)  # fmt: skip


def theorem_holds(networks: int = 2000) -> Verdict:
    found = theorem.survey(networks)
    count, total = int(found["violations as printed"].sum()), int(found["n"].sum())
    share = evaluation.rate(np.arange(total) < count)
    return Verdict("does not hold" if count else "holds", 100 * share.value, 100 * share.low, 100 * share.high,
                   "% of random networks violate it", total, 0, f"{count} violations")  # fmt: skip


def lipschitz() -> Verdict:
    """The largest slope of tanh, measured: its Lipschitz constant, by which the theorem's eta is multiplied."""
    z = np.linspace(-10, 10, 2_000_001)
    slope = float((np.diff(np.tanh(z)) / np.diff(z)).max())
    return Verdict("holds" if slope < 1 - 1e-6 else "does not hold", slope, slope, slope, "Lipschitz constant", len(z), 0,
                   "a constant of 1 shrinks nothing")  # fmt: skip


def arithmetic(table: str, first: str, second: str, claimed: float) -> Verdict:
    """A printed average, or difference of averages if `second`, against the one recomputed from the printed cells."""
    averages = published.recomputed_averages()
    rows = averages[(averages["table"] == table) & (averages["of"] != "time_min")]
    by = rows.groupby("network")["recomputed"].first()
    value = by[first] - (by[second] if second else 0.0)
    # "around 32" allows half a point, a printed average half of its last digit
    agrees = abs(value - claimed) <= (0.5 if second else 0.005)
    return Verdict("holds" if agrees else "does not hold", value, value, value, "points, recomputed", 1, 0, f"printed: {claimed:g}")
