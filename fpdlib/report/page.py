"""The report: one page that opens from disk, made of what the notebooks published, and the notebooks as pages beside it."""

from __future__ import annotations

import io
import json
import logging
from html import escape
from pathlib import Path

import jinja2
import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pandas as pd
from nbconvert import HTMLExporter

from fpdlib.files import project_folder, replace_file
from fpdlib.paper import FPD, published
from fpdlib.report import publish
from fpdlib.report.figures import COLOURS, forest, forest_legend, heat
from fpdlib.report.tables import COLUMNS
from fpdlib.report.verdicts import NOT_TESTED, PROTOCOLS
from fpdlib.results.committed import Committed

PROTOCOL = {"published": "as published", "current": "today's library", "sound": "worst case", "any": "no attack decides"}
NO_WORDS = "No description has been provided for this image"  # of nbconvert's
# Where a claim is looked into: by its test, else its setting; what is left is in the notebook of all claims.
NOTEBOOK = {
    "arithmetic": "16-forensics", "printed-clean": "16-forensics", "theorem": "15-theorem1", "lipschitz": "15-theorem1",
    "squeezed": "15-theorem1", "restoration": "13-figure5", "accurate": "07-training", "masking": "14-is-it-real",
    "exploration": "08-table1", "table1": "08-table1", "table2": "09-table2", "transfer": "10-table3", "svhn": "11-table4",
    "caltech101": "12-caltech", "caltech256": "12-caltech",
}  # fmt: skip


def write(profile: str) -> Path:
    """`results/<profile>/report/index.html` and the pages of its notebooks. NotComputed if no notebook has published verdicts."""
    folder = publish.results_folder(profile)
    publish.read(profile, "answer")
    publish.read(profile, "claims")
    tables = {path.stem: pd.read_csv(path, keep_default_na=False, na_values=[""]) for path in (folder / "tables").glob("*.csv")}
    target = publish.made(folder / "report")
    pages = notebooks(profile, publish.made(target / "notebooks"))
    claims = tables["claims"].merge(published.claims()[["id", "test", "setting"]], on="id")
    verdicts = [word for word in COLOURS if word in set(claims["verdict"])]
    template = jinja2.Environment(loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True).get_template("report.html")
    html = template.render(
        profile=FPD.profiles[profile], answer=sentences((folder / "tables" / "answer.md").read_text()), claims=lines(claims, pages),
        verdicts=verdicts, protocols=PROTOCOL, colours=COLOURS, places=list(dict.fromkeys(map(table_of, claims["place"]))),
        pictures=pictures(tables, claims), pages=pages, provenance=provenance(profile), **checkpoints(profile),
    )  # fmt: skip
    replace_file(target / "index.html", lambda path: path.write_text(html))
    return target / "index.html"


def notebooks(profile: str, folder: Path) -> dict[str, str]:
    """Every notebook as a page, name -> title: as `make reproduce` rendered it for this profile, else as it is committed."""
    titles, committed = {}, project_folder("notebooks", "FPD_NOTEBOOKS")
    exporter = HTMLExporter(mathjax_url="", require_js_url="", exclude_input_prompt=True, exclude_output_prompt=True)
    exporter.log.setLevel(logging.ERROR)  # that pictures have no words: they get some
    for source in sorted(committed.glob("[0-9][0-9]-*.ipynb")):
        rendered = project_folder("build", "FPD_BUILD") / profile / source.name
        book = nbformat.read(rendered if rendered.exists() else source, 4)
        if not rendered.exists() and profile != "laptop":  # as committed it shows laptop
            continue
        html, _ = exporter.from_notebook_node(book)
        for words in described(book):
            html = html.replace(f'alt="{NO_WORDS}"', f'alt="{escape(words)}"', 1)
        replace_file(folder / f"{source.stem}.html", lambda path, html=html: path.write_text(html))
        titles[source.stem] = book.metadata.get("title", source.stem)
    return titles


def described(book: nbformat.NotebookNode) -> list[str]:
    """Of every picture the heading above it, for readers who do not see it."""
    heading, found = "", []
    for cell in book.cells:
        if cell.cell_type == "markdown" and cell.source.startswith("#"):
            heading = cell.source.splitlines()[0].lstrip("# ")
        found += [heading for output in cell.get("outputs", []) if "image/png" in output.get("data", {})]
    return found


def sentences(markdown: str) -> list[tuple[str, str]]:
    """The answer as (question, sentence)."""
    plain = [line.split(". ", 1)[1].replace("*", "") for line in markdown.splitlines() if line[:1].isdigit()]
    return [tuple(part.strip() for part in line.split("?", 1)) for line in plain]


def table_of(place: str) -> str:
    """The table or figure that a claim's place names, else 'text'."""
    named = [part for part in place.replace(",", ";").split(";") if part.strip().startswith(("Table", "Fig"))]
    return " ".join(named[0].split()[:2]) if named else "text"


def lines(claims: pd.DataFrame, pages: dict[str, str]) -> list[dict]:
    """A line per claim: its verdict per protocol, the numbers behind each, and its notebook."""
    found = []
    for (name, claim, place), group in claims.groupby(["id", "claim", "place"], sort=False):
        test, setting = group["test"].iloc[0], group["setting"].iloc[0]
        notebook = next((NOTEBOOK[key] for key in (test, setting, str(setting).split("-")[0]) if key in NOTEBOOK), "17-beyond")
        numbers = [
            {"protocol": line["protocol"], "verdict": line["verdict"], "reason": line["reason"] if pd.notna(line["reason"]) else "",
             "effect": known(line["effect"], f"{line['effect']:+.3g} [{line['low']:.3g}, {line['high']:.3g}] {line['unit']}"),
             "size": known(line["size"], f"{line['size']:.2g} times the paper's"), "n": line["n"], "seeds": line["seeds"],
             "smallest": known(line["smallest"], f"{line['smallest']:.2g}")}
            for _, line in group.iterrows()
        ]  # fmt: skip
        found.append({"id": name, "claim": claim, "place": place, "table": table_of(place), "numbers": numbers,
                      "notebook": notebook if notebook in pages else ""})  # fmt: skip
    return found


def known(number: float, text: str) -> str:
    return "" if np.isnan(number) else text


def svg(figure: plt.Figure) -> str:
    """A figure as the inside of a page."""
    text = io.StringIO()
    with plt.rc_context({"svg.hashsalt": "fpd"}):
        figure.savefig(text, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    plt.close(figure)
    return text.getvalue()[text.getvalue().index("<svg") :]


def pictures(tables: dict[str, pd.DataFrame], claims: pd.DataFrame) -> list[tuple[str, str, str]]:
    """(title, what it shows, SVG): all claims, then Tables 1 to 4 as heat maps."""
    found = [
        (
            "Every claim that is a difference in points",
            "Ours with its 95 % interval; a tick is the size that the paper states; right of 0 is what it claims.",
            all_claims(claims),
        )
    ]
    for number, (data, index) in enumerate((("MNIST", "network"), ("MNIST", "network"), ("SVHN", "target"), ("SVHN", "network")), 1):
        name, title = f"table{number}", f"Table {number} ({data})"
        if name in tables:
            found.append((title, "Accuracy in percent. Hatched: masked, undertrained, or measured on a stand-in.",
                          heat_maps(tables[name], index)))  # fmt: skip
    return found


def all_claims(claims: pd.DataFrame) -> str:
    points = claims[claims["unit"].str.startswith("points") & np.isfinite(claims["effect"])]
    points = points[points["protocol"].isin(PROTOCOLS)].rename(columns={"effect": "difference"})
    points = points.assign(paper=(points["difference"] / points["size"]).where(points["size"].abs() > 1e-9)).drop(columns="smallest")
    order = points["id"].drop_duplicates()
    figure, panels = plt.subplots(1, 3, figsize=(12, 0.27 * len(order) + 1.4), layout="constrained", sharey=True)
    for axes, protocol in zip(panels, PROTOCOLS, strict=True):
        part = points[points["protocol"] == protocol].set_index("id").reindex(order)
        forest(axes, part.assign(verdict=part["verdict"].fillna(NOT_TESTED)), order)
        axes.set_xscale("symlog", linthresh=5)
        axes.set_xticks([-100, -30, -10, 0, 10, 30, 100], ["-100", "-30", "-10", "0", "10", "30", "100"])
        axes.set_title(PROTOCOL[protocol])
    panels[1].set_xlabel("points")
    forest_legend(figure, points)
    return svg(figure)


def heat_maps(table: pd.DataFrame, index: str) -> str:
    """A published table as panels: the paper, as published, today's library, worst case."""
    table = wide_of_table1(table) if "paper_white_box" in table else table
    label = "substitute" if "substitute" in table else "column"
    by = {protocol: table[table["protocol"] == protocol] for protocol in PROTOCOLS}
    frames = {"the paper": (by["published"], "paper")} | {PROTOCOL[protocol]: (part, "value") for protocol, part in by.items()}
    wide = {title: part.pivot_table(index=index, columns=label, values=value, sort=False) for title, (part, value) in frames.items()}
    wide = {title: frame for title, frame in wide.items() if frame.notna().to_numpy().any()}
    rows = list(dict.fromkeys(table[index]))
    figure, panels = plt.subplots(1, len(wide), figsize=(12, 0.3 * len(rows) + 1.8), layout="constrained", sharey=True, squeeze=False,
                                  width_ratios=[frame.shape[1] for frame in wide.values()])  # fmt: skip
    for axes, (title, frame) in zip(panels[0], wide.items(), strict=True):
        part, _ = frames[title]
        doubt = part[[name for name in ("undertrained", "masked", "stand_in") if name in part]].astype(bool).any(axis=1)
        hatched = part.assign(doubt=doubt.astype(float)).pivot_table(index=index, columns=label, values="doubt", sort=False)
        shown = frame.reindex(rows)
        heat(axes, shown.rename(columns=COLUMNS), title, None if title == "the paper" else hatched.reindex_like(shown).fillna(0) > 0)
        axes.set_ylim(len(rows), 0)
    return svg(figure)


def wide_of_table1(table: pd.DataFrame) -> pd.DataFrame:
    """Table 1 with the columns of the others: its two numbers, ours in three protocols."""
    parts = []
    for measure, protocol, column, paper in (("white-box", "published", "white-box", "paper_white_box"),
                                             ("transfer-oracle", "published", "transfer", "paper_black_box"),
                                             ("current", "current", "white-box", "paper_white_box"),
                                             ("worst", "sound", "worst", "paper_white_box")):  # fmt: skip
        part = table[table["measure"] == measure]
        parts.append(part.assign(protocol=protocol, column=column, paper=part[paper]))
    return pd.concat(parts)


def checkpoints(profile: str) -> dict:
    """The networks whose weights are committed: specification, clean accuracy, checksum."""
    evidence = Committed(project_folder("results", "FPD_RESULTS") / profile / "evidence")
    found = []
    for path in sorted((evidence.folder.parent / "checkpoints").glob("*.safetensors")):
        if evidence.has(path.stem):
            entry = evidence.entry(path.stem)
            test = entry["meta"]["test"]
            changed = {
                key: value for key, value in entry["meta"]["spec"]["network"].items() if value not in ([], (), False, "none", 0.0)
            }
            found.append({"name": path.stem.rsplit("_s", 1)[0], "clean": 100 * test["correct"] / test["images"], "n": test["images"],
                          "sha256": entry["sha256"]["model.safetensors"], "megabytes": path.stat().st_size / 1e6,
                          "spec": json.dumps(changed)})  # fmt: skip
    return {"networks": found}


def provenance(profile: str) -> list[dict]:
    """Code, hardware and libraries of the evidence, and how many results each made."""
    evidence = Committed(project_folder("results", "FPD_RESULTS") / profile / "evidence")
    metas = [evidence.entry(key)["meta"] for key in evidence.results]
    where = [meta["provenance"] | {"seconds": meta["seconds"]} for meta in metas]
    if not where:
        return []
    frame = pd.DataFrame([{"code": w["code"], "hardware": w["hardware"], "python": w["python"], "torch": w["libraries"]["torch"],
                           "finished": w["finished"][:10], "hours": w["seconds"] / 3600} for w in where])  # fmt: skip
    keys = ["code", "hardware", "python", "torch"]
    made = frame.groupby(keys, sort=False).agg(
        results=("hours", "size"), hours=("hours", "sum"), first=("finished", "min"), last=("finished", "max")
    )
    return made.reset_index().to_dict("records")
