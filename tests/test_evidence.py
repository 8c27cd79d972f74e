"""Evidence is what the store has, in a few files; it is read behind the store, and damage is named."""

import io
import json
import shutil

import numpy as np
import pandas as pd
import pytest
from test_lab import ROOT, cli

from fpdlib.errors import FPDError, NotComputed
from fpdlib.paper.settings import SETTINGS
from fpdlib.results import export, plan, studies
from fpdlib.results.evidence import SUMS, Evidence
from fpdlib.results.lab import Lab


@pytest.fixture
def exported(profiles, tmp_path, monkeypatch):
    """A tiny X with all of Table 1's attacks and a study, exported; then a lab that has nothing but the evidence."""
    monkeypatch.setattr(export, "SETTINGS", ("table1",))
    monkeypatch.setenv("FPD_RESULTS", str(tmp_path / "none"))
    lab = Lab("tiny", store=tmp_path / "store", progress=False)
    for attack in lab.profile.attacks:
        lab.outcome("X", attack)
    studies.smoothness(lab, "X")
    folder = export.export([lab], tmp_path / "results")
    assert folder == tmp_path / "results" / "tiny" / "evidence"
    monkeypatch.setenv("FPD_RESULTS", str(tmp_path / "results"))
    return lab, folder


def test_what_is_exported_is_read_back(exported, tmp_path):
    lab, _ = exported
    clone = Lab("tiny", store=tmp_path / "elsewhere", stored_only=True)
    assert not clone.missing(["X"]) and not (tmp_path / "elsewhere").exists()
    for attack in lab.profile.attacks:
        pd.testing.assert_frame_equal(clone.outcome("X", attack), lab.outcome("X", attack))
        assert clone.counts("X", attack) == lab.counts("X", attack)
    pd.testing.assert_frame_equal(clone.log("X"), lab.log("X"), check_dtype=False)
    assert clone.clean("X") == lab.clean("X") and clone.facts("X") == lab.facts("X")
    pd.testing.assert_frame_equal(studies.smoothness(clone, "X"), studies.smoothness(lab, "X"))
    with pytest.raises(NotComputed):
        clone.outcome("F", "curve")
    with pytest.raises(NotComputed):
        clone.model("X")  # a checkpoint is no evidence


def test_what_was_read_may_be_changed(exported, tmp_path):
    clone = Lab("tiny", store=tmp_path / "elsewhere", stored_only=True)
    mine = clone.outcome("X", "curve")
    mine.loc[:, "broken"] = True
    assert not clone.outcome("X", "curve")["broken"].all()


def test_only_what_evidence_lacks_is_computed(exported, tmp_path):
    lab = Lab("tiny", store=tmp_path / "new", progress=False)
    of_x = {key: r for key, r in plan.plan([lab], ("table1",)).items() if r.name == "X"}
    assert len(of_x) == 6 and not plan.missing(of_x)
    lab.run(["X"])
    assert not list((tmp_path / "new" / "outcomes").iterdir())


def test_exporting_again_keeps_what_only_evidence_has_and_drops_what_no_plan_knows(exported, tmp_path, monkeypatch):
    old, folder = exported
    lab = Lab("tiny", store=tmp_path / "new", progress=False)
    lab.outcome("F", "white-box")
    export.export([lab], tmp_path / "results")
    both = Evidence(folder)
    assert both.has("outcomes", old.outcome_key("X", "curve")) and both.has(
        "outcomes", lab.outcome_key("F", "white-box")
    )
    monkeypatch.setitem(lab.profile.recipe, "lr", 1e-3)  # another experiment: nothing of the old one is read any more
    lab.outcome("X", "white-box")
    export.export([lab], tmp_path / "results")
    assert Evidence(folder).keys("outcomes") == [lab.outcome_key("X", "white-box")]


@pytest.mark.parametrize("damage", [lambda b: b[:-1], lambda b: b"x" + b[1:]])
@pytest.mark.parametrize("name", ["results.parquet", "outcomes-table1.parquet", "logs.parquet", "studies.parquet"])
def test_damaged_files_are_named(exported, tmp_path, damage, name):
    _, folder = exported
    copy = shutil.copytree(folder, tmp_path / "copy")
    (copy / name).write_bytes(damage((copy / name).read_bytes()))
    with pytest.raises(FPDError, match=rf"{name} is damaged or missing.*git checkout"):
        Evidence(copy)._read(name)


def test_evidence_of_other_weights_is_refused_with_a_remedy(exported, tmp_path):
    """Trained again on another machine, a network may have other bits than the one that was attacked."""
    lab = Lab("tiny", store=tmp_path / "new", progress=False)
    folder = lab.store.folder("networks", lab.train("X"))
    entry = folder / "entry.json"
    entry.write_text(entry.read_text().replace('"model.safetensors": "', '"model.safetensors": "0'))
    with pytest.raises(FPDError, match=rf"committed evidence.*delete {folder}.*FPD_RESULTS"):
        lab.outcome("X", "curve")
    shutil.rmtree(folder)
    assert len(lab.outcome("X", "curve"))


def test_old_outcomes_get_the_weights_that_their_store_had(exported, tmp_path):
    lab, _ = exported
    path = lab.store.folder("outcomes", lab.outcome_key("X", "curve")) / "entry.json"
    content = json.loads(path.read_text())
    weights = content["meta"].pop("weights")
    path.write_text(json.dumps(content))
    found = Evidence(export.export([lab], tmp_path / "again"))
    meta = found.entry("outcomes", lab.outcome_key("X", "curve"))["meta"]
    assert meta["weights"] == weights and meta["weights_inferred"]
    assert "weights_inferred" not in found.entry("outcomes", lab.outcome_key("X", "white-box"))["meta"]
    committed = Evidence(ROOT / "results" / "laptop" / "evidence")
    assert all(committed.entry("outcomes", key)["meta"]["weights"] for key in committed.keys("outcomes"))


def test_one_answer_for_all_seeds_whether_images_are_a_stand_in(tmp_path, monkeypatch):
    """Evidence of seed 0 is of the real photographs, so seeds 1 and 2 wait for them too instead of taking others."""
    monkeypatch.setenv("FPD_DATA", str(tmp_path / "empty"))
    for seed in (0, 1, 2):
        here = Lab("laptop", seed, store=tmp_path / "s", setting="caltech101")
        assert here.profile.dataset == "caltech101" and not here.profile.stand_in


def test_nothing_to_export_and_nothing_to_read_are_errors(profiles, tmp_path, monkeypatch):
    monkeypatch.setenv("FPD_RESULTS", str(tmp_path / "none"))
    with pytest.raises(FPDError, match="nothing of profile tiny is in the store"):
        export.export([Lab("tiny", store=tmp_path / "s")], tmp_path / "results")
    with pytest.raises(FPDError, match="there is no store"):
        Lab("tiny", store=tmp_path / "empty", stored_only=True)


def test_committed_evidence_is_whole_and_of_todays_experiments(tmp_path):
    """A changed recipe or attack renames its results; what is committed under the old name would be read by nothing."""
    folder = ROOT / "results" / "laptop" / "evidence"
    found = Evidence(folder)
    known = {key for seed in range(3) for key in plan.plan([Lab("laptop", seed, store=tmp_path)], SETTINGS)}
    for kind in ("networks", "outcomes"):
        assert len(found.keys(kind)) > 50 and set(found.keys(kind)) <= known, (
            "run `python -m fpdlib export --profile laptop`"
        )
    for key in found.keys("outcomes"):
        frame = found.outcome(key)
        assert len(frame) and frame["eps"].notna().all()
    assert {"checks.csv", "landscape.csv"} == set(
        found.files(next(k for k in found.keys("diagnostics") if "diagnosis" in k))
    )
    assert set((folder / SUMS).read_text().split()[1::2]) == {path.name for path in folder.iterdir()} - {SUMS}


def test_files_of_a_study_read_like_files(exported, tmp_path):
    _, folder = exported
    evidence = Evidence(folder)
    (content,) = evidence.files(evidence.keys("diagnostics")[0]).values()
    assert isinstance(content, io.BytesIO) and np.isfinite(pd.read_csv(content)["turn"]).all()


def test_the_command_line_exports_and_reads_without_a_store(tmp_path):
    done = cli(tmp_path / "store", "evaluate", "X", "--profile", "tiny")
    assert done.returncode == 0, done.stderr
    shown = cli(tmp_path / "none", "table", "1", "--profile", "laptop", "--stored", "--out", tmp_path / "out")
    assert shown.returncode == 0, shown.stderr
    assert (tmp_path / "out" / "laptop" / "tables" / "table1.csv").read_text().count("\n") > 2
