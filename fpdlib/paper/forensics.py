"""What the paper's printed numbers say about how they were measured: granularity, intervals, impossible orders (Tables 2-4).

A share of 10,000 images is a whole percentage in about one case of a hundred; a share of 100 images always is, and one of 50
is an even one. Everything here is computed from `published/*.csv`.
"""

from __future__ import annotations

import math

import pandas as pd
from scipy import stats

from fpdlib.paper import published


def cells(table: int) -> pd.DataFrame:
    """The accuracies of a table (no averages), with the networks that the number involves (targets and substitutes)."""
    frame = published.load(table).query("metric == 'accuracy'").copy()
    frame["involves"] = [
        tuple(sorted({part for part in (*network.split("/"), *attack.split("/")) if part.startswith("Res")}))
        for network, attack in zip(frame["network"], frame["attack"], strict=True)
    ]
    return frame


def granularity() -> pd.DataFrame:
    """How many of each table's accuracies are whole, and how many of the whole ones even; binomial p against 1 % and 50 %.

    Table 3 is split by whether a cell involves ResNeXt-50 as target or substitute.
    """
    groups = {"Table 1": cells(1), "Table 2": cells(2), "Table 4": cells(4)}
    t3, t4 = cells(3), cells(4)
    resnext = t3["involves"].map(lambda names: "ResNeXt-50" in names)
    groups |= {"Table 3, ResNeXt-50 involved": t3[resnext], "Table 3, other": t3[~resnext]}
    groups["Table 4, ResNeXt-50"] = t4[t4["network"].str.startswith("ResNeXt-50")]
    lines = []
    for name, group in groups.items():
        whole = group[group["value"] % 1 == 0]
        even = int((whole["value"] % 2 == 0).sum())
        lines.append(
            {"cells": name, "n": len(group), "whole": len(whole),
             "p of so many whole, if 1 in 100 is": stats.binomtest(len(whole), len(group), 0.01, "greater").pvalue,
             "even among whole": even,
             "p of so many even, if 1 in 2 is": stats.binomtest(even, len(whole), 0.5, "greater").pvalue if len(whole) else math.nan}
        )  # fmt: skip
    return pd.DataFrame(lines)


def wilson(percent: float, n: int) -> tuple[float, float]:
    """Wilson 95 % interval in percent of a printed accuracy, had it been measured on n images."""
    interval = stats.binomtest(round(percent * n / 100), n).proportion_ci(method="wilson")
    return 100 * float(interval.low), 100 * float(interval.high)


PROBABLE_N = {"ResNet-50": 100, "ResNet-101": 100, "ResNeXt-50": 50}  # from the granularity


def intervals() -> pd.DataFrame:
    """Printed accuracies with the intervals that their probable number of images gives; the Caltech numbers too."""
    lines = []
    for backbone, n in PROBABLE_N.items():
        for network in (f"{backbone}/F", f"{backbone}/O_PGD"):
            value = published.value(4, network, "Linf-PGD")
            low, high = wilson(value, n)
            lines.append({"where": "Table 4", "network": network, "attack": "Linf-PGD", "printed": value, "probable n": n,
                          "low": low, "high": high})  # fmt: skip
    for section, n in (("CALTECH-101", 866), ("CALTECH-256", 24)):
        value = published.value("text", "F", "Linf-PGD", section)
        low, high = wilson(value, n)
        lines.append({"where": section, "network": "F", "attack": "Linf-PGD", "printed": value, "probable n": n, "low": low,
                      "high": high})  # fmt: skip
    return pd.DataFrame(lines)


def repeated_batches() -> pd.DataFrame:
    """Caltech-256's 49.79 % and Caltech-101's 61.78 % as counts: 708 of 1,422 is 59 times 12, the loop repeated 24 images."""
    lines = []
    for section, total, batch in (("CALTECH-256", 1422, 24), ("CALTECH-101", 866, 24)):
        value = published.value("text", "F", "Linf-PGD", section)
        count, calls = round(value * total / 100), total // batch
        lines.append({"data set": section, "printed": value, "images": total, "right": count, "batches of 24": calls,
                      "right per batch": count / calls, "whole": abs(count / calls - round(count / calls)) < 1e-9})  # fmt: skip
    return pd.DataFrame(lines)


def transfer_above_clean() -> pd.DataFrame:
    """Cells of Table 3 in which a network is better on another's adversarial images than on clean ones."""
    frame = cells(3)
    clean = frame[frame["attack"] == "clean"].set_index("network")["value"]
    frame = frame[(frame["attack"] != "clean") & (frame["network"] != "all")]
    frame = frame.assign(clean=frame["network"].map(clean))
    return frame[frame["value"] > frame["clean"]][["network", "attack", "clean", "value"]].reset_index(drop=True)


def worst_columns() -> pd.DataFrame:
    """Per network of Tables 2 and 4, the smallest printed L-inf accuracy, an upper bound of the robust one, and their mean."""
    frame = pd.concat([cells(2), cells(4)])
    linf = frame[frame["attack"].str.startswith("Linf")]
    grouped = linf.groupby(["table", "network"], sort=False)["value"]
    return pd.DataFrame({"worst L-inf column": grouped.min(), "mean of L-inf columns": grouped.mean().round(2)}).reset_index()
