"""How a long run behaves on a shared machine: budgets, clean interruption, threads, seeded random numbers."""

import math
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager

import numpy as np
import torch

from fpdlib.errors import BudgetExhausted


class Budget:
    """A wall-clock limit in seconds from now (None: no limit); `check` raises BudgetExhausted when it has passed."""

    def __init__(self, seconds: float | None = None):
        self.deadline = math.inf if seconds is None else time.monotonic() + seconds

    def expired(self) -> bool:
        return time.monotonic() > self.deadline

    def check(self) -> None:
        if self.expired():
            raise BudgetExhausted


@contextmanager
def between_steps() -> Iterator[threading.Event]:
    """Hold back Ctrl-C and SIGTERM until the running step is finished, so that no half-updated state is saved."""
    stop = threading.Event()
    with _signals(lambda before: lambda *_: stop.set()):
        yield stop


@contextmanager
def remembered() -> Iterator[threading.Event]:
    """Set by Ctrl-C and SIGTERM, which act as before. As an exception they can be lost: in a destructor, or in a library that
    raises its own instead."""
    asked = threading.Event()
    with _signals(lambda before: (lambda *given: (asked.set(), before(*given))) if callable(before) else before):
        yield asked


@contextmanager
def _signals(handler: Callable) -> Iterator[None]:
    """Ctrl-C and SIGTERM handled by what `handler` makes of their handlers, in the main thread; elsewhere nothing changes."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        for number, before in previous.items():
            signal.signal(number, handler(before))
        yield
    finally:
        for number, before in previous.items():
            signal.signal(number, before)


@contextmanager
def meanwhile(objects: Iterable, **values) -> Iterator[None]:
    """Other attributes of these objects in the meantime."""
    before = [(one, name, getattr(one, name)) for one in objects for name in values]
    try:
        for one, name, _ in before:
            setattr(one, name, values[name])
        yield
    finally:
        for one, name, value in before:
            setattr(one, name, value)


@contextmanager
def seeded(seed: int | None = None) -> Iterator[None]:
    """Random numbers of torch, NumPy and Python from this seed on (None: as they go on), and as they were afterwards."""
    python, numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[torch.cuda.current_device()] if torch.cuda.is_initialized() else []):
        if seed is not None:
            torch.manual_seed(seed)
            random.seed(seed)
            np.random.seed(seed % 2**32)
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)


@contextmanager
def undisturbed() -> Iterator[None]:
    """torch as results assume it, whatever the caller has set (default type, precision of products, autocast, inference mode, no
    gradients); afterwards the caller's settings, threads and random numbers are as they were."""
    kind, precision, threads = torch.get_default_dtype(), torch.get_float32_matmul_precision(), torch.get_num_threads()
    with ExitStack() as stack:
        for part in (seeded(), torch.inference_mode(False), torch.enable_grad()):
            stack.enter_context(part)
        for device in ("cpu", "cuda"):
            stack.enter_context(torch.autocast(device, enabled=False))
        try:
            torch.set_default_dtype(torch.float32)
            torch.set_float32_matmul_precision("highest")
            yield
        finally:
            torch.set_default_dtype(kind)
            torch.set_float32_matmul_precision(precision)
            torch.set_num_threads(threads)


def processors() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def generator(device, *numbers: int) -> torch.Generator:
    """Random numbers that depend on these integers alone: the seeded sampler RS(s) of Alg. 1 lines 3-4."""
    seed = np.random.SeedSequence([int(n) for n in numbers]).generate_state(1, np.uint64)[0]
    return torch.Generator(device).manual_seed(int(seed >> 1))
