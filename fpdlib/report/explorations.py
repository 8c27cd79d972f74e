"""Table 1's eight explorations: every pair that the paper orders, under every measure and protocol, with verdicts and words."""

from __future__ import annotations

import numpy as np
import pandas as pd

from fpdlib.errors import NotComputed
from fpdlib.paper import experiments, published
from fpdlib.paper.experiments import EXPLORATIONS, HEADLINES, TABLE1, Exploration
from fpdlib.report.measures import compare
from fpdlib.report.verdicts import NOT_TESTED, PROTOCOLS, TABLE1_MEASURES
from fpdlib.results.evidence import Evidence

MEASURES = {
    "white-box": "white-box, published protocol",
    "transfer-oracle": "transfer, published protocol",
    "worst": "worst case per image over every attack, at the paper's epsilon",
    "radius": "area under the robustness curve up to the paper's epsilon, from the radius of each image",
}


def comparisons(evidence: Evidence, exploration: Exploration) -> pd.DataFrame:
    """Every pair of an exploration under every measure, as far as both networks are there."""
    lines = []
    for reading, pairs in (("main", exploration.pairs), ("other", exploration.readings)):
        for better, worse in pairs:
            if evidence.seeds(better) and evidence.seeds(worse):
                lines += [{"section": exploration.section, "reading": reading, **compare(evidence, better, worse, attack)}
                          for attack in MEASURES]  # fmt: skip
    if not lines:
        raise NotComputed(f"{exploration.section}: no pair of it is there; `python -m fpdlib work --plan table1` computes it.")
    return pd.DataFrame(lines)


def finding(evidence: Evidence, section: str) -> str:
    """What an exploration showed, in words made from its numbers (Markdown)."""
    exploration = experiments.explored(section)
    pairs = comparisons(evidence, exploration)
    lines = [f"**The paper's claim:** {exploration.claim}.", ""]
    for (reading, better, worse), group in pairs.groupby(["reading", "better", "worse"], sort=False):
        by = group.set_index("measure")
        curve = by.loc["radius"]
        order = "more" if curve["difference"] > 0 else "less"
        text = (
            f"- {'' if reading == 'main' else '(other reading) '}**{better}** is {abs(curve['difference']):.1f} points "
            f"{order} robust than **{worse}** by the area under the robustness curve [{curve['low']:.1f}, "
            f"{curve['high']:.1f}], p = {curve['p']:.2g}, "
            f"n = {curve['n']}: *{curve['verdict']}*{_because(curve)}."
        )
        for attack, words in (("white-box", "white-box"), ("transfer-oracle", "transfer")):
            point = by.loc[attack]
            text += f" At the paper's point, {words}: {point['difference']:+.1f} points, *{point['verdict']}*{_because(point)}."
        lines.append(text)
    profile = evidence.profile
    if profile.name == "smoke":
        lines += ["", "The `smoke` profile only shows that every step runs; read the numbers of a larger profile."]
    elif profile.name != "paper":
        lines += ["", f"Measured in the `{profile.name}` profile ({profile.purpose})."]
    return "\n".join(lines)


def _because(line) -> str:
    return f" ({line['reason']})" if line["reason"] and line["verdict"] != "holds" else ""


def order(evidence: Evidence) -> pd.DataFrame:
    """Every pair that Table 1 orders, under each protocol: the paper's difference of averages, ours with its interval (points)."""
    lines = []
    for exploration in EXPLORATIONS:
        printed = {row.variants[0]: row.name for row in TABLE1 if row.section == exploration.section}
        printed |= {name: name for name in ("F", "F_FD", "F_FD+R") if name not in printed}
        for better, worse in exploration.pairs:
            names = printed[better], printed[worse]
            paper = [np.mean([published_accuracy(name, attack) for attack in ("white-box", "black-box")]) for name in names]
            line = {"exploration": exploration.section, "better": names[0], "worse": names[1], "paper": paper[0] - paper[1]}
            for protocol in PROTOCOLS:
                try:
                    found = compare(evidence, better, worse, TABLE1_MEASURES[protocol])
                except NotComputed:
                    found = {"verdict": NOT_TESTED, "reason": "not computed"}
                keys = ("difference", "low", "high", "n", "seeds", "verdict", "reason")
                lines.append(line | {"protocol": protocol} | {key: found.get(key, np.nan) for key in keys})
    return pd.DataFrame(lines)


def published_accuracy(row: str, attack: str) -> float:
    """A row's printed number; rows of one name agree in every section that prints them."""
    return published.value(1, row, attack, next(r.section for r in TABLE1 if r.name == row))


def headlines(evidence: Evidence) -> pd.DataFrame:
    """The headline claims: the paper's size as printed, ours under the one measure fixed for each with its interval and p
    (Holm-adjusted among them), the smallest difference it can find, and the same pair as published; points."""
    lines = []
    for line in HEADLINES:
        protocol = "published" if line.measure.startswith("transfer") else "sound"
        shown = {"claim": line.claim, "better": line.better, "worse": line.worse, "setting": line.setting, "measure": line.measure,
                 "protocol": protocol}  # fmt: skip
        try:
            found = compare(evidence.at(line.setting), line.better, line.worse, line.measure)
        except NotComputed:
            found = {"verdict": NOT_TESTED, "reason": "not computed"}
        keys = ("difference", "low", "high", "p", "p_adjusted", "smallest", "n", "seeds", "verdict", "reason")
        shown |= {key: found.get(key, np.nan) for key in keys}
        try:
            beside = compare(evidence.at(line.setting), line.better, line.worse, "average")
            shown |= {f"published {key}": beside[key] for key in ("difference", "low", "high", "verdict")}
        except (NotComputed, KeyError):
            shown |= {"published verdict": NOT_TESTED}
        lines.append(shown)
    return pd.DataFrame(lines)


def terms(evidence: Evidence) -> str:
    """What the numbers of `headlines` are, as a caption."""
    return (
        f"{scale(evidence, brief=True).capitalize()}, L-inf. Points of area under the robustness curve up to the paper's epsilon, "
        "from the radius of each image (transfers: of accuracy, as published), with 95 % intervals over seeds and images; verdicts "
        "by p values adjusted for ten claims (Holm). *can find*: the smallest difference that the comparison finds with 80 % power; "
        "n, p and the same pairs as published are in the CSV."
    )


def narrow_headlines(frame: pd.DataFrame) -> pd.DataFrame:
    """`headlines` as words, for a page."""

    def said(line: pd.Series) -> str:
        return f"{line['difference']:+.1f} [{line['low']:.1f}, {line['high']:.1f}]" if np.isfinite(line["difference"]) else "-"

    return pd.DataFrame({
        "the paper says": frame["claim"],
        "ours, points": [said(line) for _, line in frame.iterrows()],
        "can find": ["-" if np.isnan(v) else f"{v:.1f}" for v in frame["smallest"].astype(float)],
        "verdict": frame["verdict"],
    })  # fmt: skip


def scale(evidence: Evidence, brief: bool = False) -> str:
    """On what the explorations were measured, as a caption; brief: as the title of a figure."""
    profile = evidence.profile
    seeds = ", ".join(map(str, evidence.planned_seeds))
    counts = " and ".join(str(n) for n in sorted({profile.attacks[key].images for key in ("white-box", "radius")}))
    first = f"profile {profile.name}, {profile.network.backbone} family at {profile.network.image_size} pixels, {profile.dataset}"
    if brief:
        return f"{first}, seeds {seeds}"
    return (
        f"{first[0].upper()}{first[1:]}, seeds {seeds} (some networks fewer), n = {counts} test images, L-inf eps 0.3; "
        "*published*: the paper's average of white-box and transfer; *current*: PGD as today's ART runs it; *sound*: area under "
        "the robustness curve, from the radius of each image. "
        "Verdicts rest on 95 % intervals over seeds and images, three seeds or more of each; numbers are in the CSV."
    )


def narrow(frame: pd.DataFrame) -> pd.DataFrame:
    """`order` as words: a line per pair, a column per protocol."""
    verdicts = frame.pivot_table(index=["exploration", "better", "worse"], columns="protocol", values="verdict", sort=False,
                                 aggfunc="first").reset_index()  # fmt: skip
    words = {"Inner denoising layer position": "Layer position", "Number of inner layers": "Number of layers",
             "Comparison with Xie et al.": "Xie et al."}  # fmt: skip
    return pd.DataFrame({
        "exploration": verdicts["exploration"].replace(words),
        "the paper says": verdicts["better"] + " > " + verdicts["worse"],
        **{protocol: verdicts[protocol] for protocol in PROTOCOLS},
    })  # fmt: skip
