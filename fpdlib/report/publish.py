"""The results folder: the tables and figures that notebooks publish, and the parts of them that pages show."""

import re
from pathlib import Path

import pandas as pd

from fpdlib.errors import FPDError, NotComputed
from fpdlib.files import project_folder, replace_file

# The paper's table, or what else a notebook publishes -> (files, the notebook).
TABLES = {
    "1": (("table1", "headlines", "order"), "08-table1"), "2": (("table2",), "09-table2"), "3": (("table3",), "10-table3"),
    "4": (("table4",), "11-table4"), "caltech": (("caltech",), "12-caltech"), "known-answer": (("anchor",), "14-is-it-real"),
    "claims": (("claims",), "17-beyond"), "answer": (("answer",), "18-answers"),
    "glance": (("glance",), "18-answers"), "scale": (("scale_answer", "scale"), "20-scale"),
    "longer": (("longer_glance", "longer"), "21-longer"), "f4ib": (("f4ib",), "06-inner-layers"),
}  # fmt: skip


def results_folder(profile: str) -> Path:
    """Where a profile's tables and figures go: FPD_PUBLISH, else FPD_RESULTS, else `results/`, and the profile's name."""
    return (project_folder(str(project_folder("results", "FPD_RESULTS")), "FPD_PUBLISH") / profile).resolve()


def table(folder: Path, name: str, frame: pd.DataFrame, shown: pd.DataFrame | None = None, words: str = "") -> None:
    """`tables/<name>.csv` with every number, and `tables/<name>.md` with `shown` for people under its caption."""
    replace_file(folder / "tables" / f"{name}.csv", lambda path: frame.to_csv(path, index=False, float_format="%.6g"))
    if shown is not None:
        page(folder, name, f"{words}\n\n{shown.to_markdown(index=False)}")


def page(folder: Path, name: str, text: str) -> None:
    """`tables/<name>.md`."""
    replace_file(folder / "tables" / f"{name}.md", lambda path: path.write_text(text.strip() + "\n"))


def read(profile: str, number: str) -> str:
    """What the notebook of a table published for a profile. NotComputed if it has not."""
    names, notebook = TABLES[number]
    files = [results_folder(profile) / "tables" / f"{name}.md" for name in names]
    if not all(file.exists() for file in files):
        gone = ", ".join(file.name for file in files if not file.exists())
        raise NotComputed(
            f"{files[0].parent} has no {gone}; `papermill notebooks/{notebook}.ipynb out.ipynb -p profile {profile}` "
            f"publishes it, after `python -m fpdlib work --profile {profile}`."
        )
    return "\n\n".join(file.read_text().strip() for file in files)


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
