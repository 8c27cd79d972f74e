"""One list of what a profile's tables, claims and notebooks read, and equal workers that compute what is missing of it.

A worker takes a result whose needs are there and whose lock is free, computes it, and the store renames it into place; what another
worker holds it passes over, so nothing ever waits for a lock. A result that fails leaves its traceback under `failed/` in the store
and stops only what needs it.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from fpdlib.errors import BudgetExhausted, Busy, FPDError, NotComputed
from fpdlib.files import replace_file
from fpdlib.paper.settings import SETTINGS
from fpdlib.results import studies
from fpdlib.results.lab import Lab, named_network
from fpdlib.runtime import processors

KINDS = {"network": "networks", "outcome": "outcomes"}
MEANS = ("network", "crafted")  # what is computed for other results alone
COSTS = {"network": 4.0, "crafted": 2.0, "outcome": 1.0, "study": 3.0}  # seconds in smoke; for profiles without committed results
MEMORY = 2.5e9  # bytes that one worker may take
SAY_EVERY = 8.0  # seconds between two lines of progress


@dataclass(eq=False)
class Result:
    """One thing to compute: a trained network, adversarial images to be transferred, an outcome of an attack, a study of a network.

    cost: seconds on one processor, as the committed results of the same profile took; measured: whether they have this very result.
    """

    kind: str
    setting: str
    seed: int
    name: str
    what: str
    key: str
    needs: tuple[str, ...]
    check: Callable[[], bool]
    compute: Callable[[], object]
    done: bool = field(default=False)
    measured: bool = False
    cost: float = field(init=False)

    def __post_init__(self):
        self.cost = COSTS[self.kind]

    def there(self) -> bool:
        self.done = self.done or self.check()
        return self.done

    def __str__(self) -> str:
        return f"{self.name} seed {self.seed}: {self.what} ({self.setting})"


def plan(labs: Iterable[Lab], settings: Iterable[str] = SETTINGS) -> dict[str, Result]:
    """Everything that the tables and notebooks of these settings read, by key, each after what it needs."""
    results: dict[str, Result] = {}
    labs, settings = list(labs), tuple(settings)

    def network(lab: Lab, name: str) -> str:
        key, begin = lab.network_key(name), lab.recipe(name).begin
        needs = (network(lab, begin),) if begin else ()
        if key not in results:
            results[key] = Result("network", lab.profile.setting, lab.seed, name, "training", key, needs,
                                  lambda: lab.store.has("networks", key, "model.safetensors"), lambda: lab.train(name))  # fmt: skip
        return key

    def crafted(lab: Lab, name: str, spec) -> str:
        key, needs = lab.crafted_key(name, spec), (network(lab, name),)
        if key not in results:
            results[key] = Result("crafted", lab.profile.setting, lab.seed, name, spec.name, key, needs,
                                  lambda: lab.store.has("crafted", key, "images.safetensors"),
                                  lambda: lab.craft(name, spec))  # fmt: skip
        return key

    def outcome(lab: Lab, name: str, attack: str) -> None:
        key, needs = lab.outcome_key(name, attack), [network(lab, name)]
        if source := named_network(lab.profile.attacks[attack]):
            needs.append(crafted(lab.at(source[0]), source[1], lab.profile.attacks[attack]))
        if key not in results:
            results[key] = Result("outcome", lab.profile.setting, lab.seed, name, attack, key, tuple(needs),
                                  lambda: lab.store.has("outcomes", key, "outcome.parquet"),
                                  lambda: lab.outcome(name, attack))  # fmt: skip

    def study(lab: Lab, measure: Callable, name: str, others: tuple[str, ...]) -> None:
        key = f"{lab.profile.setting}/{name}-s{lab.seed}-{measure.__name__}"
        needs = tuple(dict.fromkeys(network(lab, one) for one in (name, *others)))
        results[key] = Result("study", lab.profile.setting, lab.seed, name, measure.__name__, key, needs,
                              lambda: is_stored(lab, measure, name), lambda: measure(lab, name))  # fmt: skip

    for lab in labs:
        for here in (lab.at(setting) for setting in settings):
            for name in here.networks:
                for attack in here.profile.attacks:
                    outcome(here, name, attack)
        for setting, measure, name, others in studies.NEEDED:
            if setting in settings:
                study(lab.at(setting), measure, name, others)
    price(results, labs)
    return results


def price(results: dict[str, Result], labs: list[Lab]) -> None:
    """Set every result's cost: as committed, else as another seed or network took, else as its kind does."""
    evidence = labs[0].store.evidence
    known: dict[tuple, list[float]] = {}
    for result in results.values():
        kind = KINDS.get(result.kind, "")
        if evidence.has(kind, result.key):
            meta = evidence.entry(kind, result.key)["meta"]
            result.cost, result.measured = meta.get("counts", meta)["seconds"], True
            for alike in ((result.setting, result.name, result.what), (result.setting, result.what), (result.what,), (result.kind,)):
                known.setdefault(alike, []).append(result.cost)
    for result in results.values():
        if not result.measured:
            keys = ((result.setting, result.name, result.what), (result.setting, result.what), (result.what,), (result.kind,))
            result.cost = next((float(np.median(known[alike])) for alike in keys if alike in known), result.cost)


def is_stored(lab: Lab, measure: Callable, name: str) -> bool:
    """Whether a study can be read without computing anything."""
    before, lab.stored_only = lab.stored_only, True
    try:
        measure(lab, name)
    except FPDError:  # not there, or not to be read: whoever computes it will say why
        return False
    finally:
        lab.stored_only = before
    return True


def missing(results: dict[str, Result]) -> list[Result]:
    """What has to be computed: a checkpoint or crafted images only if something missing needs them (evidence has neither)."""
    wanted = {key for result in results.values() if result.kind not in MEANS and not result.there() for key in result.needs}
    for key in reversed(results):  # what a result needs comes before it
        if key in wanted and not results[key].there():
            wanted |= set(results[key].needs)
    todo = [r for r in results.values() if (r.kind not in MEANS or r.key in wanted) and not r.there()]
    return sorted(todo, key=lambda result: result.kind not in MEANS)  # first what others wait for


def work(results: dict[str, Result], store, budget, say: Callable[[str], None] = print) -> list[Result]:
    """Compute what is missing, as one of any number of workers; returns what failed or needs what failed.

    Raises BudgetExhausted and KeyboardInterrupt after what is under way was saved.
    """
    failed: dict[str, Result] = {}
    began = False
    while True:
        todo = [result for result in missing(results) if result.key not in failed]
        blocked = [result for result in todo if any(key in failed for key in result.needs)]
        failed |= {result.key: result for result in blocked}
        ready = [r for r in todo if r.key not in failed and all(results[key].there() for key in r.needs)]
        if not [result for result in todo if result.key not in failed]:
            return list(failed.values())
        computed = False
        for result in ready:
            if result.there():
                continue
            if began:  # the shortest budget still gets somewhere
                budget.check()
            began = True
            try:
                say(str(result))
                result.compute()
                result.done = computed = True
                traceback_of(store, result).unlink(missing_ok=True)
            except Busy:
                continue
            except (BudgetExhausted, KeyboardInterrupt):
                raise
            except Exception as error:  # whatever a library throws: the other results do not depend on it
                failed[result.key] = result
                leave(store, result, error)
            if result.kind in MEANS:
                break  # it may have made others ready
        if not computed:
            budget.check()
            time.sleep(0.3)  # all that is left is under way elsewhere, or waits for it


def traceback_of(store, result: Result) -> Path:
    return store.root / "failed" / f"{result.key.replace('/', '-')}.txt"


def leave(store, result: Result, error: Exception) -> None:
    """Keep the traceback of a failed result, and say where it is."""
    path = traceback_of(store, result)
    path.parent.mkdir(exist_ok=True)
    text = f"{result}\n\n{''.join(traceback.format_exception(error))}"
    replace_file(path, lambda target: target.write_text(text))
    print(f"failed: {result}: {error}\n  traceback: {path}", file=sys.stderr, flush=True)


def workers(device: str) -> int:
    """How many workers this machine takes: one a GPU, else one a processor, as far as its free memory goes."""
    if device == "cuda":
        return 1
    with open("/proc/meminfo") as file:
        free = 1024 * next(int(line.split()[1]) for line in file if line.startswith("MemAvailable"))
    return max(1, min(processors(), int(free / MEMORY)))


class Helpers:
    """More workers beside this process, with the same command line; they end when it ends, however it does."""

    def __init__(self, count: int):
        command = [sys.executable, *sys.orig_argv[1:], "--workers", "1", "--quiet"]
        environment = os.environ | {"OMP_WAIT_POLICY": "PASSIVE"}
        die = ctypes.CDLL(None).prctl if sys.platform == "linux" else lambda *_: None
        self.processes = [
            subprocess.Popen(command, env=environment, preexec_fn=lambda: die(1, signal.SIGTERM)) for _ in range(count)
        ]  # fmt: skip

    def stop(self) -> None:
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            process.wait()


def progress(todo: list[Result], now: dict, stop: threading.Event, stream=sys.stderr) -> None:
    """A line every few seconds: what this worker computes, how much of all is there, and about how long the rest takes."""
    started, total = time.monotonic(), sum(result.cost for result in todo)
    while not stop.wait(SAY_EVERY):
        done = [result for result in todo if result.done or (result.kind != "study" and result.there())]
        passed, paid = time.monotonic() - started, sum(result.cost for result in done)
        left = f", about {passed * (total - paid) / paid / 60:.1f} min left" if paid > 0 else ""
        print(f"  {len(done)} of {len(todo)}{left}; now {now.get('what', 'starting')}", file=stream, flush=True)


def compute(labs: list[Lab], settings: Iterable[str], count: int, quiet: bool = False) -> list[Result]:
    """Compute what is missing with `count` workers, this process among them; returns what failed."""
    results, now, stop = plan(labs, settings), {}, threading.Event()
    todo = missing(results)
    if not quiet:
        print(f"{len(results) - len(todo)} of {len(results)} results are there, {len(todo)} to compute", flush=True)
        for setting in settings:
            if labs[0].at(setting).profile.stand_in and labs[0].profile.name != "smoke":
                print(f"  {setting}: the data set is not here, so a STAND-IN takes its place; no claim is tested on it", flush=True)
    if not todo:
        return []
    for lab in labs:
        lab.budget.waits = lab.progress = False
        for setting in settings:
            lab.at(setting).progress = False
    reporter = threading.Thread(target=progress, args=(todo, now, stop), daemon=True)
    helpers = Helpers(min(count, len(todo)) - 1)
    try:
        if not quiet:
            reporter.start()
        return work(results, labs[0].store, labs[0].budget, lambda what: now.update(what=what))
    finally:
        stop.set()
        helpers.stop()


def summary(results: dict[str, Result]) -> tuple[pd.DataFrame, str]:
    """How much of each setting is there and what the rest costs, a line a setting; and the whole in one sentence."""
    todo = missing(results)
    ids = {result.key for result in todo}
    frame = pd.DataFrame([
        {"setting": r.setting, "results": 1, "missing": r.key in ids, "minutes": r.cost / 60 * (r.key in ids)}
        for r in results.values()
    ]).groupby("setting", sort=False).sum().round(1)  # fmt: skip
    total, measured = sum(r.cost for r in todo), sum(r.cost for r in todo if r.measured)
    share = f"{100 * measured / total:.0f} % of it as these very results took, the rest estimated from alike ones" if total else "-"
    return frame, f"{len(todo)} of {len(results)} results missing: {total / 3600:.1f} hours on one processor ({share})."


def check(failed: list[Result]) -> None:
    """FPDError that names what could not be computed."""
    if failed:
        names = "; ".join(map(str, failed[:5])) + (f"; and {len(failed) - 5} more" if len(failed) > 5 else "")
        raise FPDError(
            f"{len(failed)} results could not be computed: {names}. Their tracebacks are in the store's folder `failed`; everything "
            "else is there. Run the same command again to try them once more."
        )
