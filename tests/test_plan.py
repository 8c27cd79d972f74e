"""The plan lists everything once; equal workers compute each result once, whatever is killed, and wait for nothing."""

import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
from test_lab import ROOT, cli

from fpdlib.errors import BudgetExhausted, FPDError
from fpdlib.paper.settings import SETTINGS
from fpdlib.results import plan, studies
from fpdlib.results.lab import Lab
from fpdlib.results.plan import Result
from fpdlib.results.store import Store
from fpdlib.runtime import Budget


def dummies(root: Path, count: int = 12, seconds: float = 0.15) -> dict[str, Result]:
    """A network and what needs it, three times; a result leaves a line in `log` whenever it is computed."""
    store = Store(root)

    def result(key, needs=()):
        def compute():
            with store.lock(key, 0):
                if not store.has("outcomes", key):
                    time.sleep(seconds)
                    with open(root / "log", "a") as log:
                        log.write(f"{key}\n")
                    store.write("outcomes", key, {}, {})

        kind = "outcome" if needs else "network"
        return Result(kind, "table1", 0, key, "dummy", key, needs, lambda: store.has("outcomes", key), compute)

    results = {}
    for number in range(count):
        network = f"network{number % 3}"
        results.setdefault(network, result(network))
        results[f"outcome{number}"] = result(f"outcome{number}", (network,))
    return results


def one_worker(root: Path) -> None:
    plan.work(dummies(root), Store(root), Budget(waits=False), lambda what: None)


def start(root: Path, count: int) -> list:
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=one_worker, args=(root,)) for _ in range(count)]
    for process in processes:
        process.start()
    return processes


def test_many_workers_compute_each_result_once(tmp_path):
    processes = start(tmp_path, 4)
    for process in processes:
        process.join(60)
    lines = (tmp_path / "log").read_text().split()
    assert sorted(lines) == sorted(dummies(tmp_path)) and not plan.missing(dummies(tmp_path))
    assert all(lines.index(f"network{n % 3}") < lines.index(f"outcome{n}") for n in range(12))


def test_a_killed_worker_costs_only_what_it_was_computing(tmp_path):
    processes = start(tmp_path, 3)
    time.sleep(0.5)
    os.kill(processes[0].pid, signal.SIGKILL)
    for process in processes:
        process.join(60)
    lines = (tmp_path / "log").read_text().split()
    assert set(lines) == set(dummies(tmp_path)) and len(lines) <= len(set(lines)) + 1


def test_a_failure_stops_only_what_needs_it_and_leaves_its_traceback(tmp_path, capsys):
    results = dummies(tmp_path, seconds=0)
    results["network1"].compute = lambda: 1 / 0
    failed = plan.work(results, Store(tmp_path), Budget(waits=False), lambda what: None)
    assert {result.key for result in failed} == {"network1", "outcome1", "outcome4", "outcome7", "outcome10"}
    text = (tmp_path / "failed" / "network1.txt").read_text()
    assert "ZeroDivisionError" in text and "network1.txt" in capsys.readouterr().err
    with pytest.raises(FPDError, match="5 results could not be computed: network1 seed 0: dummy"):
        plan.check(failed)
    again = dummies(tmp_path, seconds=0)
    assert not plan.work(again, Store(tmp_path), Budget(waits=False), lambda what: None)
    assert not (tmp_path / "failed" / "network1.txt").exists()


def test_a_spent_budget_ends_a_worker_that_could_only_wait(tmp_path):
    results = dummies(tmp_path, 1, seconds=0)
    with Store(tmp_path).lock("network0"), pytest.raises(BudgetExhausted):
        plan.work(results, Store(tmp_path), Budget(0.5, waits=False), lambda what: None)


def test_the_smallest_budget_still_gets_somewhere(tmp_path):
    with pytest.raises(BudgetExhausted):
        plan.work(dummies(tmp_path, seconds=0), Store(tmp_path), Budget(1e-9, waits=False), lambda what: None)
    assert len((tmp_path / "log").read_text().split()) == 1


def test_the_plan_has_every_result_that_a_table_reads_once(tmp_path):
    lab = Lab("smoke", store=tmp_path)
    results = plan.plan([lab])
    for setting in SETTINGS:
        here = lab.at(setting)
        for name in here.networks:
            assert results[here.network_key(name)].kind == "network"
            assert {here.outcome_key(name, attack) for attack in here.profile.attacks} <= set(results)
    order = {key: number for number, key in enumerate(results)}
    assert all(order[need] < order[key] for key, result in results.items() for need in result.needs)
    assert sum(result.kind == "study" for result in results.values()) == len(studies.NEEDED)
    hardened = [r for r in results.values() if r.kind == "network" and r.name == "O_PGD" and r.setting == "table2"]
    assert [results[key].name for key in hardened[0].needs] == ["ReLU"]
    borrowed = results[lab.at("transfer-resnet50").outcome_key("O_PGD", "published/resnext50/F/linf-pgd")]
    assert [(results[key].kind, results[key].name) for key in borrowed.needs] == [
        ("network", "O_PGD"),
        ("crafted", "F"),
    ]


def test_evidence_without_checkpoints_needs_no_training(profiles, tmp_path):
    """A network of committed evidence is trained again only for a result that is missing."""
    lab = Lab("tiny", store=tmp_path, progress=False)
    for attack in lab.profile.attacks:
        lab.outcome("X", attack)
    (lab.store.folder("networks", lab.network_key("X")) / "model.safetensors").unlink()
    of_x = {key: r for key, r in plan.plan([lab], ("table1",)).items() if r.name == "X"}
    assert len(of_x) == 6 and not plan.missing(of_x)
    shutil.rmtree(lab.store.folder("outcomes", lab.outcome_key("X", "curve")))
    of_x = {key: r for key, r in plan.plan([lab], ("table1",)).items() if r.name == "X"}
    assert [result.what for result in plan.missing(of_x)] == ["training", "curve"]


def test_costs_come_from_committed_results(tmp_path):
    results = plan.plan([Lab("laptop", seed, store=tmp_path) for seed in (0, 1)], ("table1",))
    by = {(r.name, r.seed, r.what): r for r in results.values()}
    assert by["F", 0, "training"].measured and 100 < by["F", 0, "training"].cost < 1000
    assert by["F", 0, "curve"].measured and not by["Deep", 1, "curve"].measured
    assert by["Deep", 1, "curve"].cost == by["Deep", 0, "curve"].cost  # another seed of the same network
    frame, words = plan.summary(results)
    count = int(frame.loc["table1", "missing"])
    assert 0 < count < len(results) == int(frame.loc["table1", "results"])  # seed 1 of some networks is not committed
    assert f"{count} of {len(results)} results missing" in words and frame.loc["table1", "minutes"] > 1


def test_two_workers_and_one_give_the_same_bits(tmp_path):
    stores, arguments = {}, ("work", "--profile", "tiny", "--settings", "table1", "protocols")
    for count in (1, 2):
        done = cli(tmp_path / str(count), *arguments, "--workers", count)
        assert done.returncode == 0, done.stderr
        assert "0 of 14 results are there, 14 to compute" in done.stdout
        stores[count] = Store(tmp_path / str(count))
    one, two = stores.values()
    assert one.keys("networks") == two.keys("networks") and len(one.keys("outcomes")) == 7 == len(two.keys("outcomes"))
    for key in one.keys("networks"):  # X, and three whose smoothness is studied
        weights = [store.entry("networks", key)["sha256"]["model.safetensors"] for store in (one, two)]
        assert weights[0] == weights[1]
    for key in one.keys("diagnostics"):
        assert one.entry("diagnostics", key)["sha256"] == two.entry("diagnostics", key)["sha256"]
    for key in one.keys("outcomes"):
        frames = [pd.read_parquet(store.file("outcomes", key, "outcome.parquet")) for store in (one, two)]
        pd.testing.assert_frame_equal(*frames)
    again = cli(tmp_path / "2", *arguments, "--workers", 2)
    assert "14 of 14 results are there, 0 to compute" in again.stdout


def test_helpers_end_with_the_process_that_started_them(tmp_path):
    script = (
        "import sys, time, subprocess; sys.orig_argv = ['python', '-c', 'import time; time.sleep(60)'];"
        "from fpdlib.results.plan import Helpers; h = Helpers(2); print(*[p.pid for p in h.processes], flush=True); time.sleep(60)"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    children = [int(pid) for pid in parent.stdout.readline().split()]
    assert len(children) == 2 and all(Path(f"/proc/{pid}").exists() for pid in children)
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 10
    while any(alive(pid) for pid in children) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(alive(pid) for pid in children)


def alive(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rsplit(")", 1)[1].split()[0] != "Z"


def test_wrong_arguments_are_named(tmp_path):
    bad = cli(tmp_path, "work", "--profile", "tiny", "--workers", 0)
    assert bad.returncode == 2 and "--workers is 0; accepted: a number from 1" in bad.stderr
    bad = cli(tmp_path, "plan", "--profile", "tiny", "--settings", "table9")
    assert bad.returncode == 2 and "setting is 'table9'; accepted: 'table1'" in bad.stderr
