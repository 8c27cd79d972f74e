"""The three pictures that several notebooks draw: robustness over epsilon, comparisons with their intervals, and heat maps.

Each draws into axes that the notebook made, so that it can go on with them.
"""

from collections.abc import Iterable

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from fpdlib import evaluation
from fpdlib.report.measures import by_seed, reach, undertrained
from fpdlib.report.verdicts import NOT_TESTED
from fpdlib.results.evidence import Evidence

MARKERS = {"holds": "^", "does not hold": "v", "not decided": "o", NOT_TESTED: "x"}
COLOURS = {"holds": "#1a7f37", "does not hold": "#cf222e", "not decided": "#6e7781", NOT_TESTED: "#d0d7de"}


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


def curves(axes: Axes, evidence: Evidence, names: Iterable[str], measure: str = "radius") -> None:
    """Robust accuracy over epsilon, one line a method that is there, the mean of its trained networks, with its Wilson band, which
    leaves their spread out: each is a thin line. Epsilon on a square-root scale. Dashed and named so: what is undertrained."""
    axes.set_xscale("function", functions=(lambda x: np.sqrt(np.maximum(x, 0)), np.square))
    for name in (name for name in names if evidence.seeds(name)):
        points, weak = curve_points(evidence, name, measure), undertrained(evidence, name)
        label = f"{name} (undertrained)" if weak else name
        (line,) = axes.plot(points["eps"], points["accuracy"], "--" if weak else "-", label=label)
        axes.fill_between(points["eps"], points["low"], points["high"], color=line.get_color(), alpha=0.12, lw=0)
        radii = by_seed(evidence, name, measure)
        for seed in radii if radii.shape[1] > 1 else ():
            beyond = [100 * (radii[seed] > eps / reach(evidence, measure)).mean() for eps in points["eps"][:-1]]
            axes.plot(points["eps"][:-1], beyond, color=line.get_color(), lw=0.6, alpha=0.5)
        ticks = reach(evidence, measure) * np.array([0, 0.03, 0.1, 0.2, 1 / 3, 0.5, 2 / 3, 1])
        axes.set_xticks(ticks, [f"{e:.2g}" for e in ticks], fontsize=8)
        axes.legend(fontsize=8)
    axes.set(xlabel="epsilon (L-inf, pixel units; square-root scale)", ylabel="robust accuracy (%)", ylim=(-2, 102))
    axes.grid(alpha=0.3)


def forest(axes: Axes, frame: pd.DataFrame, labels: Iterable[str]) -> None:
    """Comparisons, a line each: `difference` with [low, high], coloured by `verdict`; right of 0 is the paper's order. `paper`, if
    there: the paper's own size, as a tick. `smallest`, if there: in the grey band a difference is too small to be found."""
    for height, (_, line) in enumerate(frame.iterrows()):
        colour = COLOURS[line["verdict"]]
        if np.isfinite(line.get("smallest", np.nan)):
            axes.barh(height, 2 * line["smallest"], left=-line["smallest"], height=0.8, color="#eaeef2", zorder=0)
        if np.isfinite(line.get("paper", np.nan)):
            axes.plot(line["paper"], height, "|", color="black", ms=13, mew=2)
        axes.plot([line["low"], line["high"]], [height, height], color=colour, lw=2)
        axes.plot(line["difference"], height, MARKERS[line["verdict"]], color=colour, ms=7)
    axes.axvline(0, color="black", lw=0.8)
    axes.set_yticks(range(len(frame)), labels)
    axes.set_ylim(len(frame) - 0.4, -0.6)
    axes.grid(axis="x", alpha=0.3)


def forest_legend(figure: plt.Figure, frame: pd.DataFrame) -> None:
    """What the marks of `forest` mean, below the figure."""
    words = [word for word in COLOURS if word in set(frame["verdict"])]
    handles = [plt.Line2D([], [], marker=MARKERS[word], ms=7, color=COLOURS[word], label=word) for word in words]
    if "paper" in frame:
        handles.append(plt.Line2D([], [], marker="|", ms=11, mew=2, ls="", color="black", label="the paper's difference"))
    if "smallest" in frame:
        handles.append(Rectangle((0, 0), 1, 1, color="#eaeef2", label="too small to be found (80 % power)"))
    figure.legend(handles=handles, loc="outside lower center", ncols=5, frameon=False)


def heat(axes: Axes, frame: pd.DataFrame, title: str = "", hatched: pd.DataFrame | None = None) -> None:
    """Accuracies in percent as a heat map, rows and columns of the frame; empty where there is none. hatched: cells that mislead."""
    axes.pcolormesh(frame.to_numpy(float), vmin=0, vmax=100, cmap="viridis", edgecolors="white", lw=0.5)
    for (row, column), number in np.ndenumerate(frame.to_numpy(float)):
        if np.isfinite(number):
            axes.text(column + 0.5, row + 0.5, f"{number:.0f}", ha="center", va="center", fontsize=8,
                      color="white" if number < 60 else "black")  # fmt: skip
        if hatched is not None and hatched.to_numpy()[row, column]:
            axes.add_patch(Rectangle((column, row), 1, 1, fill=False, hatch="////", edgecolor="#ff7b72", lw=0))
    axes.set_xticks(np.arange(frame.shape[1]) + 0.5, frame.columns, rotation=60, ha="right", rotation_mode="anchor", fontsize=8)
    axes.set_yticks(np.arange(frame.shape[0]) + 0.5, frame.index, fontsize=8)
    axes.tick_params(length=0)
    axes.invert_yaxis()
    axes.set_title(title, fontsize=10)
