"""What README shows first: the answer in five sentences, and Table 1's explorations as one picture and one narrow table.

All of it is made from verdicts and per-example outcomes; nothing is typed. Functions take a list of `Lab`s, one per seed.
"""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from fpdlib.errors import NotComputed
from fpdlib.paper import published
from fpdlib.paper.experiments import EXPLORATIONS, TABLE1
from fpdlib.report.measures import compare
from fpdlib.report.verdicts import NOT_TESTED, PROTOCOLS, TABLE1_MEASURES
from fpdlib.results.lab import Lab

MARKERS = {"holds": "^", "does not hold": "v", "not decided": "o", NOT_TESTED: "x"}
COLOURS = {"holds": "#1a7f37", "does not hold": "#cf222e", "not decided": "#6e7781", NOT_TESTED: "#d0d7de"}
PANELS = {
    "published": "as published\naverage of white-box and transfer",
    "current": "today's library\nPGD at the paper's epsilon",
    "sound": "sound\narea under the PGD curve",
}


def explorations(labs: list[Lab]) -> pd.DataFrame:
    """Every pair that Table 1 orders, under each protocol: the paper's difference of averages, ours with its interval (points)."""
    lines = []
    for exploration in EXPLORATIONS:
        printed = {row.variants[0]: row.name for row in TABLE1 if row.section == exploration.section}
        printed |= {name: name for name in ("F", "F_FD", "F_FD+R") if name not in printed}
        for better, worse in exploration.pairs:
            names = printed[better], printed[worse]
            paper = [
                np.mean([published_accuracy(name, attack) for attack in ("white-box", "black-box")]) for name in names
            ]
            line = {
                "exploration": exploration.section,
                "better": names[0],
                "worse": names[1],
                "paper": paper[0] - paper[1],
            }
            for protocol in PROTOCOLS:
                here = [lab.at("protocols") for lab in labs] if protocol == "current" else labs
                try:
                    found = compare(here, better, worse, TABLE1_MEASURES[protocol])
                except NotComputed:
                    found = {"verdict": NOT_TESTED, "reason": "not computed"}
                keys = ("difference", "low", "high", "n", "seeds", "verdict", "reason")
                lines.append(line | {"protocol": protocol} | {key: found.get(key, np.nan) for key in keys})
    return pd.DataFrame(lines)


def published_accuracy(row: str, attack: str) -> float:
    """A row's printed number; rows of one name agree in every section that prints them."""
    sections = [r.section for r in TABLE1 if r.name == row]
    return published.value(1, row, attack, sections[0])


def scale(labs: list[Lab], brief: bool = False) -> str:
    """On what the explorations were measured, as a caption; brief: as the title of a figure."""
    profile = labs[0].profile
    seeds = ", ".join(str(lab.seed) for lab in labs)
    counts = " and ".join(str(n) for n in sorted({profile.attacks[key].images for key in ("white-box", "curve")}))
    first = f"profile {profile.name}, {profile.network.backbone} family at {profile.network.image_size} pixels, {profile.dataset}"
    if brief:
        return f"{first}, seeds {seeds}"
    return (
        f"{first[0].upper()}{first[1:]}, seeds {seeds} (some networks fewer), n = {counts} test images, L-inf eps 0.3; "
        "*published*: the paper's average of white-box and transfer; *current*: PGD as today's ART runs it; *sound*: area under "
        "the PGD curve. Verdicts rest on 95 % intervals over images; numbers are in the CSV of the same name."
    )


def narrow(frame: pd.DataFrame) -> pd.DataFrame:
    """`explorations` as words: a line per pair, a column per protocol."""
    verdicts = frame.pivot_table(index=["exploration", "better", "worse"], columns="protocol", values="verdict", sort=False,
                                 aggfunc="first").reset_index()  # fmt: skip
    words = {"Inner denoising layer position": "Layer position", "Number of inner layers": "Number of layers",
             "Comparison with Xie et al.": "Xie et al."}  # fmt: skip
    return pd.DataFrame({
        "exploration": verdicts["exploration"].replace(words),
        "the paper says": verdicts["better"] + " > " + verdicts["worse"],
        **{protocol: verdicts[protocol] for protocol in PROTOCOLS},
    })  # fmt: skip


def plot_explorations(frame: pd.DataFrame, title: str = "") -> plt.Figure:
    """Difference of each pair in points, a panel per protocol: right of 0 is the paper's order, a tick is the paper's own size."""
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
    first = [height for height, pair in enumerate(pairs) if height == 0 or pair[0] != pairs[height - 1][0]]
    for axes in panels:
        for height in first[1:]:
            axes.axhline(height - 0.5, color="#d0d7de", lw=0.8)
    panels[0].set_yticks(range(len(pairs)), [f"{better} > {worse}" for _, better, worse in pairs])
    panels[0].invert_yaxis()
    handles = [
        plt.Line2D([], [], marker=MARKERS[word], ms=7, color=colour, label=word)
        for word, colour in COLOURS.items() if word in set(frame["verdict"])
    ]  # fmt: skip
    handles.append(plt.Line2D([], [], marker="|", ms=11, mew=2, ls="", color="black", label="the paper's difference"))
    figure.legend(handles=handles, loc="outside lower center", ncols=5, frameon=False)
    panels[1].set_xlabel("points; left of 0 the opposite of the paper's order, right of 0 the paper's order")
    figure.suptitle(title, fontsize=11)
    return figure


def said(line: pd.Series) -> str:
    """A verdict with its numbers, in a few words."""
    if not np.isfinite(line["effect"]):
        return f"*{line['verdict']}*"
    several = f", {int(line['seeds'])} seed{'s' if line['seeds'] > 1 else ''}" if line["seeds"] else ""
    count = f", n = {int(line['n'])}{several}" if line["n"] > 1 else ""
    width = "" if line["low"] == line["high"] else f" [{line['low']:.1f}, {line['high']:.1f}]"
    sign = "" if line["unit"].startswith("times") else "+"
    return f"*{line['verdict']}* ({line['effect']:{sign}.1f}{width} {line['unit']}{count})"


def tally(words: pd.Series) -> str:
    """'4 do not hold, 1 holds, 3 are not decided'."""
    several = {
        "holds": "hold",
        "does not hold": "do not hold",
        "not decided": "are not decided",
        NOT_TESTED: "are not tested",
    }
    one = {"not decided": "is not decided", NOT_TESTED: "is not tested"}
    counts = words.value_counts()
    return ", ".join(f"{count} {several[word] if count > 1 else one.get(word, word)}"
                     for word, count in ((word, counts.get(word, 0)) for word in several) if count)  # fmt: skip


def answer(claims: pd.DataFrame) -> str:
    """The paper's main claims in five sentences, from the table of verdicts (`claims.verify`), as a Markdown list."""
    by = claims.set_index(["id", "protocol"])

    def protocols(claim: str) -> str:
        words = {"published": "as published", "current": "with today's library", "sound": "in the worst case"}
        return "; ".join(f"{word} {said(by.loc[(claim, protocol)])}" for protocol, word in words.items())

    table1 = claims[claims["id"].str.startswith("table1-")]
    explored = [f"{word} {tally(table1.loc[table1['protocol'] == protocol, 'verdict'])}"
                for protocol, word in (("published", "by the paper's own average"), ("sound", "by the PGD curve"))]  # fmt: skip
    # the strongest protocol that tests a claim speaks for it
    strength = claims.assign(strength=claims["protocol"].map({"published": 1, "current": 2, "sound": 3, "any": 3}))
    tested = strength[strength["verdict"] != NOT_TESTED].sort_values("strength").groupby("id")["verdict"].last()
    of_all = pd.concat([tested, pd.Series([NOT_TESTED] * (claims["id"].nunique() - len(tested)))])
    sentences = (
        f"**Robust without adversarial training, on MNIST?** F against the plain CNN: {protocols('resists-mnist')}.",
        f"**On Caltech-101?** F against the plain CNN: {protocols('resists-caltech101')}.",
        f"**Do the design choices of Table 1 help?** Of its eight explorations, {'; '.join(explored)}.",
        "**What does it cost?** Clean accuracy within one point of the plain CNN's: on MNIST "
        f"{said(by.loc[('clean-mnist', 'any')])}, on Caltech-101 {said(by.loc[('clean-caltech101', 'any')])}; training cheaper than "
        f"adversarial training: {said(by.loc[('cheaper', 'any')])}.",
        f"**And all of it?** Of {claims['id'].nunique()} claims, in the strongest protocol that tests each: {tally(of_all)} (for "
        "want of data or computing).",
    )
    return "\n".join(f"{number}. {sentence}" for number, sentence in enumerate(sentences, 1))
