"""The two choices that the kit makes for speed, measured in pairs: `python benchmarks/speed.py`.

Prints the median of paired ratios (other choice / ours; above 1 means ours is faster) with the smallest and largest.
"""

import time

import torch

from fpdlib.network.fpd import build, non_local_mean
from fpdlib.paper.profiles import PROFILES
from fpdlib.paper.variants import VARIANTS
from fpdlib.runtime import processors
from fpdlib.training import paper_recipe, step

PAIRS, REPEATS = 9, 5


def seconds(function) -> float:
    function()
    started = time.perf_counter()
    for _ in range(REPEATS):
        function()
    return (time.perf_counter() - started) / REPEATS


def ratio(name: str, ours, other) -> None:
    ratios = sorted(seconds(other) / seconds(ours) for _ in range(PAIRS))
    print(f"{name}: {ratios[PAIRS // 2]:.2f} [{ratios[0]:.2f}, {ratios[-1]:.2f}], {PAIRS} pairs")


def training_step(memory_format):
    model = build(VARIANTS["F"].spec(PROFILES["laptop"]), 0).to(memory_format=memory_format).train()
    optimizer = torch.optim.Adamax(model.parameters())
    x = torch.rand(50, 3, 32, 32).contiguous(memory_format=memory_format)
    y, recipe = torch.arange(50) % 10, paper_recipe()
    return lambda: step(model, optimizer, recipe, x, y, torch.zeros_like(x), False)


def by_pixels(x):
    flat = x.flatten(2)
    return flat @ (flat.mT @ flat / flat.shape[2])


def by_channels(x):
    flat = x.flatten(2)
    return flat @ flat.mT / flat.shape[2] @ flat


if __name__ == "__main__":
    torch.set_num_threads(processors())
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    ratio("two-phase training step of F, contiguous / channels_last", training_step(torch.channels_last),
          training_step(torch.contiguous_format))  # fmt: skip
    shallow, deep = torch.rand(50, 64, 16, 16), torch.rand(50, 512, 2, 2)
    ratio("non-local mean of 64 x 16 x 16, HW x HW / ours", lambda: non_local_mean(shallow), lambda: by_pixels(shallow))
    ratio("non-local mean of 512 x 2 x 2, C x C / ours", lambda: non_local_mean(deep), lambda: by_channels(deep))
