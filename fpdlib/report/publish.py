"""The results folder: every table and figure of a profile as files, and the parts of them that pages show."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd

from fpdlib.errors import FPDError
from fpdlib.files import replace_file, writing
from fpdlib.paper.experiments import EXPLORATIONS, variants_of
from fpdlib.report import answer, claims, explorations, figures, tables
from fpdlib.results.evidence import Evidence


@dataclass(frozen=True)
class Table:
    """frame: every number; shown: the same for people (None: the numbers only are written); words: the caption."""

    name: str
    frame: pd.DataFrame
    shown: pd.DataFrame | None = None
    words: str = ""

    def write(self, target: Path) -> None:
        """`<name>.csv`, and `<name>.md` for people, under `target/tables`."""
        with writing(target):
            (target / "tables").mkdir(parents=True, exist_ok=True)
            self.frame.to_csv(target / "tables" / f"{self.name}.csv", index=False, float_format="%.6g")
            if self.shown is not None:
                text = f"{self.words}\n\n{self.shown.to_markdown(index=False)}\n"
                (target / "tables" / f"{self.name}.md").write_text(text)


@dataclass(frozen=True)
class Figure:
    name: str
    figure: plt.Figure

    def write(self, target: Path) -> None:
        """`<name>.png` under `target/figures`; the figure is closed."""
        with writing(target):
            (target / "figures").mkdir(parents=True, exist_ok=True)
            self.figure.savefig(target / "figures" / f"{self.name}.png", dpi=110)
        plt.close(self.figure)


def table1(evidence: Evidence) -> Iterator[Table | Figure]:
    here, cells = (
        evidence.at("table1"),
        ", L-inf eps 0.3, 40 steps of 0.01; curve area: under the robustness curve over eps 0 to 0.3, from radii; * another reading",
    )
    words = tables.caption(here, cells)
    frame = tables.table1(here)
    yield Table("table1", frame, tables.readable(frame), words)
    main = explorations.headlines(here)
    yield Table("headlines", main, explorations.narrow_headlines(main), explorations.terms(here))
    yield Figure("headlines", figures.plot_headlines(main, explorations.scale(here, brief=True)))
    ordered = explorations.order(here)
    yield Table("order", ordered, explorations.narrow(ordered), explorations.scale(here))
    yield Figure("order", figures.plot_order(ordered, explorations.scale(here, brief=True)))
    yield Table("pairs", pd.concat([explorations.comparisons(here, e) for e in EXPLORATIONS], ignore_index=True))
    there = [name for name in variants_of() if here.seeds(name)]
    points = [figures.curve_points(here, name).assign(network=name) for name in there]
    yield Table("curves", pd.concat(points, ignore_index=True))
    for number, exploration in enumerate(EXPLORATIONS, 1):
        names = dict.fromkeys(n for pair in exploration.pairs + exploration.readings for n in pair)
        yield Figure(f"curve-{number}", figures.plot_curves(here, names, exploration.section))


CELLS = "; cells are paper / published / current"


def table2(evidence: Evidence) -> Iterator[Table]:
    here = evidence.at("table2")
    frame, words = tables.table2(here), tables.caption(here, CELLS)
    yield Table("table2", frame, tables.readable_attacks(frame), words)
    yield Table("table2_times", tables.times(frame), tables.times(frame).round(1), words)


def table3(evidence: Evidence) -> Iterator[Table | Figure]:
    frame = tables.table3(evidence)
    keep = ["target", "substitute", "column", "protocol", "clean", "undertrained", "paper", "value", "low", "high", "n", "masked"]
    yield Table("table3", frame, frame[keep].round(1), tables.caption(evidence.at("transfer-resnet101")))
    for protocol in ("published", "current", "sound"):
        yield Figure(f"table3-{protocol}", figures.plot_matrix(tables.matrix(frame, protocol)))


def table4(evidence: Evidence) -> Iterator[Table]:
    frame = tables.table4(evidence)
    yield Table("table4", frame, tables.readable_attacks(frame), tables.caption(evidence.at("svhn-resnet101"), CELLS))


def caltech(evidence: Evidence) -> Iterator[Table]:
    frame, words = tables.caltech(evidence), tables.caption(evidence.at("caltech101"))
    yield Table("caltech", frame, frame.drop(columns=["seeds", "seed_min", "seed_max"]).round(1), words)


def known_answer(evidence: Evidence) -> Iterator[Table]:
    here = evidence.at("anchor")
    frame = tables.known_answer(here)
    words = (
        f"Profile {here.profile.name}, {here.profile.dataset}, L-inf eps 0.3 on 28 x 28 images, accuracy in percent with "
        "Wilson 95 % intervals; broken by: images that each part of the attack broke, in the order in which they run, each on what "
        "the parts before it left."
    )
    yield Table(
        "anchor",
        frame,
        frame[["network", "seed", "attack", "clean", "value", "low", "high", "n", "masked", "broken by"]].round(1),
        words,
    )


@dataclass(frozen=True)
class Answer:
    """The answer in five sentences."""

    text: str

    def write(self, target: Path) -> None:
        with writing(target):
            (target / "tables").mkdir(parents=True, exist_ok=True)
            (target / "tables" / "answer.md").write_text(self.text + "\n")


def verdicts(evidence: Evidence) -> Iterator[Table | Answer]:
    frame = claims.verify(evidence)
    tested = frame[frame["verdict"] != claims.NOT_TESTED]
    counts = tested.groupby("protocol")["verdict"].value_counts().unstack(fill_value=0)
    tally = "; ".join(
        f"{protocol}: " + ", ".join(f"{number} {verdict}" for verdict, number in row.items() if number)
        for protocol, row in counts.iterrows()
    )
    seeds = ", ".join(map(str, evidence.planned_seeds))
    words = f"Profile {evidence.profile.name}, seeds {seeds}; {frame['id'].nunique()} claims. Tested: {tally}."
    yield Table("claims", frame, claims.readable(frame), words)
    yield Answer(answer.answer(frame, *(answer.alone(evidence.at(name)) for name in ("table1", "caltech101"))))


def spoken(shown: pd.DataFrame) -> str:
    """The claims for a terminal: a claim a line, its verdicts under it."""
    lines = []
    for _, line in shown.iterrows():
        lines.append(f"{line['claim']}  [{line['place']}]")
        lines += [f"    {p:9} {line[p].replace('**', '')}" for p in claims.PROTOCOLS if line[p]]
    return "\n".join(lines)


# What `python -m fpdlib table` shows, by name -> what makes its files; the first is printed.
TABLES: dict[str, Callable[[Evidence], Iterator[Table | Figure | Answer]]] = {
    "1": table1, "2": table2, "3": table3, "4": table4, "caltech": caltech, "known-answer": known_answer, "claims": verdicts,
}  # fmt: skip


def include(page: Path) -> bool:
    """Refresh the parts of a Markdown page between `<!-- begin FILE -->` and `<!-- end -->` from those files.

    Paths are relative to the page. Returns whether the page changed. Raises FPDError if a file is missing.
    """

    def fresh(match: re.Match) -> str:
        source = page.parent / match[1]
        if not source.exists():
            raise FPDError(f"{page} includes {match[1]}, which does not exist; run the command that writes it first.")
        return f"<!-- begin {match[1]} -->\n{source.read_text().strip()}\n<!-- end -->"

    if not page.exists():
        raise FPDError(f"{page} does not exist; run this in the project's root, or name the Markdown files to refresh.")
    before = page.read_text()
    after = re.sub(r"<!-- begin (\S+) -->.*?<!-- end -->", fresh, before, flags=re.DOTALL)
    if after != before:
        replace_file(page, lambda path: path.write_text(after))
    return after != before
