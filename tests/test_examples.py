"""A second paper runs on the same plan, workers, evidence and verdict rules: the worked example, from nothing to verdicts."""

import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

import fpdlib
from fpdlib.errors import FPDError
from fpdlib.paper import FPD
from fpdlib.report import claims

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "examples"))
import kwta  # noqa: E402


def test_a_network_of_ones_own_is_trained_and_judged(tmp_path):
    """As its first lines say: the example, then the command, which finds the network and its weights."""
    (tmp_path / "own.py").write_text((ROOT / "examples" / "own.py").read_text())
    environment = os.environ | {"FPD_STORE": str(tmp_path / "store"), "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    network = ["--model", "own:build", "--weights", "own.safetensors"]
    images = ["--data", "mnist-sample", "--channels", "1", "--size", "28", "--images", "5"]
    judged = ["-m", "fpdlib", "judge", *network, *images]
    for command in (["own.py"], judged):
        done = subprocess.run([sys.executable, *command], env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, done.stderr
        clean, worst = (re.search(rf"^{name} +([\d.]+) %", done.stdout, re.M)[1] for name in ("clean", "worst case"))
        assert float(clean) >= 80 > 60 > float(worst)


def test_the_example_computes_its_claims_and_their_verdicts(tmp_path):
    """As a reader runs it: two networks, three seeds, four attacks, a table; again from its store without computing."""
    command = [sys.executable, str(ROOT / "examples" / "kwta.py"), "--quick"]
    environment = os.environ | {"FPD_STORE": str(tmp_path / "store"), "OMP_NUM_THREADS": "1"}
    first = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert first.returncode == 0, first.stderr
    assert "| k-WTA is innocuous to training" in first.stdout and "3 seeds" in first.stdout
    second = subprocess.run(command, env=environment | {"FPD_COMPUTE": "0"}, capture_output=True, text=True, timeout=120)
    assert "30 of 30 results are there" in second.stdout and second.stdout.splitlines()[-7:] == first.stdout.splitlines()[-7:]
    assert "say nothing about k-WTA" in first.stdout

    rows = fpdlib.plan(profile="k-wta-quick", paper=kwta.KWTA)
    evidence = fpdlib.load(rows, str(tmp_path / "store"), paper=kwta.KWTA)
    lines = claims.verify(evidence)
    assert list(lines["id"]) == ["robust"] * 3 + ["clean", "masking"] and not lines["verdict"].eq("not tested").any()
    assert lines["seeds"].eq(3).all() and lines["size"].isna().all()
    # one seed decides nothing, and the control of `undertrained` is this paper's
    one = fpdlib.load(rows[rows["seed"] == 0], str(tmp_path / "store"), paper=kwta.KWTA)
    assert set(claims.verify(one, ("robust",))["verdict"]) == {"not decided"}


def test_a_paper_is_planned_alone():
    """Each paper has its own profiles, settings, networks and claims; a name of the other one is an error that says what there is."""
    rows = fpdlib.plan(profile="k-wta", paper=kwta.KWTA)
    assert set(rows["network"]) == {"ReLU", "k-WTA"} and set(rows["seed"]) == {0, 1, 2} and set(rows["setting"]) == {"main"}
    assert set(rows["table"]) == {"main", "claims"}
    assert not set(rows["key"]) & set(fpdlib.plan(profile="smoke")["key"])
    assert len(fpdlib.plan("robust", profile="k-wta", paper=kwta.KWTA)) == 2 * 3 * 5
    with pytest.raises(FPDError, match="profile is 'laptop'; accepted: 'k-wta', 'k-wta-quick'"):
        fpdlib.plan(profile="laptop", paper=kwta.KWTA)
    few = replace(kwta.KWTA, claims=lambda: kwta.stated()[["id", "claim", "test", "better"]]).claims()
    assert set(few["setting"]) == {"main"} and set(few["printed"]) == {""} == set(few["worse"])
    with pytest.raises(FPDError, match="missing: test"):
        replace(kwta.KWTA, claims=lambda: kwta.stated().drop(columns="test")).claims()
    with pytest.raises(FPDError, match="what is 'table1'"):
        fpdlib.plan("table1", profile="k-wta", paper=kwta.KWTA)
    assert FPD.plain("F") == "ReLU" and FPD.plain("O_PGD") == "" == FPD.plain("ReLU") and FPD.plain("RegNet F") == "RegNet O"


def test_winners_take_all():
    import torch

    x = torch.tensor([[[[1.0, -2.0], [3.0, 0.5]]], [[[-1.0, -2.0], [-3.0, -4.0]]]])
    kept = kwta.Winners(0.5)(x)
    assert torch.equal(kept, torch.tensor([[[[1.0, 0.0], [3.0, 0.0]]], [[[-1.0, -2.0], [0.0, 0.0]]]]))
    assert isinstance(kwta.stated(), pd.DataFrame) and set(kwta.stated()["test"]) <= set(claims.TESTS)
