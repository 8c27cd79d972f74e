"""Equal workers: each takes a result whose needs are there and whose lock is free, computes it, and the store renames it into place.

Nothing ever waits for a lock. A result that fails leaves its traceback under `failed/` in the store and stops only what needs it.
"""

import contextlib
import ctypes
import multiprocessing
import numbers
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import torch
from filelock import FileLock, Timeout
from tqdm import tqdm

from fpdlib.errors import BudgetExhausted, Busy, FPDError, Incomplete, NotComputed, positive
from fpdlib.files import project_folder, replace_file
from fpdlib.results.committed import Committed
from fpdlib.results.hours import costs
from fpdlib.results.inputs import Inputs, device_of
from fpdlib.results.plan import missing, results
from fpdlib.results.provenance import code_version, provenance
from fpdlib.results.store import Store
from fpdlib.results.values import MEANS, Result, label
from fpdlib.runtime import Budget, processors, remembered, undisturbed

MEMORY = 2.5e9  # bytes that one worker may take
GPU_MEMORY = 12e9  # of a GPU; seven workers with ResNet-101 at 64 pixels, 500 images attacked at once, took 82 GB of an H200
A_GPU = 6  # workers: six trained F of ResNet-101 about 3.5 times as fast there as one (`benchmarks/workers.py` measures it anew)
SAY_EVERY = 8.0  # seconds between two lines of progress


def store_of(rows: pd.DataFrame, folder: str = "") -> Store:
    """The store in a folder ('' for the default), with the committed evidence of the plan's profile behind it (FPD_RESULTS).
    NotComputed for a plan of nothing, as of what a scale leaves out."""
    if not isinstance(rows, pd.DataFrame) or not {"experiment", "result", "key"} <= set(rows):
        raise FPDError(f"the plan is a {type(rows).__name__}; accepted: rows of `fpdlib.plan(...)` with all its columns.")
    if rows.empty:
        raise NotComputed("the plan is empty: this scale leaves out what was asked for.")
    if len(scales := dict.fromkeys(here.name for here in rows["experiment"])) > 1:
        raise FPDError(f"the plan is of {' and '.join(scales)}; accepted: rows of one profile. Compute and load each alone.")
    evidence = project_folder("results", "FPD_RESULTS") / next(iter(scales)) / "evidence"
    return Store(folder or None, Committed(evidence))


def work(known: dict[str, Result], asked: set[str], inputs: Inputs, say: Callable[[str], None]) -> list[Result]:
    """Compute what is missing of the keys that are asked for, as one of any number of workers; returns what failed or needs it.

    known: what is asked for and all that it needs, by key, each after what it needs.
    Raises BudgetExhausted and KeyboardInterrupt after what is under way was saved.
    """
    store, budget, failed, began = inputs.store, inputs.budget, {}, False
    with remembered() as stop:
        while True:
            todo = missing(known, asked, store)
            for result in todo:
                if any(need.key in failed for need in result.needs):
                    failed.setdefault(result.key, result)
            todo = [result for result in todo if result.key not in failed]
            if not todo:
                return list(failed.values())
            computed = False
            for result in todo:
                if stop.is_set():  # and the exception was lost
                    raise KeyboardInterrupt
                if there(result, store) or not all(store.here(need) for need in result.needs):
                    continue
                if began:  # the shortest budget still gets somewhere
                    budget.check()
                began = True
                try:
                    say(label(result))
                    store.add(result, inputs, provenance(inputs.device))
                    computed = True
                    traceback_of(store, result).unlink(missing_ok=True)
                except Busy:
                    continue
                except (BudgetExhausted, KeyboardInterrupt):
                    raise
                except Exception as error:  # whatever a library throws: the other results do not depend on it
                    if not stop.is_set():
                        failed[result.key] = result
                        leave(store, result, error)
                if isinstance(result, MEANS):
                    break  # it may have made others ready
            if not computed:
                budget.check()
                time.sleep(0.3)  # all that is left is under way elsewhere, or waits for it


def there(result: Result, store: Store) -> bool:
    """Whether another worker has computed it meanwhile."""
    return store.here(result) if isinstance(result, MEANS) else store.has(result)


def traceback_of(store: Store, result: Result) -> Path:
    return store.root / "failed" / f"{result.key}.txt"


def leave(store: Store, result: Result, error: Exception) -> None:
    """Keep the traceback of a failed result, and say where it is."""
    path = traceback_of(store, result)
    text = f"{label(result)}\n\n{''.join(traceback.format_exception(error))}"
    replace_file(path, lambda target: target.write_text(text))
    print(f"failed: {label(result)}: {error}\n  traceback: {path}", file=sys.stderr, flush=True)


def workers(device: torch.device) -> int:
    """How many workers this machine takes: several a GPU, which one process alone leaves idle between its small kernels, else one a
    processor, as far as memory goes."""
    if device.type == "cuda":
        return max(torch.cuda.device_count(), min(processors(), len(places())))
    with open("/proc/meminfo") as file:
        free = 1024 * next(int(line.split()[1]) for line in file if line.startswith("MemAvailable"))
    return max(1, min(processors(), int(free / MEMORY)))


def places() -> list[tuple[int, int]]:
    """(place, GPU) for workers: the first of every GPU, the second of each whose memory takes two, and so on."""
    total = (torch.cuda.get_device_properties(number).total_memory for number in range(torch.cuda.device_count()))
    room = [max(1, min(A_GPU, int(memory / GPU_MEMORY))) for memory in total]
    return [(place, number) for place in range(A_GPU) for number, most in enumerate(room) if place < most]


@contextlib.contextmanager
def gpu(store: Store, device: torch.device) -> Iterator[torch.device]:
    """The GPU with the fewest workers of this store on this machine, held as long as its lock; the CPU as it is."""
    if device.type != "cuda":
        yield device
        return
    for place, number in places():
        try:
            with FileLock(store.root / "locks" / f"gpu-{os.uname().nodename}-{number}-{place}.lock", timeout=0):
                yield torch.device("cuda", number)
                return
        except Timeout:
            continue
    yield torch.device("cuda")  # more workers than places


def helper(folder: Path, committed: Path, known: dict[str, Result], asked: set[str], device: str, seconds: float | None,
           threads: int, parent: int) -> None:  # fmt: skip
    """One more worker in a process of its own, which ends when its parent does, however that ends."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG
    if os.getppid() != parent:
        return
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which then ends this one
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    torch.set_num_threads(threads)
    store = Store(folder, Committed(committed))
    with contextlib.suppress(BudgetExhausted, KeyboardInterrupt), gpu(store, device_of(device)) as mine:
        work(known, asked, Inputs(store, mine, Budget(seconds)), lambda what: None)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the parent ends helpers that end by themselves: no traceback at exit


@undisturbed()
def compute(rows: pd.DataFrame, device: str = "auto", store: str = "", budget: float | None = None, count: int | None = None,
            quiet: bool = False, only_show: bool = False) -> None:  # fmt: skip
    """Compute what is missing of a plan, with `count` workers (default: as many as fit), this process among them.

    budget: seconds; BudgetExhausted when they have passed, and the same call continues. only_show: compute nothing, say what is
    missing; so it does if the environment has FPD_COMPUTE=0. Raises Incomplete with the names of what could not be computed.
    """
    place = device_of(device)
    for name, value, kind in (("the number of workers", count, numbers.Integral), ("budget", budget, numbers.Real)):
        if value is not None:
            positive(name, value, kind)
    shelf, known, asked = store_of(rows, store), results(rows), set(rows["key"])
    todo = missing(known, asked, shelf)
    spent, _ = costs(rows, shelf)
    price = {result.key: spent[result.key] for result in todo}
    if not quiet:
        announce(rows, known, todo, sum(price.values()))
    if not todo or only_show or os.environ.get("FPD_COMPUTE") == "0":
        return
    shelf.prepare()
    code_version()  # now: the source on disk may change while a long run is under way
    threads = rows["experiment"].iat[0].threads or processors()
    if place.type == "cpu":  # bits depend on it, so it belongs to the profile
        torch.set_num_threads(threads)
    limit, count = Budget(budget), min(count or workers(place), len(todo))
    context = multiprocessing.get_context("spawn")
    arguments = (shelf.root, shelf.committed.folder, known, asked, place.type, budget, threads, os.getpid())
    helpers = [context.Process(target=helper, args=arguments, daemon=True) for _ in range(count - 1)]
    now, stop = {}, threading.Event()
    reporter = threading.Thread(target=progress, args=(todo, price, shelf, now, stop), daemon=True)
    try:
        for process in helpers:
            process.start()
        if not quiet:
            reporter.start()
        with gpu(shelf, place) as mine:
            failed = work(known, asked, Inputs(shelf, mine, limit), lambda what: now.update(what=what))
        for process in helpers:  # they may have begun what failed here
            process.join()
    finally:
        stop.set()
        for process in helpers:
            process.terminate()
            process.join()
    if not quiet:
        reporter.join()
    check([result for result in failed if not there(result, shelf)])


def announce(rows: pd.DataFrame, known: dict[str, Result], todo: list[Result], seconds: float) -> None:
    """How much is there, what is missing, and about how long it takes."""
    print(f"{len(known) - len(todo)} of {len(known)} results are there, {len(todo)} to compute"
          + (f": about {seconds / 60:.0f} minutes of one processor" if todo else ""), flush=True)  # fmt: skip
    if todo:
        names = list(dict.fromkeys(result.network.name for result in todo))
        print(
            f"  missing: {', '.join(names[:12])}" + (f" and {len(names) - 12} more networks" if len(names) > 12 else ""), flush=True
        )
    for here in {line.setting: line for line in rows["experiment"]}.values():
        if here.stand_in and here.name != "smoke":
            print(f"  {here.setting}: images are a STAND-IN ({here.dataset}); no claim is tested on it", flush=True)


def progress(todo: list[Result], price: dict[str, float], store: Store, now: dict, stop: threading.Event) -> None:
    """One bar over what is to be computed, by its cost, with what this worker computes and about how long the rest takes."""
    started, total = time.monotonic(), sum(price.values())
    left = {result.key: result for result in todo}
    with tqdm(total=len(todo), bar_format="  {desc}", mininterval=0) as bar:
        while True:
            ended = stop.wait(SAY_EVERY)
            left = {key: result for key, result in left.items() if not there(result, store)}
            paid, passed = total - sum(price[key] for key in left), time.monotonic() - started
            words = f", about {passed * (total - paid) / paid / 60:.1f} min left" if paid > 0 and left else ""
            bar.set_description_str(f"{len(todo) - len(left)} of {len(todo)}{words}; now {now.get('what', 'starting')}")
            if ended:
                return


def check(failed: list[Result]) -> None:
    """Incomplete, if anything could not be computed, with its names."""
    if failed:
        names = "; ".join(map(label, failed[:5])) + (f"; and {len(failed) - 5} more" if len(failed) > 5 else "")
        raise Incomplete(
            f"{len(failed)} results could not be computed: {names}. Their tracebacks are in the store's folder `failed`; everything "
            "else is there. Run the same command again to try them once more."
        )
