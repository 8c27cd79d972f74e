"""Table 1's eight explorations and the headline claims: what the paper orders, compared under every measure, with verdicts."""

from __future__ import annotations

import numpy as np
import pandas as pd

from fpdlib.errors import NotComputed
from fpdlib.paper import experiments
from fpdlib.paper.experiments import HEADLINES, Exploration
from fpdlib.report.measures import compare
from fpdlib.report.verdicts import NOT_TESTED
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
    lines = [f"**The paper's claim:** {exploration.claim}.", ""]
    for (reading, better, worse), group in comparisons(evidence, exploration).groupby(["reading", "better", "worse"], sort=False):
        by = group.set_index("measure")
        curve = by.loc["radius"]
        said = (
            f"- {'' if reading == 'main' else '(other reading) '}**{better}** is {abs(curve['difference']):.1f} points "
            f"{'more' if curve['difference'] > 0 else 'less'} robust than **{worse}** by the area under the robustness curve "
            f"[{curve['low']:.1f}, {curve['high']:.1f}], p = {curve['p']:.2g}, n = {curve['n']}, {curve['seeds']} "
            f"seed{'s' if curve['seeds'] > 1 else ''}: *{curve['verdict']}*{because(curve)}."
        )
        for attack, words in (("white-box", "white-box"), ("transfer-oracle", "transfer")):
            point = by.loc[attack]
            said += f" At the paper's point, {words}: {point['difference']:+.1f} points, *{point['verdict']}*{because(point)}."
        lines.append(said)
    if evidence.profile.name == "smoke":
        lines += ["", "The `smoke` profile only shows that every step runs; read the numbers of a larger profile."]
    elif evidence.profile.name != "paper":
        lines += ["", f"Measured in the `{evidence.profile.name}` profile ({evidence.profile.purpose})."]
    return "\n".join(lines)


def because(line: pd.Series) -> str:
    return f" ({line['reason']})" if line["reason"] and line["verdict"] != "holds" else ""


def headlines(evidence: Evidence) -> pd.DataFrame:
    """The headline claims, points: ours under the one measure fixed for each with its interval and p (Holm-adjusted among them), the
    smallest difference it can find, and the same pair as published."""
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


def scale(evidence: Evidence) -> str:
    """On what the explorations were measured, as the title of a figure."""
    profile, seeds = evidence.profile, ", ".join(map(str, evidence.planned_seeds))
    changed = f" ({profile.changes})" if profile.changes else ""
    return (f"profile {profile.name}{changed}, {profile.network.backbone} family at {profile.network.image_size} pixels, "
            f"{profile.dataset}, seeds {seeds}")  # fmt: skip
