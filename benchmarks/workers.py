"""How many workers a GPU or processor takes: two-phase training steps of F a second, by as many processes at once as are asked for.

`python benchmarks/workers.py paper-short 1 6` (profile, numbers of processes): images and gate are left out, so it needs no data set.
With FPD_GRAPHS=0 in the environment a GPU gets every kernel by itself, not as CUDA graphs.
"""

import multiprocessing
import sys
import time
from dataclasses import replace

import torch

import fpdlib
from fpdlib.network.fpd import build
from fpdlib.training.run import prepare

SECONDS, WARM = 10.0, 6


def count(profile: str, start, found) -> None:
    """Steps a second of one process, from when all are warm."""
    torch.set_num_threads(1)
    rows = fpdlib.plan("table1", profile=profile, seeds=[0]).query("network == 'F' and kind == 'networks'")
    network, device = rows["result"].iat[0], torch.device("cuda" if torch.cuda.is_available() else "cpu")
    recipe, size = replace(network.recipe, gate="none"), network.spec.image_size
    model = build(network.spec, 0).to(device, memory_format=torch.channels_last).train()
    _, advance = prepare(model, recipe, device)
    x = torch.rand(recipe.batch_size, 3, size, size, device=device).contiguous(memory_format=torch.channels_last)
    y = torch.arange(recipe.batch_size, device=device) % 10
    for _ in range(WARM):
        float(advance(x, y, torch.zeros_like(x), False)["loss"].detach())
    start.wait()
    began, steps = time.monotonic(), 0
    while time.monotonic() - began < SECONDS:
        float(advance(x, y, torch.zeros_like(x), False)["loss"].detach())  # the number: the GPU has finished
        steps += 1
    found.put(steps / (time.monotonic() - began))


def together(profile: str, processes: int) -> float:
    context = multiprocessing.get_context("spawn")
    start, found = context.Barrier(processes), context.Queue()
    started = [context.Process(target=count, args=(profile, start, found)) for _ in range(processes)]
    for process in started:
        process.start()
    rates = [found.get() for _ in started]
    for process in started:
        process.join()
    return sum(rates)


if __name__ == "__main__":
    profile, *numbers = sys.argv[1:] or ("smoke", "1", "2")
    print(f"torch {torch.__version__}, {torch.cuda.get_device_name() if torch.cuda.is_available() else 'CPU'}, profile {profile}")
    for number in map(int, numbers):
        print(f"{number} at once: {together(profile, number):.1f} steps of F a second", flush=True)
