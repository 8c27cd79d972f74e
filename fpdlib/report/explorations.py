"""Paper-vs-ours tables, verdicts on the eight explorations, and figures; all from outcomes in the store.

Functions take a list of `Lab`s, one per seed of one profile. Accuracies are percent in tables.
"""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch

from fpdlib import attacks, evaluation
from fpdlib.attacks import adapters
from fpdlib.paper import experiments, published
from fpdlib.paper.experiments import EXPLORATIONS, TABLE1, Exploration
from fpdlib.report.measures import available, clean, combine, compare, masked, measurement
from fpdlib.results.lab import Lab

MEASURES = {
    "white-box": "white-box, published protocol",
    "transfer-oracle": "transfer, published protocol",
    "sound-pgd": "worst case per image over sound-pgd, the ladder and the published attacks",
    "curve": "area under the robustness curve (sound-pgd)",
}


# ---------------------------------------------------------------------------------------------- numbers


def table1(labs: list[Lab], rows=TABLE1) -> pd.DataFrame:
    """One line per row and reading: the paper's two numbers beside ours, tidy and unformatted (percent)."""
    lines = []
    for row in rows:
        for position, name in enumerate(row.variants):
            line = {
                "section": row.section, "row": row.name, "network": name,
                "reading": "main" if position == 0 else "other",
                "profile": labs[0].profile.name, "seeds": len(available(labs, name)),
                "paper_white_box": published.value(1, row.name, "white-box", row.section),
                "paper_black_box": published.value(1, row.name, "black-box", row.section),
            }  # fmt: skip
            accuracy = clean(labs, name)
            line |= {"clean": accuracy["value"], "clean_n": accuracy["n"], "undertrained": accuracy["undertrained"]}
            for attack in labs[0].profile.attacks:
                found = measurement(labs, name, attack)
                keys = ("value", "n", "low", "high", "nan", "seed_min", "seed_max")
                line |= {f"{attack}_{key}".replace("_value", ""): found[key] for key in keys}
            lines.append(line)
    return pd.DataFrame(lines)


def _cell(line: pd.Series, attack: str) -> str:
    text = f"{line[attack]:.1f} [{line[attack + '_low']:.0f}, {line[attack + '_high']:.0f}]"
    if line["seeds"] > 1:
        text += f" ({line[attack + '_seed_min']:.1f}-{line[attack + '_seed_max']:.1f})"
    return text


def percent(share: float) -> str:
    return "-" if np.isnan(share) else f"{share:.0f} %"


def readable(table: pd.DataFrame) -> pd.DataFrame:
    """`table1` for people: value [Wilson 95 %] (range over seeds), percent; rows of one section are indexed by row."""
    lines = []
    for _, line in table.iterrows():
        lines.append(
            {
                "section": line["section"],
                "row": line["row"],
                "network": line["network"] + ("" if line["reading"] == "main" else " *"),
                "seeds": line["seeds"],
                "clean": f"{line['clean']:.1f}" + (" undertrained" if line["undertrained"] else ""),
                "white-box: paper": f"{line['paper_white_box']:.2f}",
                "ours": _cell(line, "white-box"),
                "ours, sound": _cell(line, "sound-pgd"),
                "sound: breaks by NaN alone": percent(line["sound-pgd_nan"]),
                "black-box: paper": f"{line['paper_black_box']:.2f}",
                "ours, transfer": _cell(line, "transfer-oracle"),
                "curve area": f"{line['curve']:.1f}",
            }
        )
    frame = pd.DataFrame(lines)
    return frame if frame["section"].nunique() > 1 else frame.drop(columns="section").set_index("row")


def protocol_table(labs: list[Lab]) -> pd.DataFrame:
    """Table 1's white-box point in all three protocols, a line per network; labs of the setting 'protocols' (percent)."""
    lines = []
    for name in experiments.variants_of():
        line = {"network": name, "seeds": len(available(labs, name)), "clean": clean(labs, name)["value"]}
        line["undertrained"] = clean(labs, name)["undertrained"]
        for attack, words in (("white-box", "published"), ("current", "current"), ("sound", "sound")):
            found = measurement(labs, name, attack)
            line |= {
                words: found["value"],
                f"{words} low": found["low"],
                f"{words} high": found["high"],
                f"{words} n": found["n"],
                f"{words} nan": found["nan"],
            }
        lines.append(line)
    return pd.DataFrame(lines)


def caption(labs: list[Lab]) -> str:
    """What a reader has to know of a table's numbers, in one sentence."""
    profile, attacks = labs[0].profile, labs[0].profile.attacks
    per_network = {len(available(labs, name)) for name in experiments.variants_of()}
    seeds = ", ".join(str(lab.seed) for lab in labs) + (" (some networks fewer)" if len(per_network) > 1 else "")
    return (
        f"Profile {profile.name}: {profile.network.backbone} family at {profile.network.image_size} pixels, "
        f"{profile.dataset}, seeds {seeds}; accuracy in percent with Wilson 95 % intervals, n = "
        f"{attacks['white-box'].images} test images ({attacks['sound-pgd'].images} for sound), L-inf eps 0.3, "
        f"40 steps of 0.01; curve area over eps 0 to {attacks['curve'].eps[-1]}; * another reading of the row. {notes(profile)}"
    )


def notes(profile: experiments.Profile) -> str:
    """What a reader has to know of a profile's networks and of outputs that are not numbers."""
    drawn = {
        "released": "",
        "pytorch": "Convolutions beside the backbone start from PyTorch's default, not as released. ",
    }
    counted = {"confirmed": "counted as broken where float64 is wrong too on the same pixels",
               "broken": "counted as broken, not checked in float64"}[profile.overflow]  # fmt: skip
    start = drawn[getattr(profile.network, "initialisation", "released")]
    return f"{start}NaN: share of the broken images that only an output which is not a number breaks ({counted})."


# ---------------------------------------------------------------------------------------------- verdicts


def comparisons(labs: list[Lab], exploration: Exploration) -> pd.DataFrame:
    """Every pair of an exploration under every measure."""
    lines = []
    for reading, pairs in (("main", exploration.pairs), ("other", exploration.readings)):
        for better, worse in pairs:
            lines += [
                {"section": exploration.section, "reading": reading, **compare(labs, better, worse, attack)}
                for attack in MEASURES
            ]
    return pd.DataFrame(lines)


def verdict_table(labs: list[Lab], explorations=EXPLORATIONS) -> pd.DataFrame:
    """One line per exploration: the paper's claim and a verdict under each measure."""
    lines = []
    for exploration in explorations:
        pairs = comparisons(labs, exploration)
        main = pairs[pairs["reading"] == "main"]
        line = {"exploration": exploration.section, "claim": exploration.claim}
        for attack in MEASURES:
            line[attack] = combine(list(main.loc[main["measure"] == attack, "verdict"]))
        other = pairs[(pairs["reading"] == "other") & (pairs["measure"] == "curve")]
        line["curve, other reading"] = combine(list(other["verdict"])) if len(other) else "-"
        lines.append(line)
    return pd.DataFrame(lines)


def finding(labs: list[Lab], section: str) -> str:
    """What an exploration showed, in words made from its numbers (Markdown)."""
    exploration = experiments.explored(section)
    pairs = comparisons(labs, exploration)
    lines = [f"**The paper's claim:** {exploration.claim}.", ""]
    for (reading, better, worse), group in pairs.groupby(["reading", "better", "worse"], sort=False):
        by = group.set_index("measure")
        curve = by.loc["curve"]
        order = "more" if curve["difference"] > 0 else "less"
        text = (
            f"- {'' if reading == 'main' else '(other reading) '}**{better}** is {abs(curve['difference']):.1f} points "
            f"{order} robust than **{worse}** on the curve [{curve['low']:.1f}, {curve['high']:.1f}], p = {curve['p']:.2g}, "
            f"n = {curve['n']}: *{curve['verdict']}*{_because(curve)}."
        )
        for attack, words in (("white-box", "white-box"), ("transfer-oracle", "transfer")):
            point = by.loc[attack]
            text += f" At the paper's point, {words}: {point['difference']:+.1f} points, *{point['verdict']}*{_because(point)}."
        lines.append(text)
    profile = labs[0].profile
    if profile.name == "smoke":
        lines += ["", "The `smoke` profile only shows that every step runs; read the numbers of a larger profile."]
    elif profile.name != "paper":
        lines += ["", f"Measured in the `{profile.name}` profile ({profile.purpose})."]
    return "\n".join(lines)


def _because(line) -> str:
    return f" ({line['reason']})" if line["reason"] and line["verdict"] != "holds" else ""


# ---------------------------------------------------------------------------------------------- figures


def curve_points(labs: list[Lab], name: str) -> pd.DataFrame:
    """Robust accuracy per eps in percent: mean over seeds, Wilson 95 % interval, eps in pixel units."""
    shares = [evaluation.robust(lab.outcome(name, "curve")) for lab in available(labs, name)]
    mean, n = sum(table.mean() for table in shares) / len(shares), len(shares[0])
    rates = [evaluation.rate(np.arange(n) < round(value * n)) for value in mean]
    return pd.DataFrame({"eps": mean.index.astype(float).round(4), "accuracy": 100 * mean.to_numpy(),
                         "low": [100 * r.low for r in rates], "high": [100 * r.high for r in rates]})  # fmt: skip


def caveats(labs: list[Lab], name: str) -> list[str]:
    """Why a network's curve does not speak for itself: 'undertrained', 'masked'."""
    tests = {"undertrained": clean(labs, name)["undertrained"], "masked": masked(labs, name)}
    return [word for word, applies in tests.items() if applies]


def plot_curves(labs: list[Lab], names, title: str = "") -> plt.Figure:
    """Robust accuracy over epsilon, one line a network with its Wilson band; epsilon on a square-root scale.

    Dashed and named so: a network that is undertrained, and one whose gradients are masked, whose curve is an upper bound.
    """
    figure, axes = plt.subplots(figsize=(7, 4.2), layout="constrained")
    for name in names:
        points = curve_points(labs, name)
        weak = caveats(labs, name)
        label = f"{name} ({', '.join(weak)})" if weak else name
        (line,) = axes.plot(points["eps"], points["accuracy"], "--" if weak else "-", marker=".", label=label)
        axes.fill_between(points["eps"], points["low"], points["high"], color=line.get_color(), alpha=0.12, lw=0)
    axes.set_xscale("function", functions=(lambda x: np.sqrt(np.maximum(x, 0)), np.square))
    axes.set_xticks(points["eps"], [f"{e:g}" for e in points["eps"]], fontsize=8)
    axes.set(xlabel="epsilon (L-inf, pixel units)", ylabel="robust accuracy (%)", ylim=(-2, 102), title=title)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    return figure


def plot_training(labs: list[Lab], names) -> plt.Figure:
    """Held-out accuracy, restoration error and share of gated steps per epoch."""
    figure, axes = plt.subplots(1, 3, figsize=(11, 3.2), layout="constrained")
    for name in names:
        log = labs[0].log(name)
        for ax, column in zip(axes, ("held_out_accuracy", "held_out_mse", "gate_share"), strict=True):
            ax.plot(log["epoch"] + 1, log[column], marker=".", label=name)
    for ax, label in zip(axes, ("held-out accuracy", "held-out L2 (x', x)", "share of gated steps"), strict=True):
        ax.set(xlabel="epoch", title=label)
        ax.grid(alpha=0.3)
    axes[0].legend(fontsize=8)
    return figure


def plot_restored(lab: Lab, name: str = "F", eps: float = 0.1, count: int = 10) -> plt.Figure:
    """Ten test images, restored, attacked (L-inf PGD on the logits before tanh, 40 steps), and restored again.

    Restored images are clipped to [0, 1] for display. Needs the checkpoint (trains it if missing).
    """
    model = lab.model(name).requires_grad_(False)
    test = lab.splits.test
    index = evaluation.test_order(len(test))[:count].to(lab.device)
    x, y = test.batch(index), test.labels[index]
    view = attacks.View(model, "pre-squeeze").eval()
    attacked = adapters.pgd(view, x, y, eps, 40, None, True, lab.seed, lab.profile.network.num_classes)
    with torch.no_grad():
        pictures = {
            "input": x, "restored": model.front(x).restored,
            f"attacked, eps {eps:g}": attacked, "restored from attacked": model.front(attacked).restored,
        }  # fmt: skip
    answers = evaluation.predict(model, x), evaluation.predict(model, attacked)
    figure, axes = plt.subplots(len(pictures), count, figsize=(count, len(pictures) + 0.4), layout="constrained")
    for row, (title, images) in zip(axes, pictures.items(), strict=True):
        said = answers[1] if "attacked" in title else answers[0]
        for ax, image, answer, label in zip(row, images, said.tolist(), y.tolist(), strict=True):
            ax.imshow(image.mean(0).clamp(0, 1).cpu(), cmap="gray", vmin=0, vmax=1)
            ax.set(xticks=[], yticks=[])
            if not title.startswith("restored"):
                ax.set_title(f"says {answer}", fontsize=8, color="black" if answer == label else "red", pad=2)
        row[0].set_ylabel(title, fontsize=8, rotation=0, ha="right", va="center")
    return figure
