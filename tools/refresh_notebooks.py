"""Refresh the outputs that nbval compares: `python tools/refresh_notebooks.py`.

Runs every notebook as `make test` does (on committed evidence, computing nothing) and keeps the outputs of the cells tagged
`nbval-check-output` alone; every other cell is left without output.
"""

import os
import sys
import tempfile
from pathlib import Path

import nbformat
import papermill

ROOT = Path(__file__).resolve().parent.parent


def main(names: list[str]) -> None:
    scratch = tempfile.mkdtemp()
    os.environ |= {"FPD_COMPUTE": "0", "FPD_STORE": scratch}
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        if names and path.stem not in names:
            continue
        book = nbformat.read(path, 4)
        done = papermill.execute_notebook(path, Path(scratch) / path.name, progress_bar=False, kernel_name="python3")
        for cell, ran in zip(book.cells, done.cells, strict=True):
            if cell.cell_type != "code":
                continue
            keep = "nbval-check-output" in cell.metadata.get("tags", [])
            cell.outputs = ran.outputs if keep else []
            cell.execution_count = 1 if keep else None  # nbval compares only cells that were run
            for output in cell.outputs:
                if "execution_count" in output:
                    output["execution_count"] = 1
        nbformat.write(book, path)
        print(path.name, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
