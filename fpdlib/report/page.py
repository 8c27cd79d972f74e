"""The report: one page that opens from disk, made of what the notebooks published, and the notebooks as pages beside it."""

import base64
import json
import logging
from html import escape
from pathlib import Path

import jinja2
import nbformat
import numpy as np
import pandas as pd
from nbconvert import HTMLExporter
from nbconvert.filters import markdown2html

from fpdlib.files import project_folder, replace_file
from fpdlib.paper import FPD, published
from fpdlib.report import publish
from fpdlib.report.figures import COLOURS
from fpdlib.results.committed import Committed

PROTOCOL = {"published": "as published", "current": "today's library", "sound": "worst case", "any": "no attack decides"}
NO_WORDS = "No description has been provided for this image"  # of nbconvert's
HATCHED = "Accuracy in percent: the paper, ours in each protocol, the worst case. Hatched: masked, undertrained, or on a stand-in."
PICTURES = {
    "claims": ("Every claim that is a difference in points",
               "Ours with its 95 % interval; a tick is the size that the paper states; right of 0 is what it claims."),
    "headlines": ("The headline claims",
                  "What we consider the paper's main comparisons; inside the grey band a difference is below what they find."),
    **{f"table{n}": (f"Table {n} ({data})", HATCHED) for n, data in enumerate(("MNIST", "MNIST", "SVHN", "SVHN"), 1)},
    "scale": ("The paper's ResNet-101 beside the small network",
              "MNIST, L-inf eps 0.3: above the line as published, below it today's library and the worst case."),
    "scale_headlines": ("The headline comparisons over scale",
                        "MNIST, points of area (the last: of accuracy); right of 0 is the paper's order."),
    "longer": ("O and F trained for longer",
               "MNIST, L-inf eps 0.3, over the epochs of training; a mark is a trained network; dotted: what the paper prints."),
    "caltech": ("Caltech (text)", "What PGD as published leaves (o), the worst case (|), and what the paper prints (x)."),
}  # fmt: skip
# The README's tables: (id, title)
FRONT = {"glance": ("kept", "What O and F keep"), "longer_glance": ("longer", "F trained for longer, attack by attack")}
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
    verdicts = pd.read_csv(folder / "tables" / "claims.csv", keep_default_na=False, na_values=[""])
    target, evidence = folder / "report", Committed(project_folder("results", "FPD_RESULTS") / profile / "evidence")
    pages = notebooks(profile, target / "notebooks")
    claims = verdicts.merge(published.claims()[["id", "test", "setting"]], on="id")
    template = jinja2.Template(Path(__file__).with_name("report.html").read_text(), autoescape=True)
    html = template.render(
        profile=FPD.profiles[profile], answer=markdown2html((folder / "tables" / "answer.md").read_text()),
        claims=lines(claims, pages),
        verdicts=[word for word in COLOURS if word in set(claims["verdict"])], protocols=PROTOCOL, colours=COLOURS,
        places=list(dict.fromkeys(map(table_of, claims["place"]))), pictures=pictures(folder), pages=pages,
        tables=front(folder), provenance=provenance(evidence), networks=checkpoints(evidence),
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


def front(folder: Path) -> list[tuple[str, str, str, str]]:
    """(id, title, table, what it shows) of the front page's tables that the notebooks published."""
    found = []
    for name, (mark, title) in FRONT.items():
        path = folder / "tables" / f"{name}.md"
        parts = path.read_text().strip().split("\n\n") if path.exists() else []
        if table := next((part for part in parts if part.startswith("|")), ""):
            words = next((part for part in reversed(parts) if part != table), "")
            found.append((mark, title, markdown2html(table), markdown2html(words)))
    return found


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


def pictures(folder: Path) -> list[tuple[str, str, str]]:
    """(title, what it shows, PNG as base64) of the figures that the notebooks published."""
    files = [(title, words, folder / "figures" / f"{name}.png") for name, (title, words) in PICTURES.items()]
    return [(title, words, base64.b64encode(file.read_bytes()).decode()) for title, words, file in files if file.exists()]


def checkpoints(evidence: Committed) -> list[dict]:
    """The networks whose weights are committed: specification, clean accuracy, checksum."""
    found = []
    for path in sorted((evidence.folder.parent / "checkpoints").glob("*.safetensors")):
        if evidence.has(path.stem):
            entry = evidence.entry(path.stem)
            test, spec = entry["meta"]["test"], entry["meta"]["spec"]["network"]
            changed = {key: value for key, value in spec.items() if value not in ([], (), False, "none", 0.0)}
            found.append({"name": evidence.results[path.stem]["network"], "clean": 100 * test["correct"] / test["images"],
                          "n": test["images"], "sha256": entry["sha256"]["model.safetensors"],
                          "megabytes": path.stat().st_size / 1e6, "spec": json.dumps(changed)})  # fmt: skip
    return found


def provenance(evidence: Committed) -> list[dict]:
    """Code, hardware and libraries of the evidence, and how many results each made."""
    metas = [evidence.entry(key)["meta"] for key in evidence.results]
    metas = pd.json_normalize([meta["provenance"] | {"seconds": meta["seconds"]} for meta in metas])
    if metas.empty:
        return []
    metas = metas.assign(day=metas["finished"].str[:10], hours=metas["seconds"] / 3600, torch=metas["libraries.torch"])
    made = metas.groupby(["code", "hardware", "python", "torch"], sort=False).agg(
        results=("hours", "size"), hours=("hours", "sum"), first=("day", "min"), last=("day", "max")
    )
    return made.reset_index().to_dict("records")
