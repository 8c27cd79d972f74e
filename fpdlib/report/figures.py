"""Figures that several notebooks and the front page share."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from fpdlib import evaluation
from fpdlib.report.measures import by_seed, reach, undertrained
from fpdlib.report.verdicts import NOT_TESTED
from fpdlib.results.evidence import Evidence

MARKERS = {"holds": "^", "does not hold": "v", "not decided": "o", NOT_TESTED: "x"}
COLOURS = {"holds": "#1a7f37", "does not hold": "#cf222e", "not decided": "#6e7781", NOT_TESTED: "#d0d7de"}
PANELS = {
    "published": "as published\naverage of white-box and transfer",
    "current": "today's library\nPGD at the paper's epsilon",
    "sound": "sound\narea under the robustness curve",
}


def curve_points(evidence: Evidence, name: str, measure: str = "radius", points: int = 61) -> pd.DataFrame:
    """Robust accuracy per eps in percent, from the radius of each image: mean over seeds, Wilson 95 % interval, eps in pixel
    units."""
    radii, top = by_seed(evidence, name, measure), reach(evidence, measure)
    steps = np.linspace(0, 1, points) ** 2  # most of the curve happens at small eps
    mean = [float((radii > step).to_numpy().mean()) for step in steps[:-1]]
    mean.append(float(by_seed(evidence, name, measure.replace("radius", "worst")).to_numpy().mean()))  # scores end at epsilon
    rates = [evaluation.rate(np.arange(len(radii)) < round(value * len(radii))) for value in mean]
    return pd.DataFrame({"eps": (steps * top).round(4), "accuracy": [100 * value for value in mean],
                         "low": [100 * r.low for r in rates], "high": [100 * r.high for r in rates]})  # fmt: skip


def plot_curves(evidence: Evidence, names, title: str = "", measure: str = "radius") -> plt.Figure:
    """Robust accuracy over epsilon, one line a network that is there, with its Wilson band; epsilon on a square-root scale. Dashed
    and named so: a network that is undertrained."""
    figure, axes = plt.subplots(figsize=(7, 4.2), layout="constrained")
    axes.set_xscale("function", functions=(lambda x: np.sqrt(np.maximum(x, 0)), np.square))
    for name in (name for name in names if evidence.seeds(name)):
        points, weak = curve_points(evidence, name, measure), undertrained(evidence, name)
        label = f"{name} (undertrained)" if weak else name
        (line,) = axes.plot(points["eps"], points["accuracy"], "--" if weak else "-", label=label)
        axes.fill_between(points["eps"], points["low"], points["high"], color=line.get_color(), alpha=0.12, lw=0)
        ticks = reach(evidence, measure) * np.array([0, 0.03, 0.1, 0.2, 0.33, 0.5, 0.75, 1])
        axes.set_xticks(ticks, [f"{e:.2g}" for e in ticks], fontsize=8)
        axes.legend(fontsize=8)
    axes.set(xlabel="epsilon (L-inf, pixel units)", ylabel="robust accuracy (%)", ylim=(-2, 102), title=title)
    axes.grid(alpha=0.3)
    return figure


def plot_training(evidence: Evidence, names) -> plt.Figure:
    """Held-out accuracy, restoration error and share of gated steps per epoch, of the first seed that is there."""
    figure, axes = plt.subplots(1, 3, figsize=(11, 3.2), layout="constrained")
    for name in (name for name in names if evidence.seeds(name)):
        log = evidence.log(name, evidence.complete(name)[0])
        for ax, column in zip(axes, ("held_out_accuracy", "held_out_mse", "gate_share"), strict=True):
            ax.plot(log["epoch"] + 1, log[column], marker=".", label=name)
    for ax, label in zip(axes, ("held-out accuracy", "held-out L2 (x', x)", "share of gated steps"), strict=True):
        ax.set(xlabel="epoch", title=label)
        ax.grid(alpha=0.3)
    axes[0].legend(fontsize=8)
    return figure


def plot_matrix(wide: pd.DataFrame) -> plt.Figure:
    """Table 3 as a heat map: accuracy of each target on each substitute's adversarial images (see `tables.matrix`)."""
    wide = wide.drop(columns="average", level=0)
    figure, axes = plt.subplots(figsize=(10, 3.6), layout="constrained")
    image = axes.imshow(wide.to_numpy(), vmin=0, vmax=100, cmap="viridis", aspect="auto")
    axes.set_xticks(range(wide.shape[1]), [f"{s} {c.removeprefix('linf-')}" for s, c in wide.columns], rotation=60, ha="right",
                    fontsize=8)  # fmt: skip
    axes.set_yticks(range(len(wide)), [f"{t} (clean {c:.0f})" for t, c in wide.index], fontsize=8)
    for (row, column), number in np.ndenumerate(wide.to_numpy()):
        colour = "white" if number < 60 else "black"
        axes.text(column, row, f"{number:.0f}", ha="center", va="center", fontsize=7, color=colour)
    figure.colorbar(image, label="accuracy (%)")
    return figure


def plot_headlines(frame: pd.DataFrame, title: str = "") -> plt.Figure:
    """`explorations.headlines`: ours with its interval; right of 0 the paper's order. Grey band: differences that are too small for
    it to find."""
    figure, axes = plt.subplots(figsize=(9, 4.4), layout="constrained")
    axes.set_xscale("symlog", linthresh=2)
    for height, line in frame.iterrows():
        colour = COLOURS[line["verdict"]]
        axes.barh(height, 2 * line["smallest"], left=-line["smallest"], height=0.8, color="#eaeef2", zorder=0)
        axes.plot([line["low"], line["high"]], [height, height], color=colour, lw=2)
        axes.plot(line["difference"], height, MARKERS[line["verdict"]], color=colour, ms=8)
    axes.axvline(0, color="black", lw=0.8)
    axes.set_yticks(range(len(frame)), frame["claim"] + "  (" + frame["better"].replace("ReLU", "O") + " > "
                    + frame["worse"].replace("ReLU", "O") + ")")  # fmt: skip
    axes.invert_yaxis()
    ticks = [-100, -30, -10, -3, -1, 0, 1, 3, 10, 30, 100]
    axes.set_xticks(ticks, map(str, ticks))
    axes.grid(axis="x", alpha=0.3)
    axes.set_xlabel("points (logarithmic beyond 2); right of 0: the paper's order")
    handles = [plt.Line2D([], [], marker=MARKERS[word], ms=7, color=colour, label=word)
               for word, colour in COLOURS.items() if word in set(frame["verdict"])]  # fmt: skip
    handles.append(plt.Rectangle((0, 0), 1, 1, color="#eaeef2", label="too small to be found (80 % power)"))
    figure.legend(handles=handles, loc="outside lower center", ncols=4, frameon=False)
    figure.suptitle(title, fontsize=11)
    return figure


def plot_order(frame: pd.DataFrame, title: str = "") -> plt.Figure:
    """`explorations.order`: a panel per protocol; right of 0 is the paper's order, a tick is the paper's own size."""
    pairs = list(dict.fromkeys(zip(frame["exploration"], frame["better"], frame["worse"], strict=True)))
    figure, panels = plt.subplots(1, len(PANELS), figsize=(10, 5.6), layout="constrained", sharey=True)
    for axes, (protocol, words) in zip(panels, PANELS.items(), strict=True):
        by = frame[frame["protocol"] == protocol].set_index(["exploration", "better", "worse"])
        for height, pair in enumerate(pairs):
            line = by.loc[pair]
            colour = COLOURS[line["verdict"]]
            if protocol == "published":
                axes.plot(line["paper"], height, "|", color="black", ms=13, mew=2)
            axes.plot([line["low"], line["high"]], [height, height], color=colour, lw=2)
            axes.plot(line["difference"], height, MARKERS[line["verdict"]], color=colour, ms=7)
        axes.axvline(0, color="black", lw=0.8)
        axes.set_title(words, fontsize=10)
        axes.grid(axis="x", alpha=0.3)
        widest = max(np.nanmax(np.abs(by[["low", "high"]].to_numpy(float)), initial=0), 1)
        widest = max(widest, by["paper"].abs().max()) if protocol == "published" else widest
        axes.set_xlim(-1.1 * widest, 1.1 * widest)
        for height in range(1, len(pairs)):
            if pairs[height][0] != pairs[height - 1][0]:
                axes.axhline(height - 0.5, color="#d0d7de", lw=0.8)
    panels[0].set_yticks(range(len(pairs)), [f"{better} > {worse}" for _, better, worse in pairs])
    panels[0].invert_yaxis()
    handles = [plt.Line2D([], [], marker=MARKERS[word], ms=7, color=colour, label=word)
               for word, colour in COLOURS.items() if word in set(frame["verdict"])]  # fmt: skip
    handles.append(plt.Line2D([], [], marker="|", ms=11, mew=2, ls="", color="black", label="the paper's difference"))
    figure.legend(handles=handles, loc="outside lower center", ncols=5, frameon=False)
    panels[1].set_xlabel("points; left of 0 the opposite of the paper's order, right of 0 the paper's order")
    figure.suptitle(title, fontsize=11)
    return figure
