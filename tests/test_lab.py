"""The lab and the command line on a profile of seconds: store, resume, two processes, interruptions."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file

from fpdlib import __main__
from fpdlib.errors import BudgetExhausted, FPDError
from fpdlib.paper import experiments
from fpdlib.report import publish, tables
from fpdlib.results.lab import Lab
from fpdlib.results.store import Store

ROOT = Path(__file__).parent.parent


def cli(store, *arguments, **options):
    command = [sys.executable, "tests/tiny.py", *map(str, arguments), "--store", str(store)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment, timeout=300, **options)


def test_one_tiny_network_from_nothing_to_its_outcomes(profiles, tmp_path, capsys):
    lab = Lab("tiny", store=tmp_path, progress=False)
    lab.run(["X"])
    assert lab.missing(["X"]) == [] and len(lab.missing(["F"])) == 5
    frame = lab.outcome("X", "curve")
    assert len(frame) == 3 * 20 and lab.log("X")["epoch"].tolist() == [0, 1]
    assert 0 <= lab.clean("X").value <= 1 and lab.clean("X").n == 200
    counts = lab.counts("X", "transfer-oracle")
    assert counts["backwards"] > 0 and 0 <= counts["surrogate_agreement"] <= 1
    written = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    again = Lab("tiny", store=tmp_path, progress=False)
    again.run(["X"])
    assert "all from the store" in capsys.readouterr().out
    pd.testing.assert_frame_equal(again.outcome("X", "curve"), frame)
    assert written == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}


def test_rows_that_are_one_network_are_trained_once(profiles, tmp_path):
    lab = Lab("tiny", store=tmp_path, progress=False)
    same = [row.variants[0] for row in experiments.TABLE1 if row.name in ("F", "F_2I-Mid", "F_TwoPhase")]
    assert len({lab.network_key(name) for name in same}) == 1


def test_seeds_have_their_own_entries(profiles, tmp_path):
    a, b = Lab("tiny", 0, store=tmp_path, progress=False), Lab("tiny", 1, store=tmp_path, progress=False)
    assert a.train("X") != b.train("X")
    states = [lab.model("X").state_dict() for lab in (a, b)]
    assert not all(torch.equal(states[0][k], states[1][k]) for k in states[0])


def test_damaged_and_foreign_checkpoints_are_named(profiles, tmp_path):
    lab = Lab("tiny", store=tmp_path, progress=False)
    key = lab.train("X")
    path = lab.store.folder("networks", key) / "model.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(FPDError, match=r"model\.safetensors is damaged.*Delete the folder"):
        Lab("tiny", store=tmp_path).model("X")
    tensors = {"wrong": torch.zeros(1)}
    path.unlink()
    lab.store.write("networks", key, {"model.safetensors": lambda p: save_file(tensors, p)}, {})
    with pytest.raises(FPDError, match="does not fit X"):
        Lab("tiny", store=tmp_path).model("X")


def test_an_outcome_of_other_weights_is_refused(profiles, tmp_path):
    lab = Lab("tiny", store=tmp_path, progress=False)
    lab.outcome("X", "white-box")
    folder = lab.store.folder("networks", lab.network_key("X"))
    weights = load_file(folder / "model.safetensors")
    meta = lab.facts("X")
    (folder / "model.safetensors").unlink()
    weights["trunk.backbone.conv1.weight"] += 1
    lab.store.write("networks", folder.name, {"model.safetensors": lambda path: save_file(weights, path)}, meta)
    with pytest.raises(FPDError, match=r"computed on other weights of X.*Delete"):
        Lab("tiny", store=tmp_path).outcome("X", "white-box")


def test_a_damaged_outcome_is_named(profiles, tmp_path):
    lab = Lab("tiny", store=tmp_path, progress=False)
    lab.outcome("X", "white-box")
    path = lab.store.folder("outcomes", lab.outcome_key("X", "white-box")) / "outcome.parquet"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(FPDError, match=r"outcome\.parquet is damaged"):
        lab.outcome("X", "white-box")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"profile": "huge"}, "profile is 'huge'"),
        ({"seed": -1}, "seed is -1"),
        ({"seed": True}, "seed is True"),
        ({"device": "tpu"}, "device is 'tpu'"),
        ({"store": 3}, "store is 3"),
    ],
)
def test_bad_arguments_are_named(arguments, words):
    with pytest.raises(FPDError, match=words):
        Lab(**arguments)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without GPU")
def test_cuda_without_a_gpu_is_named():
    with pytest.raises(FPDError, match="no GPU"):
        Lab(device="cuda")


def test_unknown_networks_and_attacks_are_named(profiles, tmp_path):
    lab = Lab("tiny", store=tmp_path)
    with pytest.raises(FPDError, match=r"network is 'G'; accepted: 'F_FD'"):
        lab.train("G")
    with pytest.raises(FPDError, match=r"attack is 'fgsm'; accepted: 'white-box'"):
        lab.outcome("X", "fgsm")


def test_a_budget_stops_and_the_next_run_continues(profiles, tmp_path):
    stops = 0
    for _ in range(60):
        try:
            Lab("tiny", store=tmp_path / "stopped", budget=0.2, progress=False).run(["X"])
            break
        except BudgetExhausted:
            stops += 1
    assert 3 < stops < 60
    whole = Lab("tiny", store=tmp_path / "whole", progress=False)
    whole.run(["X"])
    stopped = Lab("tiny", store=tmp_path / "stopped", progress=False)
    a, b = (load_file(lab.store.file("networks", lab.train("X"), "model.safetensors")) for lab in (whole, stopped))
    assert all(torch.equal(a[k], b[k]) for k in a)
    for attack in whole.profile.attacks:
        pd.testing.assert_frame_equal(whole.outcome("X", attack), stopped.outcome("X", attack))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_table_continues(tmp_path, number):
    command = [sys.executable, "tests/tiny.py", "evaluate", "X", "--profile", "tiny", "--store", str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, env=environment)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not list((tmp_path / "networks").glob("X*/entry.json")):
        time.sleep(0.05)
    process.send_signal(number)
    _, messages = process.communicate(timeout=120)
    assert process.returncode == (3 if number == signal.SIGINT else -signal.SIGKILL)
    if number == signal.SIGINT:
        assert b"run the same command to continue" in messages and b"Traceback" not in messages
    run = cli(tmp_path, "evaluate", "X", "--profile", "tiny")
    assert run.returncode == 0 and "white-box" in run.stdout, run.stderr
    assert not list((tmp_path / "partial").glob("*.parquet"))


def test_two_processes_on_one_store_compute_everything_once(tmp_path):
    command = [sys.executable, "tests/tiny.py", "evaluate", "X", "--profile", "tiny", "--store", str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    runs = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
            for _ in range(2)]  # fmt: skip
    outputs = [run.communicate(timeout=300) for run in runs]
    assert [run.returncode for run in runs] == [0, 0], outputs
    assert outputs[0][0].splitlines()[-1] == outputs[1][0].splitlines()[-1]
    assert len(list((tmp_path / "networks").iterdir())) == 1 and len(list((tmp_path / "outcomes").iterdir())) == 5


def main(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["fpdlib", *map(str, arguments)])
    monkeypatch.setattr(signal, "signal", lambda *_: None)  # leave the test runner's handlers alone
    try:
        return __main__.main()
    except SystemExit as usage:
        return usage.code


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("table", "1", "--profile", "huge"), "error: profile is 'huge'"),
        (("train", "G", "--profile", "tiny"), "error: network is 'G'"),
        (("status", "--profile", "tiny", "--device", "tpu"), "error: device is 'tpu'"),
        (("train", "--budget", "soon"), "'soon'; accepted: seconds"),
        (("table", "9"), "invalid choice"),
    ],
)
def test_the_command_line_names_mistakes(profiles, tmp_path, monkeypatch, capsys, arguments, words):
    store = () if arguments[0] == "train" and "--budget" in arguments else ("--store", tmp_path)
    assert main(monkeypatch, *arguments, *store) == 2
    assert words in capsys.readouterr().err


def test_budget_exit_status_and_status_command(profiles, tmp_path, monkeypatch, capsys):
    tail = ("X", "ReLU", "--profile", "tiny", "--store", tmp_path)
    assert main(monkeypatch, "train", *tail, "--budget", "0.01s") == 3
    assert "run the same command to continue" in capsys.readouterr().err
    assert main(monkeypatch, "train", *tail) == 0
    assert "ReLU seed 0: clean" in capsys.readouterr().out
    assert main(monkeypatch, "status", "--profile", "tiny", "--store", tmp_path) == 0
    status = capsys.readouterr().out
    assert "not trained" in status and "missing: white-box, transfer-oracle" in status and "clean" in status


@pytest.mark.parametrize("command", ["1", "2", "3", "4", "caltech", "all", "verify", "status"])
def test_reading_needs_a_store_and_makes_none(profiles, tmp_path, monkeypatch, capsys, command):
    arguments = {"verify": ("verify", "--stored"), "status": ("status",)}.get(command, ("table", command, "--stored"))
    out = () if command == "status" else ("--out", tmp_path / "out")
    assert main(monkeypatch, *arguments, "--profile", "tiny", "--store", tmp_path / "typo", *out) == 2
    assert "there is no store in" in capsys.readouterr().err and not list(tmp_path.iterdir())
    (tmp_path / "file").write_text("")
    assert main(monkeypatch, *arguments, "--profile", "tiny", "--store", tmp_path / "file", *out) == 2
    assert "is a file, not a folder" in capsys.readouterr().err


@pytest.mark.parametrize("number", ["1", "2", "3", "4", "caltech"])
def test_a_table_of_an_empty_store_is_one_error(profiles, tmp_path, monkeypatch, capsys, number):
    Store(tmp_path / "empty")
    monkeypatch.setenv("FPD_DATA", str(tmp_path / "nowhere"))
    tail = ("--stored", "--profile", "tiny", "--store", tmp_path / "empty", "--out", tmp_path / "out")
    assert main(monkeypatch, "table", number, *tail) == 2
    assert "run it without --stored" in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_all_tables_of_an_empty_store_are_left_out(profiles, tmp_path, monkeypatch, capsys):
    Store(tmp_path / "empty")
    tail = ("--stored", "--profile", "tiny", "--store", tmp_path / "empty", "--out", tmp_path / "out")
    assert main(monkeypatch, "table", "all", *tail) == 0
    assert "Table 2 is left out" in capsys.readouterr().out
    assert set(pd.read_csv(tmp_path / "out" / "tiny" / "tables" / "claims.csv").query("seeds > 0")["verdict"]) <= {
        "not tested"
    }


def test_what_is_left_out_is_named(tmp_path, monkeypatch):
    lab = Lab("laptop", 0, "cpu", tmp_path, setting="table2", stored_only=True)
    key = lab.outcome_key("F", "published/linf-pgd")
    monkeypatch.delitem(lab.store.evidence._index, ("outcomes", key))
    assert "F" not in set(tables.table2([lab])["network"])
    assert "Left out, since outcomes are missing: F." in tables.caption([lab])


def test_a_caption_names_only_seeds_that_are_there(tmp_path):
    """Of laptop's Table 2 only seed 0 is committed."""
    labs = [Lab("laptop", seed, "cpu", tmp_path, setting="table2", stored_only=True) for seed in (0, 1, 2)]
    assert "seeds 0;" in tables.caption(labs) and "seeds 0;" in tables.caption(labs[:1])


def test_a_page_includes_the_files_that_it_names(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("a\n<!-- begin missing.md -->\n<!-- end -->\n")
    with pytest.raises(FPDError, match=r"missing\.md, which does not exist"):
        publish.include(page)
    (tmp_path / "missing.md").write_text("table\n")
    assert publish.include(page) and page.read_text() == "a\n<!-- begin missing.md -->\ntable\n<!-- end -->\n"
    assert not publish.include(page)


def test_a_changed_recipe_is_another_network(profiles, tmp_path, monkeypatch):
    lab = Lab("tiny", store=tmp_path)
    before = lab.network_key("X")
    monkeypatch.setitem(lab.profile.recipe, "lr", 1e-3)
    assert lab.network_key("X") != before
    monkeypatch.setattr(lab, "profile", replace(lab.profile, dataset="mnist"))
    assert lab.network_key("X") != before
