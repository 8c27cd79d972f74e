"""What every notebook has, and how it refuses wrong parameters. nbval runs their cells."""

import json
from pathlib import Path

import nbformat
import papermill
import pytest

from fpdlib.errors import FPDError
from fpdlib.paper.experiments import EXPLORATIONS
from fpdlib.report import notebook

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def tags(cell):
    return cell.metadata.get("tags", [])


def test_notebooks_00_to_17_are_there():
    assert [path.name[:2] for path in NOTEBOOKS] == [f"{n:02d}" for n in range(18)]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_a_notebook_has_the_house_shape(path):
    book = nbformat.read(path, 4)
    nbformat.validate(book)
    first, second = book.cells[:2]
    assert first.cell_type == "markdown" and first.source.startswith("# ") and "**The paper says**" in first.source
    assert "**Question.**" in first.source and "**Expect**" in first.source.replace("**Expect.**", "**Expect**")
    assert tags(second) == ["parameters"] and [c for c in book.cells if "parameters" in tags(c)] == [second]
    scope = {}
    exec(second.source, scope)  # plain literals
    assert {k: v for k, v in scope.items() if not k.startswith("__")} == {
        "profile": "laptop", "seed": 0, "device": "auto", "store": "", "compute": False}  # fmt: skip
    assert book.metadata.kernelspec.name == "python3" and book.metadata.fpd.title == book.metadata.title
    assert all(len(cell.source) <= 1500 for cell in book.cells if cell.cell_type == "code")


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_only_deterministic_cells_keep_their_output(path):
    checked = 0
    for cell in nbformat.read(path, 4).cells:
        if cell.cell_type == "code":
            keep = "nbval-check-output" in tags(cell)
            assert bool(cell.outputs) == keep, cell.source
            checked += keep
    assert checked >= 2


def test_every_exploration_has_a_notebook():
    sources = "".join(path.read_text() for path in NOTEBOOKS)
    for name in ("PLACEMENT", "DENOISING", "ABLATION", "ACTIVATION", "BOTTLENECK", "LAYERS", "STRATEGY", "RELATED"):
        assert f"experiments.{name}" in sources
    assert len(EXPLORATIONS) == 8


def start(history=(), **changes):
    values = {"profile": "smoke", "seed": 0, "device": "cpu", "store": "", "compute": False, "In": list(history)} | changes
    return notebook.start({k: v for k, v in values.items() if v is not None})


def test_good_parameters_give_the_seeds():
    assert start(seed=3, history=["# Parameters\nseed = 3\n"]) == (3,)
    assert start(profile="laptop") == (0, 1, 2, 3, 4) and start(profile="laptop", seed=7) == (7,)


def test_one_notebook_in_smoke_from_nothing(tmp_path, monkeypatch):
    """Training, attacks, figure and words in a kernel, with helper workers; a second run computes nothing."""
    monkeypatch.setenv("FPD_STORE", str(tmp_path / "store"))
    path, parameters = ROOT / "notebooks" / "05-bottleneck.ipynb", {"profile": "smoke", "compute": True}
    for number in range(2):
        result = tmp_path / f"{number}.ipynb"
        book = papermill.execute_notebook(path, result, parameters, progress_bar=False, kernel_name="python3")
        text = json.dumps(book)
        assert ("14 to compute" if number == 0 else "14 of 14 results are there, 0 to compute") in text
        assert "image/png" in text and "points" in text and "F_2IB-Mid" in text
    assert len(list((tmp_path / "store" / "outcomes").iterdir())) == 12


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"seed": "0"}, r"'seed' is '0' \(str\); accepted: .*seed \(int\)"),
        ({"seed": True}, "'seed' is True"),
        ({"profile": 1}, "'profile' is 1"),
        ({"compute": 1}, r"'compute' is 1 \(int\); accepted: .*compute \(bool\)"),
        ({"profile": "huge"}, "profile is 'huge'"),
        ({"store": None}, "'store' is missing"),
        ({"history": ["x = 1", "# Parameters\nprofile = 'smoke'\nepochs = 3\n"]}, "unknown notebook parameter 'epochs'"),
    ],
)
def test_bad_parameters_are_named(changes, words):
    with pytest.raises(FPDError, match=words):
        start(**changes)


@pytest.mark.parametrize(("parameters", "words"), [({"epochs": 3}, "epochs"), ({"seed": "0"}, "seed")])
def test_papermill_stops_at_a_wrong_parameter(tmp_path, parameters, words):
    result = tmp_path / "out.ipynb"
    with pytest.raises(papermill.PapermillExecutionError, match=f"FPDError|{words}"):
        papermill.execute_notebook(ROOT / "notebooks" / "01-placement.ipynb", result, parameters, progress_bar=False,
                                   kernel_name="python3")  # fmt: skip
    cells = json.loads(result.read_text())["cells"]
    ran = [c for c in cells if c["cell_type"] == "code" and c["execution_count"]]
    assert len(ran) <= 3  # parameters, injected parameters, start
