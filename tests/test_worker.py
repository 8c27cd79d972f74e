"""Equal workers on one store: everything once, whatever is killed; the command line; notebooks' `compute`."""

import contextlib
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from test_store import Text
from tiny import TINY

import fpdlib
from fpdlib import __main__
from fpdlib.errors import BudgetExhausted, FPDError, Incomplete
from fpdlib.report import publish
from fpdlib.results import values, worker
from fpdlib.results.inputs import Inputs
from fpdlib.results.plan import missing
from fpdlib.results.store import Store
from fpdlib.runtime import Budget

ROOT = Path(__file__).parent.parent


@dataclass(frozen=True)
class Dummy(Text):
    """Takes a moment, and leaves a line in `log` whenever it is computed."""

    root: str = ""
    seconds: float = 0.15

    @property
    def network(self):
        return SimpleNamespace(name=self.key, seed=0, network=SimpleNamespace(dataset="none"))

    def compute(self, folder, inputs):
        time.sleep(self.seconds)
        with open(Path(self.root) / "log", "a") as log:
            log.write(f"{self.key}\n")
        return super().compute(folder, inputs)


@dataclass(frozen=True)
class Fails(Dummy):
    def compute(self, folder, inputs):
        return 1 / 0


@dataclass(frozen=True)
class Loses(Dummy):
    """Ctrl-C arrives where the exception is lost: in a destructor, or in a library that raises its own."""

    raises: bool = False

    def compute(self, folder, inputs):
        try:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(5)
        except KeyboardInterrupt:
            if self.raises:
                raise RuntimeError("a library's own") from None
        return super().compute(folder, inputs)


@dataclass(frozen=True)
class Ignores(Dummy):
    def compute(self, folder, inputs):
        os.kill(os.getpid(), signal.SIGINT)
        return super().compute(folder, inputs)


class DummyNetwork(Dummy):
    kind: ClassVar[str] = "networks"


def dummies(root: Path, count: int = 12, seconds: float = 0.15, broken: str = "") -> dict[str, Dummy]:
    """A network and what needs it, three times."""
    networks = [
        (Fails if broken == f"network{n}" else DummyNetwork)(f"network{n}", root=str(root), seconds=seconds) for n in range(3)
    ]
    outcomes = [Dummy(f"outcome{n}", needs=(networks[n % 3],), root=str(root), seconds=seconds) for n in range(count)]
    return {result.key: result for result in (*networks[: min(count, 3)], *outcomes)}


def inputs(root: Path, budget: Budget | None = None):
    store = Store(root)
    store.prepare()
    return SimpleNamespace(store=store, device=torch.device("cpu"), budget=budget or Budget(), used={}, images_of="")


def work(known, mine, say):
    return worker.work(known, set(known), mine, say)


def one_worker(root: Path) -> None:
    work(dummies(root), inputs(root), lambda what: None)


def start(root: Path, count: int) -> list:
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=one_worker, args=(root,)) for _ in range(count)]
    for process in processes:
        process.start()
    return processes


def lines(root: Path) -> list[str]:
    return (root / "log").read_text().split()


def test_many_workers_compute_each_result_once(tmp_path):
    for process in (processes := start(tmp_path, 4)):
        process.join(60)
    assert [process.exitcode for process in processes] == [0] * 4
    assert sorted(lines(tmp_path)) == sorted(dummies(tmp_path)) and not missing(
        dummies(tmp_path), set(dummies(tmp_path)), Store(tmp_path)
    )
    assert all(lines(tmp_path).index(f"network{n % 3}") < lines(tmp_path).index(f"outcome{n}") for n in range(12))


def test_eight_workers_and_one_kill_repeat_only_what_was_running(tmp_path):
    processes = start(tmp_path, 8)
    time.sleep(0.5)
    os.kill(processes[0].pid, signal.SIGKILL)
    for process in processes:
        process.join(60)
    assert set(lines(tmp_path)) == set(dummies(tmp_path)) and len(lines(tmp_path)) <= len(set(lines(tmp_path))) + 1


def test_a_failure_stops_only_what_needs_it_and_leaves_its_traceback(tmp_path, capsys):
    failed = work(dummies(tmp_path, seconds=0, broken="network1"), inputs(tmp_path), lambda what: None)
    assert {result.key for result in failed} == {"network1", "outcome1", "outcome4", "outcome7", "outcome10"}
    text = (tmp_path / "failed" / "network1.txt").read_text()
    assert "ZeroDivisionError" in text and "network1.txt" in capsys.readouterr().err
    with pytest.raises(Incomplete, match="5 results could not be computed: network1 seed 0: text"):
        worker.check(failed)
    assert not work(dummies(tmp_path, seconds=0), inputs(tmp_path), lambda what: None)
    assert not (tmp_path / "failed" / "network1.txt").exists()


@pytest.fixture
def ctrl_c():
    """Raises, also where a shell ignores it in what it starts in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("raises", [False, True])
def test_ctrl_c_ends_a_worker_also_where_the_exception_is_lost(tmp_path, ctrl_c, raises):
    known = {"first": Loses("first", root=str(tmp_path), seconds=0, raises=raises)} | dummies(tmp_path, 3, seconds=0)
    with pytest.raises(KeyboardInterrupt):
        work(known, inputs(tmp_path), lambda what: None)
    assert not (tmp_path / "log").exists() or lines(tmp_path) == ["first"]
    assert not list((tmp_path / "failed").iterdir()) and signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_worker_leaves_an_ignored_ctrl_c_ignored(tmp_path, ctrl_c):
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # as nohup and a shell's background do
    known = {"first": Ignores("first", root=str(tmp_path), seconds=0)} | dummies(tmp_path, 3, seconds=0)
    assert not work(known, inputs(tmp_path), lambda what: None) and len(lines(tmp_path)) == len(known)
    assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN


def test_a_spent_budget_ends_a_worker_that_could_only_wait(tmp_path):
    mine = inputs(tmp_path, Budget(0.5))
    with mine.store.lock("network0"), pytest.raises(BudgetExhausted):
        work(dummies(tmp_path, 1, 0), mine, lambda what: None)


def test_the_smallest_budget_still_gets_somewhere(tmp_path):
    with pytest.raises(BudgetExhausted):
        work(dummies(tmp_path, seconds=0), inputs(tmp_path, Budget(1e-9)), lambda what: None)
    assert len(lines(tmp_path)) == 1


def test_evidence_without_checkpoints_needs_no_training(tmp_path):
    """A network whose outcomes are there is trained again only for a result that is missing."""
    known, mine = dummies(tmp_path, 4, 0), inputs(tmp_path)
    work(known, mine, lambda what: None)
    (mine.store.folder(known["network1"]) / "data.txt").unlink()
    assert not missing(known, set(known) - {"network0", "network1", "network2"}, mine.store)
    for path in mine.store.folder(known["outcome1"]).iterdir():
        path.unlink()
    mine.store.folder(known["outcome1"]).rmdir()
    assert {result.key for result in missing(known, set(known) - {"network0", "network1", "network2"}, mine.store)} == {
        "network1",
        "outcome1",
    }


def tiny(*what, networks=("X",)):
    rows = fpdlib.plan(*(what or ("table1",)), profile=TINY)
    return rows[rows["network"].isin(networks)]


def bits(root: Path, rows) -> dict:
    """What a store has of some rows: weights by their checksums, outcomes as frames."""
    store = Store(root)
    found = {}
    for result in rows.drop_duplicates("key")["result"]:
        is_network = isinstance(result, values.Network)
        found[result.key] = store.entry(result)["sha256"]["model.safetensors"] if is_network else store.outcome(result)
    return found


def same(a: dict, b: dict) -> None:
    assert a.keys() == b.keys() and len(a) > 1
    for key, value in a.items():
        if isinstance(value, str):
            assert value == b[key], key
        else:
            pd.testing.assert_frame_equal(value, b[key])


def test_one_tiny_network_from_nothing_to_its_outcomes(few, tmp_path, capsys):
    rows = tiny()
    fpdlib.compute(rows, "cpu", str(tmp_path), count=1, quiet=True)
    evidence = fpdlib.load(rows, str(tmp_path))
    assert evidence.seeds("X") == [0] and not evidence.missing()
    assert len(evidence.outcome("X", "radius", 0)) == 10 and evidence.log("X", 0)["epoch"].tolist() == [0, 1]
    assert 0 <= evidence.clean("X", 0).value <= 1 and evidence.clean("X", 0).n == 200
    counts = evidence.meta("X", "transfer-oracle", 0)["counts"]
    assert counts["backwards"] > 0 and 0 <= counts["surrogate_agreement"] <= 1
    tidy = evidence.outcomes
    assert set(tidy["attack"]) == set(rows[rows["kind"] == "outcomes"]["attack"]) and {"network", "seed", "eps", "broken"} <= set(
        tidy
    )
    needs = evidence.meta("X", "radius", 0)["needs"]
    assert list(needs.values()) == [Store(tmp_path).entry(evidence.result("X", "", 0))["sha256"]["model.safetensors"]]
    assert evidence.meta("X", "radius", 0)["data"] == evidence.meta("X", "", 0)["data"] != ""
    written = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    fpdlib.compute(rows, "cpu", str(tmp_path))
    assert "7 of 7 results are there, 0 to compute" in capsys.readouterr().out
    assert written == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    model = fpdlib.load_network("X", TINY, device="cpu", store=str(tmp_path))
    assert model(torch.rand(2, 3, 32, 32)).shape == (2, 10) and not model.training


def test_nothing_is_computed_where_nothing_may_be(few, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("FPD_COMPUTE", "0")
    fpdlib.compute(tiny(), "cpu", str(tmp_path / "none"))
    assert "missing: X" in capsys.readouterr().out and not (tmp_path / "none").exists()
    assert fpdlib.load(tiny(), str(tmp_path / "none")).missing() == ["X"]


def test_damaged_and_foreign_checkpoints_are_named(few, tmp_path):
    rows = tiny().query("kind == 'networks'")
    fpdlib.compute(rows, "cpu", str(tmp_path), quiet=True)
    store, network = Store(tmp_path), rows["result"].iat[0]
    path = store.folder(network) / "model.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(FPDError, match=r"model\.safetensors is damaged.*Delete the folder"):
        fpdlib.load_network("X", TINY, store=str(tmp_path))
    path.write_bytes(whole)
    wider = replace(network, spec=replace(network.spec, decoder_width=4, inner=("stage1",)))
    os.rename(store.folder(network), store.folder(wider))
    with pytest.raises(FPDError, match="does not fit X"):
        Inputs(store, torch.device("cpu")).model(wider)


def test_an_outcome_of_other_weights_is_refused(few, tmp_path):
    rows = tiny()
    fpdlib.compute(rows[rows["attack"].isin(["", "white-box"])], "cpu", str(tmp_path), count=1, quiet=True)
    store = Store(tmp_path)
    entry = store.folder(rows.query("kind == 'networks'")["result"].iat[0]) / "entry.json"
    entry.write_text(entry.read_text().replace('"model.safetensors": "', '"model.safetensors": "0'))
    with pytest.raises(FPDError, match=r"computed on other weights of X.*Delete"):
        fpdlib.load(rows, str(tmp_path)).outcome("X", "white-box", 0)


def test_a_budget_stops_and_the_next_run_continues(few, tmp_path):
    rows, stops = tiny(), 0
    for _ in range(60):
        try:
            fpdlib.compute(rows, "cpu", str(tmp_path / "stopped"), budget=0.2, count=1, quiet=True)
            break
        except BudgetExhausted:
            stops += 1
    assert 3 < stops < 60
    fpdlib.compute(rows, "cpu", str(tmp_path / "whole"), count=1, quiet=True)
    same(bits(tmp_path / "whole", rows), bits(tmp_path / "stopped", rows))


def cli(store, *arguments, **options):
    command = [sys.executable, "tests/tiny.py", *map(str, arguments), "--store", str(store)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment, timeout=300, **options)


WORK = ("work", "--profile", "tiny", "--plan", "table1", "--networks", "X")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_command_continues(tmp_path, number):
    command = [sys.executable, "tests/tiny.py", *WORK, "--store", str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    # a shell ignores Ctrl-C in what it starts in the background, and these tests may be that
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, env=environment,
                               preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))  # fmt: skip
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not list((tmp_path / "networks").glob("X*/entry.json")):
        time.sleep(0.05)
    process.send_signal(number)
    _, messages = process.communicate(timeout=120)
    assert process.returncode == (3 if number == signal.SIGINT else -signal.SIGKILL)
    if number == signal.SIGINT:
        assert b"run the same command to continue" in messages and b"Traceback" not in messages
    run = cli(tmp_path, *WORK)
    assert run.returncode == 0 and "of 7 results are there" in run.stdout, run.stderr
    assert not list((tmp_path / "partial").iterdir())


def test_one_worker_two_workers_and_two_commands_give_the_same_bits(few, tmp_path):
    for count in (1, 2):
        done = cli(tmp_path / str(count), *WORK, "--workers", count)
        assert done.returncode == 0, done.stderr
        assert "0 of 7 results are there, 7 to compute" in done.stdout
    runs = [subprocess.Popen([sys.executable, "tests/tiny.py", *WORK, "--store", str(tmp_path / "both"), "--workers", "1"], cwd=ROOT,
                             env={**os.environ, "PYTHONPATH": str(ROOT)}) for _ in range(2)]  # fmt: skip
    assert [run.wait(300) for run in runs] == [0, 0]
    fpdlib.compute(tiny(), "cpu", str(tmp_path / "notebook"), count=1, quiet=True)
    rows = tiny()
    for other in ("2", "both", "notebook"):
        same(bits(tmp_path / "1", rows), bits(tmp_path / other, rows))
    assert len(list((tmp_path / "both" / "outcomes").iterdir())) == 6
    again = cli(tmp_path / "2", *WORK, "--workers", 2)
    assert "7 of 7 results are there, 0 to compute" in again.stdout


def test_helpers_end_with_the_process_that_started_them(tmp_path):
    script = (
        "import sys, time; sys.path.insert(0, 'tests'); from test_worker import TINY, fpdlib, worker\n"
        "if __name__ == '__main__':\n"
        "    worker.work = lambda *_: (print('ready', flush=True), time.sleep(60))\n"
        f"    fpdlib.compute(fpdlib.plan('table1', profile=TINY), 'cpu', {str(tmp_path)!r}, count=3, quiet=True)\n"
    )
    (tmp_path / "parent.py").write_text(script)
    parent = subprocess.Popen([sys.executable, tmp_path / "parent.py"], cwd=ROOT, stdout=subprocess.PIPE, text=True,
                              env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"})  # fmt: skip
    assert parent.stdout.readline() == "ready\n"
    children = [int(pid) for pid in Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text().split()]
    assert len(children) >= 2
    time.sleep(8)  # they have started, and wait for the parent's end
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 60
    while any(alive(pid) for pid in children) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(alive(pid) for pid in children)


def alive(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rsplit(")", 1)[1].split()[0] != "Z"


def main(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["fpdlib", *map(str, arguments)])
    monkeypatch.setattr(signal, "signal", lambda *_: None)  # leave the test runner's handlers alone
    try:
        return __main__.main()
    except SystemExit as usage:
        return usage.code


def test_a_data_set_that_is_not_there_is_another_exit_status_than_a_mistake(tmp_path, monkeypatch, capsys):
    """`make reproduce` goes on with what is there after the first, and ends at once after the second."""
    monkeypatch.setenv("FPD_DATA", str(tmp_path / "none"))
    asked = ("work", "--profile", "paper", "--plan", "caltech256", "--store", tmp_path, "--workers", 1, "--seeds")
    assert main(monkeypatch, *asked, 0, "--networks", "ReLU") == 1
    said = capsys.readouterr().err
    assert "holds 0 image folders; accepted: 257" in said and "results could not be computed: ReLU seed 0: training" in said
    assert main(monkeypatch, *asked, 0, "--networks", "none") == 2 and main(monkeypatch, *asked, -1) == 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("verify", "--profile", "huge"), "error: profile is 'huge'; accepted: 'smoke', 'laptop'"),
        (("work", "--networks", "G"), "error: network is 'G'"),
        (("work", "--plan", "table9"), "error: what is 'table9'; accepted: 'table1'"),
        (("work", "--plan", "table1", "--networks", "X", "--only", "studies"), "error: nothing of the plan is both"),
        (("work", "--device", "tpu"), "error: device is 'tpu'"),
        (("work", "--seeds", "-1"), "error: seed is -1"),
        (("work", "--workers", "0"), "error: the number of workers is 0"),
        (("work", "--budget", "soon"), "'soon'; accepted: seconds"),
    ],
)
def test_the_command_line_names_mistakes(tmp_path, monkeypatch, capsys, arguments, words):
    assert main(monkeypatch, *arguments, "--store", tmp_path / "s") == 2
    assert words in capsys.readouterr().err and not (tmp_path / "s").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without GPU")
def test_cuda_without_a_gpu_is_named(monkeypatch, capsys, tmp_path):
    assert main(monkeypatch, "work", "--device", "cuda", "--store", tmp_path) == 2
    assert "no GPU" in capsys.readouterr().err


def test_what_failed_in_one_worker_and_was_computed_by_another_is_no_failure(few, tmp_path, monkeypatch):
    rows, honest = tiny(), worker.work
    rows = rows[rows["kind"] == "networks"]
    first = rows["result"].iat[0]
    monkeypatch.setattr(worker, "work", lambda *given: [*honest(*given), first])
    fpdlib.compute(rows, "cpu", str(tmp_path), count=1, quiet=True)
    assert Store(tmp_path).has(first)
    monkeypatch.setattr(worker, "work", lambda *given: [first])
    with pytest.raises(Incomplete, match="1 results could not be computed"):
        fpdlib.compute(rows, "cpu", str(tmp_path / "other"), count=1, quiet=True)


def test_several_workers_share_a_gpu_evenly(tmp_path, monkeypatch):
    """As many as its memory takes; the next one goes to the GPU that has the fewest."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda number: SimpleNamespace(total_memory=(80e9, 30e9)[number]))
    for number, expected in ((32, 8), (3, 3), (1, 2)):  # six and two; no more than processors, but one a GPU
        monkeypatch.setattr(worker, "processors", lambda number=number: number)
        assert worker.workers(torch.device("cuda")) == expected
    store = Store(tmp_path)
    store.prepare()
    with contextlib.ExitStack() as held:
        taken = [held.enter_context(worker.gpu(store, torch.device("cuda"))).index for _ in range(8)]
    assert taken == [0, 1, 0, 1, 0, 0, 0, 0]
    with worker.gpu(store, torch.device("cuda")) as mine:
        assert mine.index == 0


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_network_is_trained_attacked_and_continued_on_a_gpu(few, tmp_path):
    rows, stops = tiny(), 0
    for _ in range(60):
        try:
            fpdlib.compute(rows, "cuda", str(tmp_path), budget=0.5, count=1, quiet=True)
            break
        except BudgetExhausted:
            stops += 1
    evidence = fpdlib.load(rows, str(tmp_path))
    assert stops and evidence.seeds("X") == [0] and len(evidence.outcome("X", "radius", 0)) == 10
    assert evidence.meta("X", "", 0)["provenance"]["hardware"] == torch.cuda.get_device_name(0)
    with worker.gpu(Store(tmp_path), torch.device("cuda")) as mine:
        assert mine.index == 0


def test_budget_exit_status_plan_and_gc(few, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(fpdlib.FPD.profiles, "tiny", TINY)
    work = ("work", "--profile", "tiny", "--store", tmp_path, "--plan", "table1", "--networks", "X", "ReLU", "--only", "networks")
    assert main(monkeypatch, *work, "--budget", "0.01s", "--workers", "1") == 3
    assert "run the same command to continue" in capsys.readouterr().err
    assert main(monkeypatch, *work, "--workers", "1") == 0
    capsys.readouterr()
    assert main(monkeypatch, "status", "--profile", "tiny", "--store", tmp_path, "--csv", tmp_path / "plan.csv") == 0
    said = capsys.readouterr().out
    assert "minutes left" in said and "running" in said and "failed" in said and "hours on one processor" in said
    plan = pd.read_csv(tmp_path / "plan.csv", keep_default_na=False)
    assert {"table", "row", "column", "protocol", "setting", "network", "attack", "seed", "kind", "key"} == set(plan)
    assert main(monkeypatch, "gc", "--store", tmp_path) == 0 and not capsys.readouterr().out
    (elsewhere := tmp_path / "networks" / "here-0123456789ab").mkdir()
    (tmp_path / "networks" / "old-0123456789ab").symlink_to(elsewhere)
    assert main(monkeypatch, *work, "--workers", "1", "--seeds", "7") == 0  # other seeds are regular, too
    capsys.readouterr()
    assert main(monkeypatch, "gc", "--store", tmp_path, "--delete") == 0
    assert capsys.readouterr().out.count("deleted") == 2 and len(list((tmp_path / "networks").iterdir())) == 4


@pytest.mark.parametrize("number", ["1", "2", "3", "4", "caltech", "known-answer", "claims", "answer"])
def test_a_table_that_no_notebook_published_is_one_error(tmp_path, monkeypatch, capsys, number):
    monkeypatch.setenv("FPD_PUBLISH", str(tmp_path / "typo"))
    assert main(monkeypatch, "table", number) == 2
    said = capsys.readouterr().err
    assert "`papermill notebooks/" in said and "-p profile smoke" in said and not (tmp_path / "typo").exists()
    assert (Path(__file__).parent.parent / re.search(r"notebooks/\S+?\.ipynb", said)[0]).exists()


def test_the_tables_that_were_published_are_shown_and_the_others_named(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("FPD_PUBLISH", str(tmp_path))
    publish.page(publish.results_folder("smoke"), "table2", "| the table |")
    assert main(monkeypatch, "table", "all") == 0
    said = capsys.readouterr().out
    assert "| the table |" in said and "1 is left out" in said and "claims is left out" in said and str(tmp_path / "smoke") in said


def test_an_unknown_table_is_one_error(monkeypatch, capsys):
    assert main(monkeypatch, "table", "9") == 2 and "error: table is '9'; accepted: '1', '2'" in capsys.readouterr().err


@pytest.mark.parametrize("command", [("table", "1"), ("report",)])
def test_a_table_or_report_of_an_unknown_profile_is_one_error(monkeypatch, capsys, command):
    assert main(monkeypatch, *command, "--profile", "huge") == 2
    assert "error: profile is 'huge'; accepted: 'smoke', 'laptop'" in capsys.readouterr().err


def test_verdicts_of_nothing_are_not_tested(tmp_path, monkeypatch, capsys):
    assert main(monkeypatch, "verify", "--store", tmp_path / "empty", "robust-mnist", "resists-mnist") == 0
    said = capsys.readouterr().out
    assert said.count("not tested") == 7 and "6 not tested" in said and "holds" not in said


def test_the_weights_do_not_depend_on_what_was_trained_before(few, tmp_path):
    rows = tiny(networks=("X", "ReLU")).query("kind == 'networks'")
    fpdlib.compute(rows, "cpu", str(tmp_path / "both"), count=1, quiet=True)
    fpdlib.compute(rows.query("network == 'X'"), "cpu", str(tmp_path / "one"), count=1, quiet=True)
    paths = [next((tmp_path / name / "networks").glob("X*/model.safetensors")) for name in ("both", "one")]
    a, b = (load_file(path) for path in paths)
    assert all(torch.equal(a[key], b[key]) for key in a)


def test_a_reader_that_has_seen_enough_is_no_error():
    """`python -m fpdlib plan | head -1`, at its worst: nobody reads any more when the first line comes."""
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "fpdlib", "plan", "--profile", "smoke", "--plan", "table1"]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, cwd=Path(__file__).parents[1], check=False)
    os.close(writer)
    assert done.returncode == 128 + signal.SIGPIPE and "Error" not in done.stderr and "Exception" not in done.stderr
