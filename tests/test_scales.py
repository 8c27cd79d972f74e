"""Notebooks at the paper's scale, of which a part is computed: they show it, name what is missing, and give the committed tables."""

from pathlib import Path

import pandas as pd
import papermill
import pytest

ROOT = Path(__file__).parent.parent
SCALE = "paper-short"
COMMITTED = ROOT / "results" / SCALE / "tables"
NUMBERS = ("03", "08", "09", "17", "18", "21")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scale")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FPD_COMPUTE", "0")
        patch.setenv("FPD_PUBLISH", str(folder))
        for number in NUMBERS:
            (path,) = (ROOT / "notebooks").glob(f"{number}-*.ipynb")
            papermill.execute_notebook(path, folder / path.name, {"profile": SCALE}, progress_bar=False, kernel_name="python3")
    return folder / SCALE / "tables"


def test_the_notebooks_make_the_committed_tables_and_no_other(made):
    assert sorted(path.name for path in made.iterdir()) == sorted(path.name for path in COMMITTED.iterdir())


@pytest.mark.parametrize("path", sorted(COMMITTED.iterdir()), ids=lambda path: path.name)
def test_a_table_of_the_papers_scale_is_as_committed(path, made):
    if path.suffix == ".csv":
        pd.testing.assert_frame_equal(pd.read_csv(made / path.name), pd.read_csv(path), rtol=1e-4)
    else:
        assert (made / path.name).read_text() == path.read_text(), f"papermill the notebook with -p profile {SCALE}"
