"""Every claim of the paper with the comparison that tests it, and a verdict per protocol, computed from outcomes alone.

`published/claims.csv` names the claims, their place in the text and their test. A verdict is 'holds', 'does not hold', 'not decided'
(undertrained networks, an interval that contains 0, seeds that disagree) or 'not tested' (no such data here, or a protocol that does
not apply). A stand-in earns no verdict.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy import stats

from fpdlib import evaluation, network, published, studies, theorem, training
from fpdlib.errors import NotComputed
from fpdlib.experiments import FAMILIES, explored
from fpdlib.lab import Lab
from fpdlib.measures import available, clean, combine, compare, scores
from fpdlib.suites import NETWORKS

PROTOCOLS = ("published", "current", "sound")
LINF, L2 = ("linf-fgsm", "linf-pgd", "linf-cw"), ("l2-fgsm", "l2-pgd", "l2-cw", "l2-deepfool")
GAIN = 5.0  # points: a claimed gain that is smaller than this, with 95 % confidence, does not hold
CLEAN_MARGIN = 1.0  # points of clean accuracy that count as nothing
TABLE1_MEASURES = {"published": "white-box", "current": "current", "sound": "curve"}


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


def load() -> pd.DataFrame:
    return pd.read_csv(published.FOLDER / "claims.csv", keep_default_na=False)


def decide(effect: float, low: float, high: float, gain: float = 0.0) -> str:
    """holds if the interval is above 0; does not hold if it is below 0, or below the claimed gain; else not decided."""
    if low > 0:
        return "holds"
    return "does not hold" if high < gain or high < 0 else "not decided"


def variant(name: str) -> str:
    return NETWORKS.get(name, name)


def keys(lab: Lab, where: str, protocol: str) -> list[str]:
    """The attacks of a setting that speak for a protocol: its columns, or the worst case per norm."""
    wanted = {"all": LINF + L2, "linf": LINF, "l2": L2}[where]
    norms = {"all": ("linf", "l2"), "linf": ("linf",), "l2": ("l2",)}[where]
    if protocol == "sound":
        return [f"worst/{norm}" for norm in norms if f"sound/{norm}" in lab.profile.attacks]
    return [f"{protocol}/{column}" for column in wanted if f"{protocol}/{column}" in lab.profile.attacks]


def interval(differences: list[pd.Series]) -> tuple[float, float, float]:
    """Mean of per-image differences, in percent, over attacks, with its 95 % interval.

    The attacks share images, so their errors are taken as fully correlated. Where all images agree the sample has no variance,
    and the rule of three (3 / n) takes its place.
    """
    effect = 100 * np.mean([d.mean() for d in differences])
    half = 100 * np.mean([max(1.96 * d.std(ddof=1) / np.sqrt(len(d)), 3 / len(d)) for d in differences])
    return effect, effect - half, effect + half


def order(labs: list[Lab], better: str, worse: str, where: str, protocol: str, gain: float = 0.0) -> Verdict:
    """Mean paired difference over the attacks of a protocol, on the same images per attack."""
    a, b = variant(better), variant(worse)
    labs = available(labs, a, b)
    attacks = transfer_keys(labs[0], protocol) if where == "transfer" else keys(labs[0], where, protocol)
    if not attacks:
        return Verdict(NOT_TESTED, reason="no such attack in this protocol")
    first = [[scores(lab, a, attack) for lab in labs] for attack in attacks]
    second = [[scores(lab, b, attack) for lab in labs] for attack in attacks]
    differences = [sum(x) / len(x) - sum(y) / len(y) for x, y in zip(first, second, strict=True)]
    effect, low, high = interval(differences)
    verdict, reason = decide(effect, low, high, gain), ""
    per_seed = [sum(x[i].mean() - y[i].mean() for x, y in zip(first, second, strict=True)) for i in range(len(labs))]
    if len(set(np.sign(per_seed))) > 1 and verdict == "holds":
        verdict, reason = "not decided", "seeds disagree"
    elif max(s.mean() for group in (*first, *second) for s in group) < 0.02:  # nothing to order; but no gain either
        verdict, reason = "does not hold" if gain and high < gain else "not decided", "both at the floor"
    return Verdict(verdict, effect, low, high, "points", min(map(len, differences)), len(labs), reason)


def transfer_keys(lab: Lab, protocol: str) -> list[str]:
    return [key for key in lab.profile.attacks if key.startswith(protocol + "/")]


def table1_pair(labs: list[Lab], better: str, worse: str, where: str, protocol: str) -> Verdict:
    """One pair of Table 1 or of the text, on the measure of the protocol (a transfer only in `published`)."""
    if where == "transfer-oracle" and protocol != "published":
        return Verdict(NOT_TESTED, reason="a transfer has no other protocol")
    found = compare(labs, better, worse, where if where == "transfer-oracle" else TABLE1_MEASURES[protocol])
    return Verdict(found["verdict"], found["difference"], found["low"], found["high"], "points", found["n"], found["seeds"],
                   found["reason"])  # fmt: skip


def exploration(labs: list[Lab], section: str, protocol: str) -> Verdict:
    """All pairs of one of Table 1's explorations; the effect is the smallest difference among them."""
    if protocol == "current":
        labs = [lab.at("protocols") for lab in labs]
    pairs = [compare(labs, a, b, TABLE1_MEASURES[protocol]) for a, b in explored(section).pairs]
    least = min(pairs, key=lambda pair: pair["difference"])
    reasons = dict.fromkeys(pair["reason"] for pair in pairs if pair["reason"])
    return Verdict(combine([pair["verdict"] for pair in pairs]), least["difference"], least["low"], least["high"], "points",
                   least["n"], least["seeds"], "; ".join(reasons))  # fmt: skip


def clean_accuracy(labs: list[Lab], better: str, worse: str) -> Verdict:
    """Whether the clean accuracy of the first is at most one point below that of the second (two proportions, all test images)."""
    a, b = variant(better), variant(worse)
    labs = available(labs, a, b)
    p, q = (np.mean([lab.clean(name).value for lab in labs]) for name in (a, b))
    n = labs[0].clean(a).n
    effect, half = 100 * (p - q), 100 * 1.96 * np.sqrt((p * (1 - p) + q * (1 - q)) / n)
    low, high = effect - half, effect + half
    verdict = "holds" if low > -CLEAN_MARGIN else "does not hold" if high < -CLEAN_MARGIN else "not decided"
    return Verdict(verdict, effect, low, high, "points", n, len(labs))


def training_cost(labs: list[Lab], cheap: str, dear: str) -> Verdict:
    """Training passes in multiply-accumulates per image and epoch, times epochs, of the second over the first; deterministic."""
    total = []
    for name in (variant(cheap), variant(dear)):
        lab, spent = labs[0], 0.0
        while name:
            recipe, macs = lab.recipe(name), network.cost(lab.spec(name))
            passes = training.passes(recipe)
            per_image = passes["forward"] * macs["forward_macs"] + passes["backward"] * macs["backward_macs"]
            spent += recipe.epochs * (recipe.images or len(lab.splits.train)) * per_image
            name = recipe.begin
        total.append(spent)
    ratio = total[1] / total[0]
    return Verdict("holds" if ratio > 1 else "does not hold", ratio, ratio, ratio, "times the multiply-accumulates", 1, 1,
                   "by this profile's epochs and attack steps")  # fmt: skip


def masking(labs: list[Lab], name: str) -> Verdict:
    """How much of the L-inf accuracy that the published attacks leave falls to the sound ones, on the same images."""
    labs = available(labs, variant(name))
    gaps, left = [], []
    for lab in labs:
        told = [scores(lab, variant(name), f"published/{column}") for column in LINF]
        both = pd.concat([*told, scores(lab, variant(name), "worst/linf")], axis=1).dropna()
        published_worst = both.iloc[:, :-1].min(axis=1)
        gaps.append(published_worst - both.iloc[:, -1])
        left.append(published_worst.mean())
    gap = sum(gaps) / len(gaps)
    effect, low, high = interval([gap])
    verdict = "does not hold" if low > 0 else "holds" if high < GAIN else "not decided"
    reason = "published leaves more than sound" if low > 0 else ""
    if max(left) < 0.02:
        verdict, reason = "not decided", "nothing is left to be masked"
    return Verdict(verdict, effect, low, high, "points", len(gap), len(labs), reason)


def attack_cost(labs: list[Lab], slow: str, fast: str, unit: str) -> Verdict:
    """Geometric mean over the published attacks of the ratio of what they take on two networks: 'multiply-accumulates' or 'passes'.

    Counted, not timed, so that it does not depend on the machine; `tables.times` has the seconds.
    """
    spent = []
    for name in (variant(slow), variant(fast)):
        macs = network.cost(labs[0].spec(name))
        weights = (macs["forward_macs"], macs["backward_macs"]) if unit == "multiply-accumulates" else (1, 1)
        counts = [labs[0].counts(name, attack) for attack in keys(labs[0], "all", "published")]
        spent.append(np.array([c["forwards"] * weights[0] + c["backwards"] * weights[1] for c in counts]))
    ratios = np.log(spent[0] / spent[1])
    mean = ratios.mean()
    half = stats.t.ppf(0.975, len(ratios) - 1) * ratios.std(ddof=1) / np.sqrt(len(ratios))
    effect, low, high = np.exp((mean, mean - half, mean + half))
    return Verdict(decide(mean, mean - half, mean + half), effect, low, high, f"times the {unit}", len(ratios), 1,
                   "n counts attacks")  # fmt: skip


def restored(labs: list[Lab], better: str, worse: str) -> Verdict:
    """Mean difference in PSNR (dB) between two pairs of F's pictures, on the same images."""
    frame, _ = studies.restored(labs[0], "F")
    by = frame.pivot(index="index", columns="pair", values="psnr")
    found = evaluation.paired(by[better], by[worse])
    return Verdict(decide(found.value, found.low, found.high), found.value, found.low, found.high, "dB", found.n, 1)


def studied(labs: list[Lab], better: str, worse: str, frame: Callable, column: str, sign: int, unit: str) -> Verdict:
    """Paired mean difference of a per-image study; sign -1 if less is better."""
    a, b = (frame(labs[0], name).set_index("index")[column] for name in (better, worse))
    found = evaluation.paired(sign * a, sign * b)
    return Verdict(decide(found.value, found.low, found.high), found.value, found.low, found.high, unit, found.n, 1)


def stable(lab: Lab, name: str) -> pd.DataFrame:
    frame = studies.neighbourhood(lab, name)
    return frame[np.isclose(frame["delta"], 0.01)]


def filtered(labs: list[Lab], name: str) -> Verdict:
    """Accuracy on clean images that a threshold on the restoration error keeps (90 %), minus that on all of them."""
    frame = studies.restored_errors(labs[0], variant(name))
    clean_images = frame[frame["images"] == "clean"].reset_index(drop=True)
    kept = clean_images["error"] <= clean_images["error"].quantile(0.9)
    rng, right = np.random.default_rng(0), clean_images["right"].to_numpy(float)
    draws = rng.integers(0, len(right), (2000, len(right)))
    mask = kept.to_numpy(float)[draws]
    gains = (right[draws] * mask).sum(1) / mask.sum(1) - right[draws].mean(1)
    effect = 100 * (right[kept].mean() - right.mean())
    low, high = 100 * np.quantile(gains, (0.025, 0.975))
    return Verdict(decide(effect, low, high), effect, low, high, "points", len(right), 1)


def families(labs: list[Lab], protocol: str) -> Verdict:
    """F over O in each of five other CNN families; holds only if it does in all."""
    pairs = {family: compare(labs, f"{family} F", f"{family} O", TABLE1_MEASURES[protocol]) for family in FAMILIES}
    least = min(pairs.values(), key=lambda pair: pair["difference"])
    words = "; ".join(f"{family} {pair['difference']:+.1f} {pair['verdict']}" for family, pair in pairs.items())
    return Verdict(combine([pair["verdict"] for pair in pairs.values()]), least["difference"], least["low"], least["high"],
                   "points", least["n"], least["seeds"], words)  # fmt: skip


def parameters(labs: list[Lab], more: str, less: str) -> Verdict:
    counts = [sum(p.numel() for p in network.build(labs[0].spec(name), 0).parameters()) for name in (more, less)]
    difference = counts[0] - counts[1]
    return Verdict(
        "holds" if difference == 0 else "does not hold", difference, difference, difference, "parameters", 1, 1
    )


def theorem_holds(networks: int = 2000) -> Verdict:
    found = theorem.survey(networks)
    count, total = int(found["violations as printed"].sum()), int(found["n"].sum())
    share = evaluation.rate(np.arange(total) < count)
    return Verdict("does not hold" if count else "holds", 100 * share.value, 100 * share.low, 100 * share.high,
                   "% of random networks violate it", total, 1, f"{count} violations")  # fmt: skip


def lipschitz() -> Verdict:
    """The largest slope of tanh, measured: its Lipschitz constant, by which the theorem's eta is multiplied."""
    z = np.linspace(-10, 10, 2_000_001)
    slope = float((np.diff(np.tanh(z)) / np.diff(z)).max())
    return Verdict("holds" if slope < 1 - 1e-6 else "does not hold", slope, slope, slope, "Lipschitz constant", len(z), 1,
                   "a constant of 1 shrinks nothing")  # fmt: skip


def arithmetic(table: str, first: str, second: str, claimed: float) -> Verdict:
    """A printed average, or difference of averages if `second`, against the one recomputed from the printed cells."""
    averages = published.recomputed_averages()
    rows = averages[(averages["table"] == table) & (averages["of"] != "time_min")]
    by = rows.groupby("network")["recomputed"].first()
    value = by[first] - (by[second] if second else 0.0)
    # "around 32" allows half a point, a printed average half of its last digit
    agrees = abs(value - claimed) <= (0.5 if second else 0.005)
    return Verdict(
        "holds" if agrees else "does not hold", value, value, value, "points, recomputed", 1, 1, f"printed: {claimed:g}"
    )


@dataclass(frozen=True)
class Test:
    """How a claim is tested. by_protocol: its verdict depends on the attacks. trained: the networks it compares, as a function of
    the claim; if one is undertrained, nothing is decided."""

    run: Callable[[list[Lab], pd.Series, str], Verdict]
    by_protocol: bool = False
    trained: Callable[[pd.Series], tuple[str, ...]] = lambda claim: ()


def compared(claim: pd.Series) -> tuple[str, ...]:
    return tuple(name for name in (claim["better"], claim["worse"]) if name)


TESTS = {
    "gain": Test(lambda labs, c, p: order(labs, c["better"], c["worse"], c["where"], p, GAIN), True, compared),
    "order": Test(lambda labs, c, p: order(labs, c["better"], c["worse"], c["where"], p), True, compared),
    "table1": Test(lambda labs, c, p: table1_pair(labs, c["better"], c["worse"], c["where"], p), True),
    "exploration": Test(lambda labs, c, p: exploration(labs, c["better"], p), True),
    "families": Test(lambda labs, c, p: families(labs, p), True),
    "clean": Test(lambda labs, c, p: clean_accuracy(labs, c["better"], c["worse"]), trained=compared),
    "cost": Test(lambda labs, c, p: training_cost(labs, c["better"], c["worse"])),
    "masking": Test(lambda labs, c, p: masking(labs, c["better"]), trained=compared),
    "time": Test(lambda labs, c, p: attack_cost(labs, c["better"], c["worse"], "multiply-accumulates")),
    "time-per-cost": Test(lambda labs, c, p: attack_cost(labs, c["better"], c["worse"], "passes")),
    "restoration": Test(lambda labs, c, p: restored(labs, c["better"], c["worse"]), trained=lambda c: ("F",)),
    "smoothness": Test(
        lambda labs, c, p: studied(labs, c["better"], c["worse"], studies.smoothness, "turn", -1,
                                   "less turning of the gradient"),
        trained=compared,
    ),
    "neighbourhood": Test(
        lambda labs, c, p: studied(labs, c["better"], c["worse"], stable, "stable", 1, "share of stable answers"),
        trained=compared,
    ),
    "parameters": Test(lambda labs, c, p: parameters(labs, c["better"], c["worse"])),
    "filter": Test(lambda labs, c, p: filtered(labs, c["better"]), trained=compared),
    "theorem": Test(lambda labs, c, p: theorem_holds()),
    "lipschitz": Test(lambda labs, c, p: lipschitz()),
    "arithmetic": Test(lambda labs, c, p: arithmetic(c["where"], c["better"], c["worse"], float(c["printed"]))),
}  # fmt: skip


def judge(claim: pd.Series, labs: list[Lab], protocol: str) -> Verdict:
    """The verdict of one claim under one protocol. No stand-in earns one, and no undertrained network."""
    test = TESTS[claim["test"]]
    here = [lab.at(claim["setting"]) for lab in labs] if claim["setting"] else []
    if here and here[0].profile.stand_in:
        return Verdict(NOT_TESTED, reason=f"stand-in data ({here[0].profile.dataset})")
    try:
        found = test.run(here, claim, protocol)
        weak = [name for name in test.trained(claim) if clean(here, variant(name))["undertrained"]]
    except NotComputed:
        return Verdict(NOT_TESTED, reason=f"not computed in this profile ({claim['setting']})")
    if weak and found.verdict != NOT_TESTED:
        return replace(found, verdict="not decided", reason=f"undertrained: {', '.join(weak)}")
    return found


def verify(labs: list[Lab], only: tuple[str, ...] = ()) -> pd.DataFrame:
    """A line per claim and protocol ('any' where no attack decides); computes nothing that the store has."""
    lines = []
    for _, claim in load().iterrows():
        if only and claim["id"] not in only:
            continue
        for protocol in PROTOCOLS if TESTS[claim["test"]].by_protocol else ("any",):
            found = judge(claim, labs, protocol)
            lines.append({"id": claim["id"], "place": claim["place"], "claim": claim["claim"], "protocol": protocol,
                          "profile": labs[0].profile.name, **vars(found)})  # fmt: skip
    return pd.DataFrame(lines)


def needed() -> tuple[str, ...]:
    """The settings whose outcomes the claims read."""
    return tuple(dict.fromkeys(["protocols", *(setting for setting in load()["setting"] if setting)]))


def readable(table: pd.DataFrame) -> pd.DataFrame:
    """One line per claim: its verdict under each protocol with effect and interval."""
    lines = []
    for (_, claim, place), group in table.groupby(["id", "claim", "place"], sort=False):
        line = {"claim": claim, "place": place}
        for protocol in PROTOCOLS:
            one = group[group["protocol"] == protocol]
            if not len(one) and protocol == "published":
                one = group[group["protocol"] == "any"]
            line[protocol] = _cell(one.iloc[0]) if len(one) else ""
        lines.append(line)
    return pd.DataFrame(lines)


def _cell(line: pd.Series) -> str:
    text = f"**{line['verdict']}**"
    if np.isfinite(line["effect"]):
        interval = "" if line["low"] == line["high"] else f" [{line['low']:.3g}, {line['high']:.3g}]"
        text += f" {line['effect']:+.3g}{interval} {line['unit']}, n={line['n']}"
    return text + (f" ({line['reason']})" if line["reason"] else "")
