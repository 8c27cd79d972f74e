"""Every claim of a paper with the comparison that tests it, and a verdict per protocol, computed from outcomes alone.

`published/claims.csv` names the claims, their place in the text and their test (`TESTS`). A stand-in earns no verdict, and no
undertrained network.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from fpdlib import statistics
from fpdlib.errors import NotComputed, choose
from fpdlib.report import verdicts
from fpdlib.report.measures import FEW, undertrained
from fpdlib.report.verdicts import NOT_TESTED, PROTOCOLS, Verdict
from fpdlib.results.evidence import Evidence


@dataclass(frozen=True)
class Test:
    """How a claim is tested. by_protocol: its verdict depends on the attacks. trained: the networks it compares, as a function of
    the claim; if one is undertrained, nothing is decided."""

    run: Callable[[Evidence, pd.Series, str], Verdict]
    by_protocol: bool = False
    trained: Callable[[pd.Series], tuple[str, ...]] = lambda claim: ()


def compared(claim: pd.Series) -> tuple[str, ...]:
    return tuple(name for name in (claim["better"], claim["worse"]) if name)


def printed(claim: pd.Series) -> float:
    """The size that the paper states, in points, or nan."""
    return float(claim["printed"]) if claim["printed"] else float("nan")


TESTS = {
    "order": Test(lambda e, c, p: verdicts.order(e, c["better"], c["worse"], c["where"], p, printed(c)), True, compared),
    "table1": Test(lambda e, c, p: verdicts.table1_pair(e, c["better"], c["worse"], c["where"], p, printed(c)), True),
    "exploration": Test(lambda e, c, p: verdicts.exploration(e, c["better"], p), True),
    "families": Test(lambda e, c, p: verdicts.families(e, p), True),
    "clean": Test(lambda e, c, p: verdicts.clean_accuracy(e, c["better"], c["worse"])),
    "labels": Test(lambda e, c, p: verdicts.clean_accuracy(e, c["better"], c["worse"], bound=0.0)),
    "cost": Test(lambda e, c, p: verdicts.training_cost(e.paper, c["better"], c["worse"], c["where"])),
    "masking": Test(lambda e, c, p: verdicts.masking(e, c["better"], c["worse"]), trained=compared),
    "fails": Test(lambda e, c, p: verdicts.attacks_fail(e, c["better"]), trained=compared),
    "time": Test(lambda e, c, p: verdicts.attack_cost(e, c["better"], c["worse"]), trained=compared),
    "between-attacks": Test(lambda e, c, p: verdicts.between_attacks(e, c["where"], c["better"], c["worse"]),
                            trained=lambda c: (c["where"],)),
    "adaptive": Test(lambda e, c, p: verdicts.adaptive(e, c["where"], c["better"], c["worse"]), trained=lambda c: (c["where"],)),
    "restoration": Test(lambda e, c, p: verdicts.restored(e, c["better"], c["worse"]), trained=lambda c: ("F",)),
    "accurate": Test(lambda e, c, p: verdicts.more_accurate(e, c["better"], c["worse"]), trained=compared),
    "smoothness": Test(lambda e, c, p: verdicts.smoother(e, c["better"], c["worse"]), trained=compared),
    "neighbourhood": Test(lambda e, c, p: verdicts.stable(e, c["better"], c["worse"]), trained=compared),
    "less": Test(lambda e, c, p: verdicts.less(e.paper, e.profile, c["better"], c["worse"], c["where"])),
    "filter": Test(lambda e, c, p: verdicts.filtered(e, c["better"]), trained=compared),
    "theorem": Test(lambda e, c, p: verdicts.theorem_holds()),
    "lipschitz": Test(lambda e, c, p: verdicts.lipschitz()),
    "squeezed": Test(lambda e, c, p: verdicts.squeezed()),
    "arithmetic": Test(lambda e, c, p: verdicts.arithmetic(c["where"], c["better"], c["worse"], c["printed"])),
    "printed-clean": Test(lambda e, c, p: verdicts.printed_clean(c["where"], c["better"], c["worse"])),
}  # fmt: skip


def judge(claim: pd.Series, evidence: Evidence, protocol: str) -> Verdict:
    """The verdict of one claim under one protocol. No stand-in earns one, no undertrained network, and no one or two seeds."""
    test = TESTS[claim["test"]]
    try:
        here = evidence.at(claim["setting"]) if claim["setting"] else evidence
        if claim["setting"] and here.profile.stand_in:
            return Verdict(NOT_TESTED, reason=f"stand-in data ({here.profile.dataset})")
        found = test.run(here, claim, protocol)
        weak = [name for name in test.trained(claim) if undertrained(here, here.paper.variant(name))]
    except NotComputed:
        return Verdict(NOT_TESTED, reason=f"not computed in this profile ({claim['setting']})")
    if weak and found.verdict != NOT_TESTED:
        return replace(found, verdict="not decided", weaker=False, reason=f"undertrained: {', '.join(weak)}")
    if 0 < found.seeds < statistics.SEEDS and found.verdict in ("holds", "does not hold"):
        return replace(found, verdict="not decided", weaker=False, reason="; ".join(part for part in (FEW, found.reason) if part))
    return found


def verify(evidence: Evidence, only: tuple[str, ...] = ()) -> pd.DataFrame:
    """A line per claim and protocol ('any' where no attack decides)."""
    lines, claims = [], evidence.paper.claims()
    for name in only:
        choose("claim", name, claims["id"])
    for _, claim in claims.iterrows():
        if only and claim["id"] not in only:
            continue
        for protocol in PROTOCOLS if TESTS[claim["test"]].by_protocol else ("any",):
            found = judge(claim, evidence, protocol)
            lines.append({"id": claim["id"], "place": claim["place"], "claim": claim["claim"], "protocol": protocol,
                          "profile": evidence.profile.name, **vars(found)})  # fmt: skip
    return pd.DataFrame(lines)


def readable(table: pd.DataFrame) -> pd.DataFrame:
    """One line per claim: its verdict under each protocol with effect and interval; 'any' where it is tested in one way only."""
    cells = table.assign(said=table.apply(spoken, axis=1)).pivot(index=["claim", "place", "id"], columns="protocol", values="said")
    cells = cells.reindex(columns=[*PROTOCOLS, "any"]).loc[
        list(dict.fromkeys(zip(table["claim"], table["place"], table["id"], strict=True)))
    ]
    return cells.fillna("").reset_index().drop(columns="id").rename_axis(columns=None)


def spoken(line: pd.Series) -> str:
    """A verdict with its numbers and its reason, in a line."""
    text = f"**{line['verdict']}{', weaker than claimed' if line['weaker'] else ''}**"
    if np.isfinite(line["effect"]):
        interval = "" if line["low"] == line["high"] else f" [{line['low']:.3g}, {line['high']:.3g}]"
        sign = "+" if line["unit"].startswith(("points", "dB")) else ""
        text += f" {line['effect']:{sign}.3g}{interval} {line['unit']}"
        text += f", n={line['n']}" if line["n"] > 1 else ""
        text += f", {line['seeds']} seed{'s' if line['seeds'] > 1 else ''}" if line["seeds"] else ""
        text += f", can find {line['smallest']:.2g}" if np.isfinite(line["smallest"]) else ""
    if np.isfinite(line["size"]):
        text += f"; {line['size']:.2g} [{line['size_low']:.2g}, {line['size_high']:.2g}] times the paper's"
    return text + (f" ({line['reason']})" if line["reason"] else "")
