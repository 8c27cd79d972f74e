"""Execute the notebooks in place on laptop's committed evidence: `python tools/refresh_notebooks.py [01-placement ...]`.

They compute nothing (FPD_COMPUTE=0), keep every output, so that opening one shows its answer, and publish the tables and figures of
`results/laptop`. A cell that wrote to stderr is an error: a reader would see a red block.
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
        done = papermill.execute_notebook(
            path, Path(scratch) / path.name, progress_bar=False, log_output=False, kernel_name="python3"
        )
        for cell, ran in zip(book.cells, done.cells, strict=True):
            if cell.cell_type == "code":
                red = [output["text"] for output in ran.outputs if output.get("name") == "stderr"]
                if red:
                    sys.exit(f"error: {path.name} wrote to stderr:\n{''.join(red)}\nin the cell\n{cell.source}")
                cell.outputs, cell.execution_count = ran.outputs, ran.execution_count
        nbformat.write(book, path)
        print(f"{path.name}: {path.stat().st_size // 1000} KB", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
