"""A profile of seconds for tests, and a command line that knows it: `python tests/tiny.py table 1 --profile tiny`."""

import sys
from dataclasses import replace

from fpdlib import __main__, data, experiments
from fpdlib.attacks import table1_suite
from fpdlib.experiments import PROFILES, SMALL, Profile

TINY = Profile(
    "tiny", "tests", "mnist-sample",
    replace(SMALL, backbone_args=(("layers", (1, 1, 1, 1)), ("channels", (8, 8, 8, 8))), decoder_width=8),
    {"epochs": 2, "batch_size": 1500, "lr": 4e-3, "schedule": "one-cycle"},
    table1_suite(images=20, sound_images=10, steps=2, restarts=2, rungs=(0.0, 0.1, 0.3), rung_steps=2, batch_size=10),
)  # fmt: skip

if __name__ == "__main__":
    import torch

    PROFILES["tiny"] = TINY
    experiments.variants_of.__defaults__ = (experiments.TABLE1[-1:],)  # X alone
    torch.set_num_threads(1)
    assert data.DATASETS
    sys.exit(__main__.main())
