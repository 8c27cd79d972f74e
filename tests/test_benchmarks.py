"""The benchmarks still run: each is imported, and those that publish a table do so on two images with few steps."""

import importlib.util
from dataclasses import replace
from functools import partial
from pathlib import Path

import pandas as pd
import pytest

import fpdlib
from fpdlib.attacks.methods import AutoAttack
from fpdlib.paper.suites import QUICK

SCRIPTS = sorted((Path(__file__).parent.parent / "benchmarks").glob("*.py"))


def imported(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_a_benchmark_can_be_imported(path):
    assert imported(path).__doc__


def test_a_benchmark_publishes_its_table(tmp_path, monkeypatch):
    name = "radius_vs_autoattack"
    monkeypatch.setenv("FPD_PUBLISH", str(tmp_path))
    laptop = fpdlib.FPD.profiles["laptop"]
    monkeypatch.setitem(fpdlib.FPD.profiles, "laptop", replace(laptop, scale=replace(laptop.scale, radius=QUICK)))
    module = imported(next(path for path in SCRIPTS if path.stem == name))
    monkeypatch.setattr(module, "AutoAttack", partial(AutoAttack, iterations=2, queries=5))
    module.main("laptop", "2", "F")
    table = pd.read_csv(tmp_path / "laptop" / "tables" / f"{name}.csv")
    assert len(table) == 3 and set(table["n"]) == {2} and (tmp_path / "laptop" / "tables" / f"{name}.md").exists()
