"""The answer in five sentences, from the table of verdicts; nothing of it is typed."""

from __future__ import annotations

import numpy as np
import pandas as pd

from fpdlib.errors import NotComputed
from fpdlib.report.measures import by_seed, clean, measurement, reach
from fpdlib.report.verdicts import NOT_TESTED
from fpdlib.results.evidence import Evidence


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
    several = {"holds": "hold", "does not hold": "do not hold", "not decided": "are not decided", NOT_TESTED: "are not tested"}
    one = {"not decided": "is not decided", NOT_TESTED: "is not tested"}
    counts = words.value_counts()
    return ", ".join(f"{count} {several[word] if count > 1 else one.get(word, word)}"
                     for word, count in ((word, counts.get(word, 0)) for word in several) if count)  # fmt: skip


def alone(evidence: Evidence, name: str = "F") -> str:
    """What one network keeps, before it is compared with any: a fact about the seeds that are there ('' if none is)."""
    measure = "worst/linf" if "sound/linf" in evidence.profile.attacks else "worst"
    try:
        worst, eps = measurement(evidence, name, measure), reach(evidence, measure.replace("worst", "radius"))
    except NotComputed:
        return ""
    half = ""
    if measure == "worst":
        half = f"; half of the images fall to a perturbation of {np.median(by_seed(evidence, name, 'radius')) * eps:.3f}"
    return (
        f" {name} alone: {clean(evidence, name)['value']:.1f} % of clean images right, in the worst case within eps {eps:.3g} "
        f"(L-inf) **{worst['value']:.1f} %** [{worst['low']:.1f}, {worst['high']:.1f}] (n = {worst['n']}, {worst['seeds']} seed"
        f"{'s' if worst['seeds'] > 1 else ''}){half}."
    )


def answer(claims: pd.DataFrame, mnist: str = "", caltech: str = "") -> str:
    """The paper's main claims in five sentences, from the table of verdicts (`claims.verify`), as a Markdown list; mnist, caltech:
    what F keeps there (`alone`)."""
    by = claims.set_index(["id", "protocol"])

    def protocols(claim: str) -> str:
        words = {"published": "as published", "current": "with today's library", "sound": "in the worst case"}
        return "; ".join(f"{word} {said(by.loc[(claim, protocol)])}" for protocol, word in words.items())

    table1 = claims[claims["id"].str.startswith("table1-")]
    explored = [f"{word} {tally(table1.loc[table1['protocol'] == protocol, 'verdict'])}" for protocol, word in
                (("published", "by the paper's own average"), ("sound", "by the radius of each image"))]  # fmt: skip
    # the strongest protocol that tests a claim speaks for it
    strength = claims.assign(strength=claims["protocol"].map({"published": 1, "current": 2, "sound": 3, "any": 3}))
    tested = strength[strength["verdict"] != NOT_TESTED].sort_values("strength").groupby("id")["verdict"].last()
    of_all = pd.concat([tested, pd.Series([NOT_TESTED] * (claims["id"].nunique() - len(tested)))])
    sentences = (
        f"**Robust without adversarial training, on MNIST?** F against the plain CNN: {protocols('robust-mnist')}.{mnist}",
        f"**On Caltech-101?** F against the plain CNN: {protocols('resists-caltech101')}.{caltech}",
        f"**Do the design choices of Table 1 help?** Of its eight explorations, {'; '.join(explored)}.",
        "**What does it cost?** Clean accuracy within one point of the plain CNN's: on MNIST "
        f"{said(by.loc[('clean-mnist', 'any')])}, on Caltech-101 {said(by.loc[('clean-caltech101', 'any')])}; training cheaper than "
        f"adversarial training: {said(by.loc[('cheaper', 'any')])}.",
        f"**And all of it?** Of {claims['id'].nunique()} claims, in the strongest protocol that tests each: {tally(of_all)} (for "
        "want of data or computing).",
    )
    return "\n".join(f"{number}. {sentence}" for number, sentence in enumerate(sentences, 1))
