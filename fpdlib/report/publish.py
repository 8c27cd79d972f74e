"""The results folder: tables and figures, one folder a profile, and the parts of them that pages show."""

from __future__ import annotations

import re
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd

from fpdlib.errors import FPDError
from fpdlib.files import replace_file, writing
from fpdlib.paper import experiments
from fpdlib.paper.experiments import EXPLORATIONS
from fpdlib.paper.suites import BACKBONES
from fpdlib.report import claims, frontpage, measures, tables
from fpdlib.report.explorations import (
    caption,
    comparisons,
    curve_points,
    plot_curves,
    plot_restored,
    protocol_table,
    readable,
    table1,
    verdict_table,
)
from fpdlib.results.lab import Lab


def publish(labs: list[Lab], folder: Path) -> Path:
    """Write Table 1's tables and figures under `folder/<profile>`; returns that folder."""
    target, words = folder / labs[0].profile.name, caption(labs)
    table, decided, networks = table1(labs), verdict_table(labs), experiments.variants_of()
    write_table(target, "table1", table, readable(table), words)
    write_table(target, "explorations", decided, decided, words)
    ordered = frontpage.explorations(labs)
    write_table(target, "order", ordered, frontpage.narrow(ordered), frontpage.scale(labs))
    save_figure(target, "order", frontpage.plot_explorations(ordered, frontpage.scale(labs, brief=True)))
    pairs = pd.concat([comparisons(labs, e) for e in EXPLORATIONS], ignore_index=True)
    write_csv(target, "pairs", pairs)
    curves = pd.concat([curve_points(labs, name).assign(network=name) for name in networks], ignore_index=True)
    write_csv(target, "curves", curves)
    for number, exploration in enumerate(EXPLORATIONS, 1):
        names = dict.fromkeys(n for pair in exploration.pairs + exploration.readings for n in pair)
        save_figure(target, f"curve-{number}", plot_curves(labs, names, exploration.section))
    if labs[0].store.has("networks", labs[0].network_key("F"), "model.safetensors"):
        save_figure(target, "restored", plot_restored(labs[0]))
    protocols = [lab for lab in (lab.at("protocols") for lab in labs) if not lab.missing(networks)]
    if protocols:
        frame = protocol_table(protocols)
        write_table(target, "table1_protocols", frame, frame.round(1), words)
    return target


def write_csv(target: Path, name: str, frame: pd.DataFrame) -> None:
    """`name.csv` with every number under `target/tables`."""
    with writing(target):
        (target / "tables").mkdir(parents=True, exist_ok=True)
        frame.to_csv(target / "tables" / f"{name}.csv", index=False, float_format="%.6g")


def write_table(target: Path, name: str, frame: pd.DataFrame, shown: pd.DataFrame, words: str) -> None:
    """`name.csv` with every number and `name.md` for people under `target/tables`."""
    write_csv(target, name, frame)
    with writing(target):
        (target / "tables" / f"{name}.md").write_text(f"{words}\n\n{shown.to_markdown(index=False)}\n")


def save_figure(target: Path, name: str, figure: plt.Figure) -> None:
    with writing(target):
        (target / "figures").mkdir(parents=True, exist_ok=True)
        figure.savefig(target / "figures" / f"{name}.png", dpi=110)
    plt.close(figure)


def publish_comparison(labs: list[Lab], number: str, folder: Path) -> tuple[Path, pd.DataFrame, str]:
    """Write Table 2, 3, 4 or 'caltech' under `folder/<profile>`; returns that folder, the table and its caption."""
    target = folder / labs[0].profile.name
    if number == "2":
        here = [lab.at("table2") for lab in labs]
        frame, words = tables.table2(here), tables.caption(here)
        shown = tables.readable(frame)
        write_table(target, "table2_times", tables.times(frame), tables.times(frame).round(1), tables.caption(here))
    elif number == "4":
        here = [lab.at("svhn-resnet101") for lab in labs]
        frame, words = tables.table4(labs), tables.caption(here)
        shown = tables.readable(frame)
    elif number == "3":
        here = [lab.at("transfer-resnet101") for lab in labs]
        frame, words = tables.table3(labs), tables.caption(here)
        shown = frame[
            ["target", "substitute", "column", "protocol", "clean", "paper", "value", "low", "high", "n"]
        ].round(1)
        for protocol in ("published", "current", "sound"):
            save_figure(target, f"table3-{protocol}", tables.plot_matrix(frame, protocol))
    else:
        frame = tables.caltech(labs)
        words = tables.caption([lab.at("caltech101") for lab in labs])
        shown = frame.drop(columns=["seeds", "seed_min", "seed_max"]).round(1)
    write_table(target, f"table{number}" if number.isdigit() else number, frame, shown, words)
    return target, shown, words


def publish_anchor(labs: list[Lab], folder: Path) -> None:
    """Write the known answer (`anchor`), if it was computed."""
    target, lines, here = folder / labs[0].profile.name, [], [lab.at("anchor") for lab in labs]
    for lab, name in ((lab, name) for name in here[0].networks for lab in here if not lab.missing([name])):
        for attack in lab.profile.attacks:
            broken = lab.counts(name, attack)["broken"]
            lines.append({"network": name, "seed": lab.seed, "attack": attack, "clean": measures.clean([lab], name)["value"],
                          **measures.measurement([lab], name, attack),
                          "broken by": ", ".join(f"{part} {count}" for part, count in broken.items() if count)})  # fmt: skip
    if not lines:
        return
    frame = pd.DataFrame(lines).drop(columns=["seeds", "seed_min", "seed_max"])
    shown = frame[["network", "seed", "attack", "clean", "value", "low", "high", "n", "broken by"]].round(1)
    words = (
        f"Profile {labs[0].profile.name}, {here[0].profile.dataset}, L-inf eps 0.3 on 28 x 28 images, accuracy in percent with "
        "Wilson 95 % intervals; broken by: images that each part of the attack broke, in the order in which they run, each on what "
        "the parts before it left."
    )
    write_table(target, "anchor", frame, shown, words)


COMPARED = {
    "2": ("table2",), "3": tuple(f"transfer-{b}" for b in BACKBONES), "4": tuple(f"svhn-{b}" for b in BACKBONES),
    "caltech": ("caltech101", "caltech256"),
}  # fmt: skip


def publish_claims(labs: list[Lab], folder: Path) -> tuple[Path, pd.DataFrame]:
    """Write the verdict on every claim under `folder/<profile>`; returns that folder and the table."""
    target = folder / labs[0].profile.name
    frame = claims.verify(labs)
    tested = frame[frame["verdict"] != claims.NOT_TESTED]
    counts = tested.groupby("protocol")["verdict"].value_counts().unstack(fill_value=0)
    tally = "; ".join(
        f"{protocol}: " + ", ".join(f"{number} {verdict}" for verdict, number in row.items() if number)
        for protocol, row in counts.iterrows()
    )
    seeds = ", ".join(str(lab.seed) for lab in labs)
    words = f"Profile {labs[0].profile.name}, seeds {seeds}; {frame['id'].nunique()} claims. Tested: {tally}."
    publish_anchor(labs, folder)
    write_table(target, "claims", frame, claims.readable(frame), words)
    with writing(target):
        (target / "tables" / "answer.md").write_text(frontpage.answer(frame) + "\n")
    return target, frame


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
