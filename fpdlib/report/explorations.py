"""Table 1's eight explorations and the headline claims: what the paper orders, compared under every measure, with verdicts; and their
table and pictures, which nine notebooks show."""

from collections.abc import Iterable

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt

from fpdlib.errors import NotComputed
from fpdlib.paper import experiments, published
from fpdlib.paper.experiments import HEADLINES, Exploration
from fpdlib.report.figures import curves, forest, forest_legend
from fpdlib.report.measures import compare, masked
from fpdlib.report.tables import measured, text
from fpdlib.report.verdicts import NOT_TESTED
from fpdlib.results.evidence import Evidence

MEASURES = ("white-box", "transfer-oracle", "worst", "radius")
TITLES = {"transfer-oracle": "transfer", "worst": "worst case", "radius": "area", "current": "today's library"}  # for people
TICKS = (-100, -30, -10, -3, -1, 0, 1, 3, 10, 30, 100)


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
    """What an exploration showed, in words made from its numbers (Markdown), or that it is not computed."""
    exploration = experiments.explored(section)
    lines = [f"**The paper's claim:** {exploration.claim}.", ""]
    try:
        pairs = comparisons(evidence, exploration)
    except NotComputed as absent:
        return "\n".join([*lines, f"*Not computed:* {absent}"])
    main = pairs.query("measure == 'radius' and reading == 'main'")
    short = "; ".join(f"{line.better} over {line.worse} *{line.verdict}*" for line in main.itertuples())
    lines += [f"**In short**, by the area under the robustness curve: {short}.", ""] if short else []
    for (reading, better, worse), group in pairs.groupby(["reading", "better", "worse"], sort=False):
        by = group.set_index("measure")
        curve = by.loc["radius"]
        said = (
            f"- {'' if reading == 'main' else '(other reading) '}**{better}** minus **{worse}**: "
            f"{round(curve['difference'], 1) + 0:+.1f} points of area [{curve['low']:.1f}, {curve['high']:.1f}], "
            f"p = {curve['p']:.2g}, n = {curve['n']}, {curve['seeds']} seed{'s' if curve['seeds'] > 1 else ''} (can find "
            f"{curve['smallest']:.1f}): *{curve['verdict']}*{because(curve)}."
        )
        for attack, words in (("white-box", "white-box"), ("transfer-oracle", "transfer")):
            point = by.loc[attack]
            size = f"{round(point['difference'], 1) + 0:+.1f} points (can find {point['smallest']:.1f})"
            said += f" At the paper's point, {words}: {size}, *{point['verdict']}*{because(point)}."
        lines.append(said)
    if evidence.profile.name == "smoke":
        lines += ["", "The `smoke` profile only shows that every step runs; read the numbers of a larger profile."]
    elif evidence.profile.name != "paper":
        lines += [
            "",
            f"Measured with {scale(evidence)}, or as many of these as a line says; the paper: ResNet-101 at 64 pixels (notebook 20).",
        ]
    return "\n".join(lines)


def beside(evidence: Evidence, names: Iterable[str], section: str) -> pd.DataFrame:
    """The paper's numbers of an exploration beside ours, for people, a line a network: accuracy in percent with its Wilson interval
    under each measure, and the area under the robustness curve with its range over seeds."""
    table = measured(evidence, names)
    cells = table.assign(cell=table.apply(text, axis=1)).pivot(index="network", columns="measure", values="cell")
    cells = cells.reindex(table["network"].unique(), columns=["white-box", "transfer-oracle", "current", "worst", "radius"])
    paper = published.load(1).query("section == @section and metric == 'accuracy'")
    paper = paper.pivot(index="network", columns="attack", values="value")
    rows = {row.variants[0]: row.name for row in experiments.TABLE1 if row.section == section}
    shown = pd.DataFrame({"row": [rows.get(name, "another reading") for name in cells.index]}, index=cells.index)
    clean = table.groupby("network")[["clean", "undertrained"]].first()
    shown["clean"] = clean["clean"].map("{:.1f}".format) + np.where(clean["undertrained"], " undertrained", "")
    for printed, ours in (("white-box", "white-box"), ("black-box", "transfer-oracle")):
        title = ours.removesuffix("-oracle")
        shown[f"{title}, paper"] = [paper[printed].get(row, np.nan) for row in shown["row"]]
        shown[f"{title}, ours"] = cells[ours]
    area = table[table["measure"] == "radius"].set_index("network")
    shown["today's"], shown["worst case"] = cells["current"], cells["worst"]
    shown["area (over seeds)"] = [spread(area.loc[name]) if name in area.index else "-" for name in shown.index]
    return shown.fillna({column: "-" for column in shown if column.endswith("ours") or column in ("today's", "worst case")})


def spread(line: pd.Series) -> str:
    """A number of `measured` with its range over the trained networks, for people."""
    return f"{line['value']:.1f} " + (f"({line['seed_min']:.1f} to {line['seed_max']:.1f})" if line["seeds"] > 1 else "(one network)")


def picture(evidence: Evidence, names: Iterable[str], section: str) -> plt.Figure:
    """An exploration: robust accuracy over epsilon, and its comparisons as points of area under that curve."""
    pairs = comparisons(evidence, experiments.explored(section)).query("measure == 'radius'")
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4), layout="constrained", width_ratios=[3, 2])
    curves(left, evidence, names)
    forest(right, pairs, pairs["better"] + " > " + pairs["worse"])
    right.set_xlabel("points of area; right of 0: the paper's order")
    figure.suptitle(f"{section}: {scale(evidence)}", fontsize=10)
    return figure


def headline_picture(evidence: Evidence, main: pd.DataFrame) -> plt.Figure:
    """The frame of `headlines`; in the grey band a difference is too small to be found."""
    figure, axes = plt.subplots(figsize=(9, 4.4), layout="constrained")
    axes.set_xscale("symlog", linthresh=2)
    forest(axes, main, main["claim"] + "  (" + main["better"].replace("ReLU", "O") + " > " + main["worse"].replace("ReLU", "O") + ")")
    axes.set_xticks(TICKS, map(str, TICKS))
    axes.set_xlabel("points (logarithmic beyond 2); right of 0: the paper's order")
    forest_legend(figure, main)
    figure.suptitle(scale(evidence) + elsewhere(evidence, main), fontsize=10)
    return figure


def because(line: pd.Series) -> str:
    return f" ({line['reason']})" if line["reason"] and line["verdict"] != "holds" else ""


def headlines(evidence: Evidence) -> pd.DataFrame:
    """The headline claims, points: ours under the one measure fixed for each with its interval and p (Holm-adjusted among them), the
    smallest difference it can find, and the same pair by the paper's own measure, as published."""
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
            here = evidence.at(line.setting)
            own = "average" if "white-box" in here.profile.attacks else "published/linf-pgd"
            beside = compare(here, line.better, line.worse, own)
            shown |= {f"published {key}": beside[key] for key in ("difference", "low", "high", "verdict", "reason")}
            shown["published masked"] = masked(here, line.better, own) or masked(here, line.worse, own)
        except (NotComputed, KeyError):
            shown |= {"published verdict": NOT_TESTED}
        lines.append(shown)
    return pd.DataFrame(lines)


def elsewhere(evidence: Evidence, main: pd.DataFrame) -> str:
    """What `headlines` has of other settings than its title's, with epsilon, size and number of networks; '' if it has none."""
    words = ""
    there = main[(main["setting"] != HEADLINES[0].setting) & main["setting"].isin(evidence.plan["setting"])]
    for setting, lines in there.groupby("setting"):
        here = evidence.at(setting).profile
        eps = f", eps {here.attacks['sound/linf'].eps[-1]:g}" if "sound/linf" in here.attacks else ""
        count = lines["seeds"].max()
        words += f"; {setting}: {here.network.image_size} pixels{eps}" + f", {count:g} networks" * bool(pd.notna(count))
    return words


def scale(evidence: Evidence) -> str:
    """On what the explorations were measured, as the title of a figure."""
    profile, seeds = evidence.profile, ", ".join(map(str, evidence.planned_seeds))
    changed = f" ({profile.changes})" if profile.changes else ""
    return (f"profile {profile.name}{changed}, {profile.network.backbone} family at {profile.network.image_size} pixels, "
            f"{profile.dataset}, seeds {seeds}")  # fmt: skip
