"""How a long run behaves on a shared machine: budgets, clean interruption, threads, seeded random numbers."""

import math
import os
import signal
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

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
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    signals = (signal.SIGINT, signal.SIGTERM)
    previous = {number: signal.signal(number, lambda *_: stop.set()) for number in signals}
    try:
        yield stop
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


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


def processors() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def generator(device, *numbers: int) -> torch.Generator:
    """Random numbers that depend on these integers alone: the seeded sampler RS(s) of Alg. 1 lines 3-4."""
    seed = np.random.SeedSequence([int(n) for n in numbers]).generate_state(1, np.uint64)[0]
    return torch.Generator(device).manual_seed(int(seed >> 1))
