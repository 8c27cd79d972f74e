"""The plan is one list; evidence is what the store has, in a few files, read behind the store; damage is named."""

import io
import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from tiny import TINY

import fpdlib
from fpdlib.errors import FPDError, NotComputed
from fpdlib.files import sha256
from fpdlib.paper.settings import SETTINGS
from fpdlib.report.reproduced import reproduced, spoken
from fpdlib.results import hours, worker
from fpdlib.results.committed import SUMS, Committed, export, keep_checkpoints, of_others
from fpdlib.results.hours import costs, summary
from fpdlib.results.plan import missing, results
from fpdlib.results.store import Store
from fpdlib.results.values import Network

ROOT = Path(__file__).parent.parent
LAPTOP = ROOT / "results" / "laptop" / "evidence"


def test_the_plan_has_every_number_once():
    rows = fpdlib.plan(profile="smoke")
    assert set(rows["setting"]) == set(SETTINGS) and set(rows["table"]) == {*fpdlib.FPD.tables, "studies", "claims"}
    tables = rows[rows["table"] != "claims"]
    assert not tables.duplicated(["table", "setting", "row", "network", "column", "attack", "seed"]).any()
    for setting in SETTINGS:
        here = rows.query("setting == @setting and kind != 'studies' and table != 'claims'")
        assert set(here["network"]) == set(fpdlib.FPD.networks(setting))
        for _, one in here.groupby(["row", "network"]):
            assert set(one["attack"]) == {"", *fpdlib.FPD.setting("smoke", setting).attacks}
    assert set(rows.query("table == 'table1' and network == 'F'")["row"]) == {"F", "F_2I-Mid", "F_TwoPhase"}
    order = {key: number for number, key in enumerate(results(rows))}
    assert all(order[need.key] < order[key] for key, result in results(rows).items() for need in result.needs)
    hardened = rows.query("network == 'O_PGD' and kind == 'networks' and setting == 'table2'")["result"].iat[0]
    assert [need.name for need in hardened.needs] == ["ReLU"]
    borrowed = rows.query("network == 'O_PGD' and attack == 'published/resnext50/F/linf-pgd'")["result"].iat[0]
    assert [(need.kind, need.network.name) for need in borrowed.needs] == [("networks", "O_PGD"), ("crafted", "F")]


def test_a_part_of_the_plan_by_table_setting_study_or_claim():
    assert set(fpdlib.plan("table4")["setting"]) == {f"svhn-{b}" for b in ("resnet101", "resnet50", "resnext50")}
    assert set(fpdlib.plan("table1")["setting"]) == {"table1"} and set(fpdlib.plan("svhn-resnet50")["table"]) == {"table4"}
    claim = fpdlib.plan("resists-mnist", seeds=[3])
    assert set(claim["network"]) == {"F", "ReLU"} and set(claim["setting"]) == {"table2"} and set(claim["row"]) == {"resists-mnist"}
    assert set(fpdlib.plan("smoother")["column"]) == {"smoothness"} and set(claim["seed"]) == {3}
    assert set(fpdlib.plan("studies")["kind"]) == {"studies"} and set(fpdlib.plan("claims")["table"]) == {"claims"}
    assert not len(fpdlib.plan("theorem"))  # about printed numbers alone
    with pytest.raises(FPDError, match="what is 'tabel1'; accepted: 'table1'"):
        fpdlib.plan("tabel1")
    with pytest.raises(FPDError, match="seed is '0'"):
        fpdlib.plan(seeds=["0"])


def test_every_claim_reads_what_the_plan_has():
    rows, claims = fpdlib.plan("claims"), fpdlib.FPD.claims()
    by_claim = rows.groupby("row")["network"].nunique()
    beside = "arithmetic", "printed-clean", "lipschitz", "squeezed", "theorem", "cost", "less"
    free = set(claims[claims["test"].isin(beside)]["id"])
    assert set(by_claim.index) == set(claims["id"]) - free
    pairs = claims[claims["test"].isin(["order", "table1", "clean", "masking", "accurate"])]["id"]
    assert (by_claim[pairs] == 2).all()


def test_seeds_go_where_a_verdict_rests_on_them():
    """Five for the networks of a headline claim, three for Table 1's others, one for what describes; what is asked for is planned."""
    rows = fpdlib.plan("table1", profile="laptop")
    counts = rows.groupby("network")["seed"].nunique()
    assert {name for name, count in counts.items() if count == 5} == {
        "F", "ReLU", "X", "F_FD", "Deep", "F_FD+R", "ELU+Tanh", "F_2IB-Mid", "F_OnePhase"}  # fmt: skip
    assert counts["Average"] == counts["F_4IB"] == counts["Deep (stem)"] == 3 and counts["F (release)"] == 1
    asked = fpdlib.plan("table1", profile="laptop", seeds=[0, 7])
    assert set(asked.groupby("network")["seed"].nunique()) == {2}
    assert len(fpdlib.plan("table1", profile="laptop", seeds=range(5))) == len(rows)
    paper = fpdlib.plan("table2", profile="paper")  # its dearest attacks describe one network
    once = paper[paper["attack"].isin(["sound/l2", "sound-native/linf", "sound-native/l2"])]
    assert set(once["seed"]) == {0} and set(paper["seed"]) == {0, 1, 2}
    rows = fpdlib.plan("studies", profile="laptop")
    several = rows["column"].isin(("precision", "adaptive"))  # a verdict on the method rests on them
    assert set(rows[~several]["seed"]) == {0} and set(rows[several].groupby("column")["seed"].nunique()) == {3}


def test_costs_come_from_committed_results(tmp_path):
    rows = fpdlib.plan("table1", profile="laptop", seeds=[0, 1])
    store = worker.store_of(rows, str(tmp_path))
    spent, measured = costs(rows, store)
    key = {(line.network, line.seed, line.attack): line.key for line in rows.itertuples() if line.setting == "table1"}
    assert key["F", 0, ""] in measured and 100 < spent[key["F", 0, ""]] < 1000
    assert key["F", 0, "radius"] in measured and key["F (release)", 1, "radius"] not in measured
    assert spent[key["F (release)", 1, "radius"]] == spent[key["F (release)", 0, "radius"]]  # another seed of the same network
    frame, words = summary(rows, store)
    line = frame.loc[("table1", "table1")]
    todo = {result.key for result in missing(results(rows), set(rows["key"]), store)}
    assert 0 < line["there"] < line["results"] and line["minutes left"] > 1  # seed 1 of some networks is not committed
    assert f"{len(todo)} results missing" in words


def test_computing_anew_is_told_to_take_as_long_as_it_took(tmp_path, monkeypatch):
    """With FPD_RESULTS elsewhere nothing is there, and what the kit's own evidence took is known all the same."""
    rows = fpdlib.plan("table1", profile="laptop", seeds=[0])
    _, here = summary(rows, worker.store_of(rows, str(tmp_path)))
    monkeypatch.setenv("FPD_RESULTS", str(tmp_path / "none"))
    _, anew = summary(rows, worker.store_of(rows, str(tmp_path)))
    whole = re.search(r"All (\d+) anew: (.*)\.$", here).groups()
    assert float(whole[1]) > 1 and anew.startswith(f"{whole[0]} results missing: {whole[1]} hours")


def test_a_training_is_estimated_from_others_by_its_length_and_its_network(tmp_path):
    """F trained ten times as long from trainings of other lengths: not what the median of them took. Training may end early."""
    rows = fpdlib.plan("longer", profile="laptop", seeds=[0, 99])
    store = worker.store_of(rows, str(tmp_path))
    rows = rows[rows["kind"] == "networks"]
    keys = {(line.network, line.seed): line.key for line in rows.itertuples()}
    long, plain = "F (ten times as long)", "ReLU (ten times as long)"
    whole, _ = costs(rows, store)
    assert whole[keys[long, 99]] == pytest.approx(whole[keys[long, 0]])  # another seed of the same network: nothing is counted
    spent, measured = costs(rows[~((rows["network"].isin([long, plain])) & (rows["seed"] == 0))], store)
    assert keys["F", 0] in measured and keys[long, 99] not in measured
    for name in (long, plain):
        assert 1 / 3 < spent[keys[name, 99]] / whole[keys[name, 0]] < 3, name
    assert spent[keys[long, 99]] > 5 * spent[keys["F", 0]] > 5 * spent[keys["ReLU", 0]]


def test_a_scale_without_evidence_is_estimated_by_what_it_computes(tmp_path, monkeypatch):
    """From laptop's speed and passes: within a factor of three of what the same results took there."""
    rows = fpdlib.plan("table1", profile="laptop", seeds=[0])
    store = worker.store_of(rows, str(tmp_path))
    spent, measured = costs(rows, store)
    known = {line.key: line.result for line in rows.itertuples() if line.key in measured and line.network in ("F", "ReLU")}
    trained = [key for key, result in known.items() if isinstance(result, Network)]
    radii = [key for key in known if known[key].what == "radius"]
    for key in trained + radii:
        assert 1 / 3 < hours.counted(known[key], "laptop") / spent[key] < 3, key
    assert len(trained) == 2 and radii
    whole = fpdlib.plan("table1", profile="medium")  # nothing of it is committed: not a few minutes
    deep = next(result for result in whole["result"] if result.network.name == "ReLU" and isinstance(result, Network))
    assert hours.counted(deep, "medium") > 600


@pytest.fixture
def exported(few, tmp_path, monkeypatch):
    """A tiny X with all of Table 1's attacks and a study, exported; the store is `store`, the results folder `results`."""
    monkeypatch.setenv("FPD_RESULTS", str(tmp_path / "results"))
    rows = fpdlib.plan("table1", "studies", profile=TINY)
    rows = rows[(rows["network"].isin(["X"]) & (rows["setting"] == "table1")) | (rows["column"] == "smoothness")]
    rows = rows[~rows["network"].isin(["ELU", "ELU+Tanh"])]
    fpdlib.compute(rows, "cpu", str(tmp_path / "store"), count=1, quiet=True)
    folder = export(rows, worker.store_of(rows, str(tmp_path / "store")), tmp_path / "results" / "tiny" / "evidence")
    return rows, folder


def test_what_is_exported_is_read_back(exported, tmp_path):
    rows, _ = exported
    own, clone = fpdlib.load(rows, str(tmp_path / "store")), fpdlib.load(rows, str(tmp_path / "elsewhere"))
    own.store.committed = Committed(tmp_path)  # the store alone
    assert clone.seeds("X") == [0] and not (tmp_path / "elsewhere").exists()
    pd.testing.assert_frame_equal(clone.outcomes, own.outcomes)
    for attack in clone.profile.attacks:
        pd.testing.assert_frame_equal(clone.outcome("X", attack, 0), own.outcome("X", attack, 0))
        assert clone.meta("X", attack, 0) == own.meta("X", attack, 0)
    pd.testing.assert_frame_equal(clone.log("X", 0), own.log("X", 0), check_dtype=False)
    assert clone.clean("X", 0) == own.clean("X", 0) and clone.meta("X", "", 0) == own.meta("X", "", 0)
    studied = [evidence.study("ReLU", "smoothness")["study"] for evidence in (own, clone)]
    pd.testing.assert_frame_equal(*studied)
    assert np.isfinite(studied[0]["turn"]).all()
    with pytest.raises(FPDError, match=r"network is 'G'; accepted: 'X'"):
        clone.outcome("G", "radius", 0)
    with pytest.raises(NotComputed, match="table1: F is not in the plan, which has X"):
        clone.outcome("F", "radius", 0)
    with pytest.raises(FPDError, match="the plan has no 'fgsm' of X seed 0 in table1"):
        clone.outcome("X", "fgsm", 0)
    with pytest.raises(NotComputed):
        fpdlib.load_network("X", TINY, store=str(tmp_path / "elsewhere"))  # a checkpoint is no evidence


def test_outcomes_of_another_training_are_counted(exported):
    """The data card says how many; another processor trains a network a little otherwise."""
    found = pd.read_parquet(exported[1] / "results.parquet").to_dict("records")
    assert of_others(found) == [] and " 0 results (outcomes,\nstudies" in (exported[1] / "README.md").read_text()
    for line in found:
        if line["kind"] == "networks" and line["network"] == "X":
            line["sha256"] = json.dumps({"model.safetensors": "other"})
    own = [line for line in found if line["network"] == "X" and line["kind"] != "networks"]
    assert set(of_others(found)) == {line["key"] for line in own} and {line["kind"] for line in own} == {"outcomes", "studies"}


def test_a_committed_checkpoint_is_a_network(exported, tmp_path, monkeypatch):
    """It is loaded with its checksum, attacked without training anew, kept by the next export, and named when it is damaged."""
    rows, folder = exported
    store, target = worker.store_of(rows, str(tmp_path / "store")), folder.parent / "checkpoints"
    store.committed = Committed(folder)
    one = rows[(rows["network"] == "X") & (rows["kind"] == "networks")]
    (path,) = keep_checkpoints(one, store, target)
    model = fpdlib.load_network("X", TINY, store=str(tmp_path / "elsewhere"))
    trained = fpdlib.load_network("X", TINY, store=str(tmp_path / "store"))
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), trained.state_dict().values(), strict=True))
    fewer = replace(TINY, attacks=TINY.attacks | {"white-box": replace(TINY.attacks["white-box"], images=5)})
    more = fpdlib.plan("table1", profile=fewer).query("network == 'X' and attack in ('', 'white-box')")
    fpdlib.compute(more, "cpu", str(tmp_path / "new"), count=1, quiet=True)
    assert not [*(tmp_path / "new" / "networks").glob("*")] and len(list((tmp_path / "new" / "outcomes").iterdir())) == 1
    elsewhere = worker.store_of(rows, str(tmp_path / "elsewhere"))
    assert keep_checkpoints(one, elsewhere, target) == [path] and path.exists()
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(FPDError, match=r"is damaged: its SHA-256.*git checkout"):
        fpdlib.load_network("X", TINY, store=str(tmp_path / "elsewhere"))
    assert keep_checkpoints(one.iloc[:0], elsewhere, target) == [] and not path.exists()


def test_what_was_computed_elsewhere_is_held_against_the_committed_interval(exported, tmp_path):
    rows, _ = exported
    with pytest.raises(NotComputed, match=r"nothing in the store .* FPD_RESULTS"):
        reproduced(rows, worker.store_of(rows, str(tmp_path / "elsewhere")))
    store = worker.store_of(rows, str(tmp_path / "store"))
    same = reproduced(rows, store)
    assert len(same) == 1 + len(TINY.attacks) and same["inside"].all()
    assert spoken(same) == f"{len(same)} of {len(same)} numbers lie inside the committed 95 % interval."
    change(store, rows, "white-box", lambda frame: frame.assign(broken=~frame["broken"]))
    other = reproduced(rows, store)
    assert list(other[~other["inside"]]["what"]) == ["white-box"]
    assert spoken(other).startswith("outside: table1 X seed 0 white-box: ") and f"{len(other) - 1} of {len(other)}" in spoken(other)


def test_other_radii_are_not_reproduced_although_every_image_falls(exported, tmp_path, monkeypatch):
    """A search for radii leaves nothing at its own epsilon, 1: what is compared is the area under its robustness curve."""
    rows, _ = exported
    store = worker.store_of(rows, str(tmp_path / "store"))
    (before,) = reproduced(rows, store).query("what == 'area (radius)'").itertuples()
    assert before.low < before.committed < before.high < 90 and before.here == pytest.approx(before.committed)
    committed = store.committed.outcome
    for size in (0.0, 0.3):  # every image alike: the interval is a point, and what is the same lies in it
        change(store, rows, "radius", lambda frame, size=size: frame.assign(linf=size, broken=True))
        with monkeypatch.context() as patch:
            patch.setattr(store.committed, "outcome", lambda key, size=size: committed(key).assign(linf=size, broken=True))
            (point,) = reproduced(rows, store).query("what == 'area (radius)'").itertuples()
        assert point.inside and point.low == point.high == pytest.approx(100 * size / 0.3)
    change(store, rows, "radius", lambda frame: frame.assign(linf=0.29, broken=True))  # at 1.0 they all fell before, too
    (after,) = reproduced(rows, store).query("~inside").itertuples()
    assert after.what == "area (radius)" and after.here == pytest.approx(100 * 0.29 / 0.3) and after.committed == before.committed


def change(store, rows, attack, how):
    """Another outcome of an attack in the store, as if it had been computed so."""
    result = rows[rows["attack"] == attack]["result"].iat[0]
    path = store.folder(result) / "outcome.parquet"
    how(pd.read_parquet(path)).to_parquet(path)
    entry = json.loads((store.folder(result) / "entry.json").read_text())
    entry["sha256"]["outcome.parquet"] = sha256(path)
    (store.folder(result) / "entry.json").write_text(json.dumps(entry))


def test_only_what_evidence_lacks_is_computed(exported, tmp_path, capsys):
    rows, _ = exported
    fpdlib.compute(rows, "cpu", str(tmp_path / "new"))
    assert "0 to compute" in capsys.readouterr().out and not (tmp_path / "new").exists()
    more = fpdlib.plan("table2", profile=TINY, seeds=[1]).query("network == 'ReLU' and attack in ('', 'published/linf-fgsm')")
    fpdlib.compute(more, "cpu", str(tmp_path / "new"), count=1)  # the network has to be trained again for it
    assert len(list((tmp_path / "new" / "networks").iterdir())) == 1
    assert len(list((tmp_path / "new" / "outcomes").iterdir())) == 1


def test_exporting_again_keeps_what_only_evidence_has_and_drops_what_no_plan_knows(exported, tmp_path):
    rows, folder = exported
    more = fpdlib.plan("table2", profile=TINY, seeds=[1]).query("network == 'ReLU' and attack in ('', 'published/linf-fgsm')")
    fpdlib.compute(more, "cpu", str(tmp_path / "new"), count=1, quiet=True)
    both = pd.concat([rows, more])
    export(both, worker.store_of(both, str(tmp_path / "new")), folder)
    assert set(both["key"]) == set(Committed(folder).results)
    export(more, worker.store_of(more, str(tmp_path / "new")), folder)
    assert set(more["key"]) == set(Committed(folder).results) and not (folder / "outcomes-table1.parquet").exists()


@pytest.mark.parametrize("damage", [lambda b: b[:-1], lambda b: b"x" + b[1:]])
@pytest.mark.parametrize("name", ["results.parquet", "outcomes-table1.parquet", "logs.parquet", "studies.parquet"])
def test_damaged_files_are_named(tmp_path, damage, name):
    copy = shutil.copytree(LAPTOP, tmp_path / "copy")
    (copy / name).write_bytes(damage((copy / name).read_bytes()))
    with pytest.raises(FPDError, match=rf"{name} is damaged or missing.*git checkout"):
        Committed(copy)._read(name)


def test_nothing_to_export_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setenv("FPD_RESULTS", str(tmp_path / "none"))
    rows = fpdlib.plan("table1", profile=TINY)
    with pytest.raises(FPDError, match="nothing of it is in the store"):
        export(rows, worker.store_of(rows, str(tmp_path / "s")), tmp_path / "results")
    with pytest.raises(NotComputed, match=r"table1: not everything is there of F; `python -m fpdlib work`"):
        fpdlib.load(rows, str(tmp_path)).complete("F")
    with pytest.raises(NotComputed, match="the plan has nothing of table2; it has: table1"):
        _ = fpdlib.load(rows, str(tmp_path)).at("table2").profile


def test_committed_evidence_is_whole_and_of_todays_experiments():
    """A changed recipe or attack renames its results; what is committed under the old name would be read by nothing."""
    found, rows = Committed(LAPTOP), fpdlib.plan(profile="laptop")
    assert len(found.results) > 400 and set(found.results) <= set(rows["key"]), "run `python -m fpdlib export --profile laptop`"
    for key, line in found.results.items():
        meta = found.entry(key)["meta"]
        assert meta["seconds"] > 0 and meta["provenance"]["libraries"]["torch"]
        if line["kind"] == "outcomes":
            assert len(found.outcome(key)) and found.outcome(key)["eps"].notna().all() and all(meta["needs"].values())
        elif line["kind"] == "networks":
            assert len(found.log(key))
        else:
            assert all(isinstance(content, io.BytesIO) for content in found.files(key).values())
    assert set((LAPTOP / SUMS).read_text().split()[1::2]) == {path.name for path in LAPTOP.iterdir()} - {SUMS}


def test_what_was_read_may_be_changed(tmp_path):
    evidence = fpdlib.load(fpdlib.plan("table1", profile="laptop"), str(tmp_path))
    store, result = evidence.store, evidence.result("X", "radius", 0)
    mine = store.outcome(result)
    mine.loc[:, "broken"] = False
    assert store.outcome(result)["broken"].any()


def test_the_tidy_frame_has_every_attack_also_where_two_share_a_result(tmp_path):
    rows = fpdlib.plan("table2", profile="laptop", seeds=[0]).query("network == 'F'")
    tidy = fpdlib.load(rows, str(tmp_path)).outcomes
    assert set(tidy["attack"]) == set(rows["attack"]) - {""}
    both = [tidy[tidy["attack"] == f"{protocol}/l2-cw"]["broken"].tolist() for protocol in ("published", "current")]
    assert both[0] == both[1] and not tidy.duplicated(["setting", "network", "attack", "seed", "index", "eps"]).any()


def test_a_table_leaves_out_and_names_what_is_not_there(tmp_path):
    from fpdlib.report import tables

    rows = fpdlib.plan("table2", profile="laptop")
    whole = tables.caption(fpdlib.load(rows, str(tmp_path)))
    assert "seeds 0, 1, 2;" in whole and "Not everything" not in whole
    evidence = fpdlib.load(rows, str(tmp_path))
    for seed in range(3):
        del evidence.store.committed.results[evidence.result("F", "published/linf-pgd", seed).key]
    told = tables.measured(evidence, evidence.names)
    assert "published/linf-pgd" not in set(told[told["network"] == "F"]["measure"]) and "O_PGD" in set(told["network"])
    with pytest.raises(NotComputed, match="`python -m fpdlib work --plan table2"):
        tables.measured(evidence, ["F"], ["published/linf-pgd"])
    assert "Not everything is there of F." in tables.caption(evidence)


def test_a_store_without_evidence_has_none(tmp_path):
    assert not Store(tmp_path).committed.results and not Committed(tmp_path / "no").results


def test_reading_evidence_imports_no_more_than_it_needs(tmp_path):
    """torchvision, timm and the attack libraries take seconds to import: every notebook and command would wait for them."""
    script = """
import sys, fpdlib, fpdlib.report
rows = fpdlib.plan("table1", profile="laptop", seeds=[0]).query("network == 'F' and kind != 'studies'")
assert len(fpdlib.load(rows, sys.argv[1]).outcomes)
print([name for name in ("torchvision", "timm", "art", "foolbox", "nbconvert") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        (lambda: fpdlib.plan(seeds=0), r"seeds is 0; accepted: several integers from 0, such as \[0\]"),
        (lambda: fpdlib.plan(profile=None), "profile is None; accepted: 'smoke'"),
        (lambda: fpdlib.load("table1"), r"the plan is a str; accepted: rows of `fpdlib.plan\(...\)` with all its columns"),
        (lambda: fpdlib.compute(pd.DataFrame({"key": ["a"]})), "the plan is a DataFrame; accepted"),
        (lambda: fpdlib.load(pd.concat([fpdlib.plan("table1"), fpdlib.plan("table1", profile="laptop")])),
         "the plan is of smoke and laptop; accepted: rows of one profile"),
        (lambda: fpdlib.load_network("F", setting="claims"), "setting is 'claims'; accepted: 'table1'"),
        (lambda: fpdlib.compute(fpdlib.plan("table1"), budget="5m"), "budget is '5m'; accepted: a number above 0"),
        (lambda: fpdlib.compute(fpdlib.plan("table1"), count=1.5), "the number of workers is 1.5; accepted: an integer from 1"),
    ],
)  # fmt: skip
def test_what_plan_load_and_compute_do_not_take_is_one_error(ask, words):
    with pytest.raises(FPDError, match=words):
        ask()


def test_outcomes_of_which_none_is_there_have_their_columns(tmp_path):
    found = fpdlib.load(fpdlib.plan("table1", profile=TINY), str(tmp_path)).outcomes
    assert found.empty and not len(found.groupby(["attack", "eps"])["broken"].mean())
    assert {"setting", "network", "attack", "protocol", "seed", "broken"} <= set(found)


def test_computing_leaves_the_caller_s_torch_as_it_was_and_does_not_depend_on_it(tmp_path):
    rows = fpdlib.plan("table1", profile=TINY).query("network == 'ReLU' and attack in ('', 'white-box')")
    weights, drawn = [], torch.random.get_rng_state()
    for folder, kind in (("plain", torch.float32), ("double", torch.float64)):
        torch.set_default_dtype(kind)
        torch.set_float32_matmul_precision("highest" if kind == torch.float32 else "medium")
        torch.set_num_threads(2)
        try:
            with torch.no_grad():
                fpdlib.compute(rows, "cpu", str(tmp_path / folder), count=1, quiet=True)
            assert torch.get_default_dtype() == kind and torch.get_num_threads() == 2
        finally:
            torch.set_default_dtype(torch.float32)
            torch.set_float32_matmul_precision("highest")
            torch.set_num_threads(1)
        weights.append(next((tmp_path / folder / "networks").glob("*/model.safetensors")).read_bytes())
    assert weights[0] == weights[1] and torch.equal(torch.random.get_rng_state(), drawn)
