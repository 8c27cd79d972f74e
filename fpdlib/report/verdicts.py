"""How each kind of claim is tested: functions from outcomes to a `Verdict`.

'holds', 'does not hold', 'not decided' (an interval that contains the claimed bound) or 'not tested'. Intervals of accuracies are
over seeds and images; `seeds` says how many networks were trained of each. `claims` has what applies to all: stand-ins, undertrained
networks, too few seeds.
"""

import functools
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy import stats

from fpdlib import network, statistics, training
from fpdlib.errors import NotComputed
from fpdlib.network.spec import NetworkSpec
from fpdlib.paper import Paper, published, theorem
from fpdlib.paper.experiments import explored
from fpdlib.paper.profiles import Profile
from fpdlib.paper.suites import LINF, UNBOUNDED
from fpdlib.paper.variants import FAMILIES
from fpdlib.report.measures import by_seed, clean_by_seed, combine, compare, fails, gap, masked, seeds_of, versus, worst_of
from fpdlib.results.evidence import Evidence

PROTOCOLS = ("published", "current", "sound")
# Which of a table's columns a claim is about. Attacks without a radius leave what they failed to find, so they count only where the
# paper's own average is the claim.
COLUMNS = {"linf": LINF, "bounded": (*LINF, "l2-fgsm", "l2-pgd"), "all": (*LINF, "l2-fgsm", "l2-pgd", *UNBOUNDED)}
CLEAN_MARGIN = 1.0  # points of clean accuracy that count as nothing
# Table 1 orders its networks by the average of white-box and transfer. At eps 0.3 every worst case is 0, which orders nothing: the
# third column then has the area under the robustness curve.
TABLE1_MEASURES = {"published": "average", "current": "current", "sound": "radius"}
AREA = "points of area under the robustness curve"


@dataclass(frozen=True)
class Verdict:
    """One claim under one protocol: effect with its 95 % interval in `unit`, how many images and seeds, and why.

    smallest: the smallest difference that the comparison can find. size: where the paper states one, ours divided by it, with its
    interval; weaker: the prediction interval of that ratio lies below 1.
    """

    verdict: str
    effect: float = float("nan")
    low: float = float("nan")
    high: float = float("nan")
    unit: str = "points"
    n: int = 0
    seeds: int = 0
    reason: str = ""
    smallest: float = float("nan")
    size: float = float("nan")
    size_low: float = float("nan")
    size_high: float = float("nan")
    weaker: bool = False


NOT_TESTED = "not tested"


def decide(low: float, high: float, bound: float = 0.0) -> str:
    """holds if the interval is above the bound, does not hold if it is below."""
    return "holds" if low > bound else "does not hold" if high < bound else "not decided"


def keys(evidence: Evidence, where: str, protocol: str) -> list[str]:
    """The attacks of a setting that speak for a protocol: its columns (`COLUMNS`), none where the scale leaves one of them out, as an
    average over fewer is another number than the paper's; in the worst case, that of one norm, L-inf."""
    if protocol == "sound":
        return ["worst/linf"] if where != "all" else []  # the average of a table's columns has no worst case
    suite, norms = evidence.profile.attacks, evidence.profile.scale.norms
    here = {key.partition("/")[2] for key in suite}
    columns = [column for column in COLUMNS[where] if column in here or column.split("-")[0] not in norms]
    found = [f"{protocol}/{column}" for column in columns]
    return found if all(key in suite for key in found) else []


def order(evidence: Evidence, better: str, worse: str, where: str, protocol: str, printed: float = np.nan) -> Verdict:
    """Mean difference over the attacks of a protocol, seeds and images crossed; printed: the paper's, in points."""
    a, b = evidence.paper.variant(better), evidence.paper.variant(worse)
    if where == "transfer":
        attacks = [key for key in evidence.profile.attacks if key.startswith(protocol + "/")]
    else:
        attacks = keys(evidence, where, protocol)
    if not attacks:
        return Verdict(NOT_TESTED, reason="this protocol or scale does not have all of these attacks")
    if protocol == "sound" and "radius/linf" in evidence.profile.attacks:  # the measure of the headline claim
        return several([compare(evidence, a, b, "radius/linf")])
    # the average of a network needs all of its attacks
    seeds = [[seed for seed in seeds_of(evidence, name, attacks[0])
              if all(seed in seeds_of(evidence, name, attack) for attack in attacks)] for name in (a, b)]  # fmt: skip
    if not all(seeds):
        raise NotComputed("no seed has all of these attacks")
    first, second = ([by_seed(evidence, name, attack, of) for attack in attacks] for name, of in zip((a, b), seeds, strict=True))
    found = versus(statistics.average(first), statistics.average(second))
    verdict = judged(found, printed if protocol != "sound" else np.nan)
    if max(part.mean().max() for part in (*first, *second)) < 0.02:
        return replace(verdict, verdict="not decided", weaker=False, reason="both at the floor")
    floor = [max(one.mean().max(), two.mean().max()) < 0.02 for one, two in zip(first, second, strict=True)]
    failing = [attack for attack in attacks if fails(evidence, attack, a, b)]
    if all(low or attack in failing for low, attack in zip(floor, attacks, strict=True)):
        return replace(verdict, verdict="not decided", weaker=False, reason="every attack fails on both or breaks everything")
    hidden = [name for name, own in ((better, a), (worse, b)) if any(masked(evidence, own, attack) for attack in attacks)]
    words = [f"masked: {', '.join(hidden)}"] * bool(hidden)
    words += [f"in the average, but failing on both: {', '.join(one.partition('/')[2] for one in failing)}"] * bool(failing)
    return replace(verdict, reason="; ".join(words))


def judged(found: statistics.Comparison, printed: float = np.nan, bound: float = 0.0, reason: str = "") -> Verdict:
    """A comparison as a verdict in points; printed: the size that the paper states, in points."""
    effect, low, high = 100 * found.effect, 100 * found.low, 100 * found.high
    verdict = decide(low, high, bound)
    weaker = verdict == "holds" and 100 * found.prediction[1] < printed
    return Verdict(verdict, effect, low, high, "points", found.n, min(found.seeds), reason, 100 * found.smallest,
                   effect / printed, low / printed, high / printed, bool(weaker))  # fmt: skip


def table1_pair(evidence: Evidence, better: str, worse: str, where: str, protocol: str, printed: float = np.nan) -> Verdict:
    """One pair of Table 1 or of the text, under a measure that only `published` has (where), or under the protocol's; printed: the
    paper's difference, in points."""
    if where and protocol != "published":
        return Verdict(NOT_TESTED, reason=f"the measure {where} exists as published alone")
    # beside Table 1 no transfers are computed
    alone = "transfer-oracle" not in evidence.profile.attacks
    measure = where or ("white-box" if protocol == "published" and alone else TABLE1_MEASURES[protocol])
    found = several([compare(evidence, better, worse, measure)])
    stated = np.nan if protocol == "sound" else printed
    sized = judged(versus(by_seed(evidence, better, measure), by_seed(evidence, worse, measure)), stated)
    return replace(found, size=sized.size, size_low=sized.size_low, size_high=sized.size_high,
                   weaker=sized.weaker and found.verdict == "holds")  # fmt: skip


def exploration(evidence: Evidence, section: str, protocol: str) -> Verdict:
    """All pairs of one of Table 1's explorations; the effect is the smallest difference among them."""
    return several([compare(evidence, a, b, TABLE1_MEASURES[protocol]) for a, b in explored(section).pairs])


def several(pairs: list[dict]) -> Verdict:
    """One verdict on several pairs that a claim asserts together: the numbers of the weakest of those that decide it, every pair's
    reason."""
    verdict = combine([pair["verdict"] for pair in pairs])
    deciding = [pair for pair in pairs if pair["verdict"] == verdict] or pairs
    least = min(deciding, key=lambda pair: pair["difference"])
    words = [f"{p['better']} over {p['worse']}: {p['reason'] or p['verdict']}" for p in pairs]
    reason = pairs[0]["reason"] if len(pairs) == 1 else "; ".join(words)
    unit = AREA if least["measure"].startswith("radius") else "points"
    return Verdict(verdict, least["difference"], least["low"], least["high"], unit, least["n"],
                   min(pair["seeds"] for pair in deciding), reason, least["smallest"])  # fmt: skip


def clean_accuracy(evidence: Evidence, better: str, worse: str, bound: float = -CLEAN_MARGIN) -> Verdict:
    """Whether the clean accuracy of the first less that of the second, on the same images, lies above a bound in points: it is at
    most one point below."""
    return judged(versus(*(clean_by_seed(evidence, evidence.paper.variant(name)) for name in (better, worse))), bound=bound)


def attacks_fail(evidence: Evidence, name: str) -> Verdict:
    """Which published attacks leave clearly more than the worst case on the same images; refuted if each leaves at most a point
    more. Attacks whose worst case has fewer seeds than others' describe, and are left out."""
    own, suite = evidence.paper.variant(name), evidence.profile.attacks
    columns = [key for key in suite if key.startswith("published/") and worst_of(evidence, key)]
    told = {key: by_seed(evidence, own, key) for key in columns}
    worst = {key: by_seed(evidence, own, worst_of(evidence, key)) for key in columns}
    shared = {key: sum(seed in worst[key] for seed in told[key]) for key in columns}
    columns = [key for key in columns if shared[key] == max(shared.values())]
    found = [key.partition("/")[2] for key in columns if masked(evidence, own, key)]
    close = all(gap(told[key], worst[key]).high < 0.01 for key in columns)
    return Verdict("holds" if found else "does not hold" if close else "not decided", len(found), len(found), len(found),
                   f"of {len(columns)} published attacks", len(columns), max(shared.values()), ", ".join(found))  # fmt: skip


def training_cost(paper: Paper, cheap: str, dear: str, setting: str = "") -> Verdict:
    """Multiply-accumulates of the second network's training over the first's, as the paper trains (profile `paper`); counted.
    setting: whose recipe the second has; a network that is no FPD network there is counted as the plain CNN."""
    full, variants, total = paper.profiles["paper"], paper.variants, []
    for name, here in ((paper.variant(cheap), full), (paper.variant(dear), paper.setting(full, setting) if setting else full)):
        spent, last = 0.0, variants[name].recipe(here)
        while name:
            recipe, spec = variants[name].recipe(here), variants[name].spec(full)
            spec = spec if isinstance(spec, NetworkSpec) else variants[paper.variant("O")].spec(full)
            spent += recipe.epochs * training.training_macs(recipe, network.cost(spec))
            name = recipe.begin
        total.append(spent)
        steps = f" with {last.adversary.steps} attack step{'s' * (last.adversary.steps > 1)}" if last.adversary else ""
        reason = f"counted for the paper's ResNet-101; {last.epochs} epochs{steps}" + ", after O's" * bool(last.begin)
    ratio = total[1] / total[0]
    return Verdict(
        "holds" if ratio > 1 else "does not hold", ratio, ratio, ratio, f"times {cheap}'s multiply-accumulates", 1, 0, reason
    )


def masking(evidence: Evidence, name: str, control: str) -> Verdict:
    """How much of the L-inf accuracy that the published attacks leave falls to the sound ones, against the same of a control.

    Any weak attack leaves more than a strong one; masked gradients show as a larger gap than that of a network without FPD, on the
    same images. Positive: the gap of `name` is the larger one.
    """
    gaps, left = [], []
    for one in (evidence.paper.variant(name), evidence.paper.variant(control)):
        worst = by_seed(evidence, one, "worst/linf")
        told = [by_seed(evidence, one, attack).reindex(worst.index) for attack in keys(evidence, "linf", "published")]
        seeds = [seed for seed in worst if all(seed in frame for frame in told)]
        if not seeds:
            raise NotComputed("no seed has all of these attacks")
        published = functools.reduce(np.minimum, [frame[seeds] for frame in told]).dropna()
        gaps.append(published - worst.loc[published.index, seeds])
        left.append(published.to_numpy().mean())
    reason = f"gaps {100 * gaps[0].to_numpy().mean():.1f} and {100 * gaps[1].to_numpy().mean():.1f}"
    found = judged(versus(*gaps), reason=reason)
    if left[0] < 0.02:  # a gap that cannot be there is no honesty
        reason = f"the published attacks leave nothing of {name}, so there is no gap; {reason}"
        return replace(found, verdict="not decided", reason=reason)
    return replace(found, verdict="does not hold" if found.low > 0 else "holds" if found.high < 1 else "not decided")


def attack_cost(evidence: Evidence, slow: str, fast: str) -> Verdict:
    """Geometric mean over the published attacks of the ratio of the multiply-accumulates that they take on two networks, and the
    paper's ratio of minutes beside it.

    Counted, not timed, so that it does not depend on the machine; `tables.times` has the seconds.
    """
    attacks, spent = tuple(keys(evidence, "all", "published")), []
    if not attacks:
        return Verdict(NOT_TESTED, reason="this scale does not have all of these attacks")
    seeds = evidence.complete(evidence.paper.variant(slow), evidence.paper.variant(fast), attacks=attacks)
    for name in (evidence.paper.variant(slow), evidence.paper.variant(fast)):
        macs = network.cost(evidence.result(name, "", seeds[0]).spec)
        weights = macs["forward_macs"], macs["pixel_macs"]
        counts = [[evidence.meta(name, attack, seed)["counts"] for attack in attacks] for seed in seeds]
        spent.append(np.array([[c["forwards"] * weights[0] + c["backwards"] * weights[1] for c in of] for of in counts]))
    if not all(one.mean(0).all() for one in spent):
        return Verdict("not decided", reason="an attack found no correctly classified image")
    ratios, k = np.log(spent[0].mean(0) / spent[1].mean(0)), len(seeds)
    mean = ratios.mean()
    half = stats.t.ppf(0.975, len(ratios) - 1) * ratios.std(ddof=1) / np.sqrt(len(ratios))
    effect, low, high = (float(one) for one in np.exp((mean, mean - half, mean + half)))
    printed = published.load(2).query("metric == 'average' and attack == 'time_min'").set_index("network")["value"]
    then = printed[slow] / printed[fast]
    each = np.log(np.maximum(spent[0], 1) / np.maximum(spent[1], 1)).mean(1)  # of each pair of networks
    spread = stats.t.ppf(0.975, k - 1) * each.std(ddof=1) * np.sqrt(1 + 1 / k) if k > 1 else np.inf
    verdict = decide(low, high, 1.0)
    return Verdict(verdict, effect, low, high, "times the multiply-accumulates", len(ratios), len(seeds),
                   f"n counts attacks; the paper: {then:.2g} times the minutes", size=effect / then, size_low=low / then,
                   size_high=high / then, weaker=bool(verdict == "holds" and np.exp(each.mean() + spread) < then))  # fmt: skip


def adaptive(evidence: Evidence, name: str, better: str, worse: str) -> Verdict:
    """How much more of the images stand under one of the attacks made for FPD than under another (see `studies.Adaptive`). It
    describes: epsilon and attack were chosen when what one of the networks keeps under alike ones was known."""
    own, left = evidence.paper.variant(name), []
    seeds = [seed for seed in evidence.planned_seeds if evidence.has(own, "adaptive", seed)]
    if not seeds:
        raise NotComputed("the study of attacks made for FPD")
    frames = {seed: evidence.study(own, "adaptive", seed)["study"] for seed in seeds}
    for attack in (better, worse):
        columns = {seed: one[one["attack"] == attack].set_index("index")["stands"].astype(float) for seed, one in frames.items()}
        left.append(pd.concat(columns, axis=1, join="inner"))
        if left[-1].empty:
            raise NotComputed(f"{attack} on images that every network saw")
    kept = " and ".join(f"{100 * one.to_numpy().mean():.0f} %" for one in left)
    reason = f"describes, no verdict: chosen after results were seen; {better} and {worse}, each alone, leave {kept}"
    return replace(judged(versus(*left), reason=reason), verdict="not decided")


def between_attacks(evidence: Evidence, name: str, known: str, other: str) -> Verdict:
    """How much accuracy a network keeps under one attack and loses under another of the same radius, on the same images."""
    return judged(gap(by_seed(evidence, evidence.paper.variant(name), known), by_seed(evidence, evidence.paper.variant(name), other)))


def paired(a: pd.Series, b: pd.Series, unit: str) -> Verdict:
    """Mean difference on the same images of one network each, with its 95 % bootstrap interval."""
    difference = (a - b).to_numpy(dtype=float)
    means = np.random.default_rng(0).choice(difference, (2000, len(difference))).mean(axis=1)
    low, high = map(float, np.quantile(means, (0.025, 0.975)))
    return Verdict(decide(low, high), float(difference.mean()), low, high, unit, len(difference), 1)


def restored(evidence: Evidence, better: str, worse: str) -> Verdict:
    """Mean difference in PSNR (dB) between two pairs of F's pictures, on the same images."""
    frame = evidence.study("F", "restoration")["restoration"]
    by = frame.pivot(index="index", columns="pair", values="psnr")
    return paired(by[better], by[worse], "dB")


def smoother(evidence: Evidence, better: str, worse: str) -> Verdict:
    """Paired mean difference of how much the gradient turns; less is better."""
    a, b = (evidence.study(name, "smoothness")["study"].set_index("index")["turn"] for name in (better, worse))
    return paired(-a, -b, "less turning of the gradient")


def stable(evidence: Evidence, better: str, worse: str, delta: float = 0.01) -> Verdict:
    """Paired mean difference of the share of answers that stay within delta."""
    frames = (evidence.study(name, "neighbourhood")["study"] for name in (better, worse))
    a, b = (frame[np.isclose(frame["delta"], delta)].set_index("index")["stable"] for frame in frames)
    return paired(a, b, "share of stable answers")


def filtered(evidence: Evidence, name: str) -> Verdict:
    """What a threshold on the restoration error, which refuses 10 % of the clean images, gains: on clean images accuracy among those
    that are kept; of those that an attack broke, knowing the filter or not, how many more are refused than of clean ones. Holds if
    all three do; the numbers are of the smallest gain. Images are drawn again for the intervals."""
    frame = evidence.study(evidence.paper.variant(name), "filter")["study"]
    wide = frame.pivot(index="index", columns="images")
    errors, right = wide["error"], {kind: wide["right"][kind].to_numpy(bool) for kind in wide["right"]}
    refused = {kind: (errors[kind] > errors["clean"].quantile(0.9)).to_numpy() for kind in errors}
    kinds = ["clean", *(kind for kind in errors if kind != "clean")]

    def gains(chosen: np.ndarray) -> np.ndarray:
        found = []
        for kind in kinds:
            out, hit = refused[kind][chosen], right[kind][chosen]
            of = ~out if kind == "clean" else ~hit
            share = ((hit if kind == "clean" else out) & of).sum(-1) / np.maximum(of.sum(-1), 1)
            found.append(share - (hit if kind == "clean" else refused["clean"][chosen]).mean(-1))
        return 100 * np.stack(found, -1)

    effects, count = gains(np.arange(len(wide))), len(wide)
    lows, highs = np.quantile(gains(np.random.default_rng(0).integers(0, count, (2000, count))), (0.025, 0.975), axis=0)
    told = [f"clean {effects[0]:+.1f}"]
    for kind in kinds[1:]:
        broken = ~right[kind]
        if broken.any():
            area = stats.mannwhitneyu(errors[kind][broken], errors["clean"]).statistic / broken.sum() / count
            shares = 100 * broken.mean(), 100 * refused[kind][broken].mean(), 100 * (broken & ~refused[kind]).mean()
            told.append(
                f"{kind} {{:.0f}} % broken, {{:.0f}} % of them refused (AUC {area:.2f}), {{:.0f}} % get through".format(*shares)
            )
    verdict = combine([decide(low, high) for low, high in zip(lows, highs, strict=True)])
    numbers = (float(one[np.argmin(effects)]) for one in (effects, lows, highs))
    return Verdict(verdict, *numbers, "points", count, 1, "; ".join(told))


def more_accurate(evidence: Evidence, better: str, worse: str) -> Verdict:
    """How much nearer to the clean test images the first network's restoration is, in decibels; networks are the sample (Welch)."""
    a, b = (
        [evidence.meta(name, "", seed)["test"]["mse"] for seed in evidence.complete(name, attacks=())] for name in (better, worse)
    )
    if min(len(a), len(b)) < 2:
        raise NotComputed("two networks of each")
    a, b = -10 * np.log10(a), -10 * np.log10(b)
    found = stats.ttest_ind(a, b, equal_var=False)
    low, high = found.confidence_interval()
    reason = f"{a.mean():.1f} and {b.mean():.1f} dB"
    return Verdict(decide(low, high), a.mean() - b.mean(), low, high, "dB", 0, min(len(a), len(b)), reason)


def squeezed(networks: int = 300) -> Verdict:
    """Whether tanh makes the variation V of the outputs smaller (Theorem 1), on random networks at every scale of their logits."""
    frame = theorem.tanh_effect(networks)
    worst = float((frame["mean V with tanh"] / frame["mean V without tanh"]).max())
    return Verdict("holds" if worst < 1 else "does not hold", worst, worst, worst, "times the variation", networks, 0,
                   "of random networks; gradients shrink with it, which the logits before tanh keep")  # fmt: skip


def families(evidence: Evidence, protocol: str) -> Verdict:
    """F over O in each of five other CNN families; holds only if it does in all."""
    measure = "white-box" if protocol == "published" else TABLE1_MEASURES[protocol]
    return several([compare(evidence, f"{family} F", f"{family} O", measure) for family in FAMILIES])


def less(paper: Paper, profile: Profile, first: str, second: str, what: str) -> Verdict:
    """What the first network has more than the second, 'parameters' or 'forward_macs'; holds if it is none, or less."""
    counts = [network.cost(paper.variants[name].spec(profile))[what] for name in (first, second)]
    difference = counts[0] - counts[1]
    return Verdict("holds" if difference <= 0 else "does not hold", difference, difference, difference,
                   what.replace("forward_macs", "multiply-accumulates forward"), 1, 0)  # fmt: skip


def theorem_holds(networks: int = 2000) -> Verdict:
    """As printed; the form of eta for tanh is another. No interval: the share depends on which families of networks are looked at."""
    found = theorem.survey(networks, trials={name: trial for name, trial in theorem.TRIALS.items() if not trial.squeeze})
    counts, total = found["violations as printed"], int(found["n"].sum())
    share = 100 * counts.sum() / total
    return Verdict("does not hold" if counts.any() else "holds", share, share, share, "% of random networks violate it", total, 0,
                   f"{counts.min()} to {counts.max()} of {networks} in each of {len(counts)} families")  # fmt: skip


def lipschitz() -> Verdict:
    """The largest slope of tanh, measured: its Lipschitz constant, by which the theorem's eta is multiplied."""
    z = np.linspace(-10, 10, 2_000_001)
    slope = float((np.diff(np.tanh(z)) / np.diff(z)).max())
    return Verdict("holds" if slope < 1 - 1e-6 else "does not hold", slope, slope, slope, "Lipschitz constant", len(z), 0,
                   "a constant of 1 shrinks nothing")  # fmt: skip


def arithmetic(table: str, first: str, second: str, claimed: str) -> Verdict:
    """A printed average, or difference of averages if `second`, against the one recomputed from the printed cells; claimed: the
    paper's number, or '' if it says no more than that the first is the larger one."""
    averages = published.recomputed_averages()
    rows = averages[(averages["table"] == table) & (averages["of"] != "time_min")]
    by = rows.groupby("network")["recomputed"].first()
    value = by[first] - (by[second] if second else 0.0)
    # "around 32" allows half a point, a printed average half of its last digit
    agrees = abs(value - float(claimed)) <= (0.5 if second else 0.005) if claimed else value > 0
    return Verdict("holds" if agrees else "does not hold", value, value, value, "points, recomputed", 1, 0,
                   f"printed: {float(claimed):g}" if claimed else "from the printed numbers alone")  # fmt: skip


def printed_clean(table: str, first: str, second: str) -> Verdict:
    """A difference of two printed clean accuracies."""
    of = published.load(table).query("attack == 'clean' and metric == 'accuracy'").groupby("network")["value"].first()
    value = of[first] - of[second]
    return Verdict(
        decide(value, value, -CLEAN_MARGIN), value, value, value, "points, printed", 1, 0, "from the printed numbers alone"
    )
