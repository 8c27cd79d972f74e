"""Refresh the outputs that nbval compares: `python tools/refresh_notebooks.py [executed-folder]`.

Takes executed notebooks (default: build/smoke, where `make reproduce` leaves them) and writes into `notebooks/` the outputs
of the cells tagged `nbval-check-output` alone; every other cell is left without output.
"""

import sys
from pathlib import Path

import nbformat

ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    executed = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "build" / "smoke"
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        book = nbformat.read(path, 4)
        done = {cell.id: cell for cell in nbformat.read(executed / path.name, 4).cells}
        for cell in book.cells:
            if cell.cell_type != "code":
                continue
            keep = "nbval-check-output" in cell.metadata.get("tags", [])
            cell.outputs = done[cell.id].outputs if keep else []
            cell.execution_count = 1 if keep else None  # nbval compares only cells that were run
            for output in cell.outputs:
                if "execution_count" in output:
                    output["execution_count"] = 1
        nbformat.write(book, path)
        print(path.name)


if __name__ == "__main__":
    main()
