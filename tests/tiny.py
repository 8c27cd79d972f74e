"""A profile of seconds for tests, and a command line that knows it: `python tests/tiny.py work --profile tiny`."""

import sys
from dataclasses import replace

from fpdlib import __main__, data
from fpdlib.attacks.radius import Radius
from fpdlib.evaluation.diagnostics import DiagnosisSpec
from fpdlib.paper.profiles import PROFILES, SMALL, Profile
from fpdlib.paper.suites import Scale, table1_suite
from fpdlib.training.adversarial import Adversary

SCALE = Scale(20, 10, 5, 10, 10, steps=2, restarts=1, queries=10, iterations=2, study=20, radius=Radius(3, ((0.9, 2),), 1), few=5)
TINY = Profile(
    "tiny", "tests", "mnist-sample",
    replace(SMALL, backbone_args=(("layers", (1, 1, 1, 1)), ("channels", (8, 8, 8, 8))), decoder_width=8),
    {"epochs": 2, "batch_size": 150, "lr": 4e-3, "schedule": "one-cycle"},
    table1_suite(images=20, sound_images=10, batch_size=10, scale=SCALE, surrogate_epochs=1), SCALE,
    DiagnosisSpec(images=10, steps=2, restarts=1, draws=5, queries=10, planted=2, grid=3),
    hardening={"epochs": 1}, threads=1,
    adversaries={"fgsm": Adversary("fgsm", 0.3, 1, 0.3), "pgd": Adversary("pgd", 0.3, 2, 0.2)},
)  # fmt: skip


def few_images(name, image_size, device="cpu", root=None, load=data.load):
    """900 training, 100 held-out and 200 test images instead of all."""
    splits = load(name, image_size, device, root)
    every = [part.subset(slice(None, None, 10)) for part in (splits.train, splits.held_out, splits.test)]
    return data.Splits(name, *every)


if __name__ in ("__main__", "__mp_main__"):  # also in the helper processes of a command
    PROFILES["tiny"] = TINY
    data.load = few_images

if __name__ == "__main__":
    sys.exit(__main__.main())
