"""How a network is trained, as plain values: Algorithm 1 as printed, and what the released code has where the text is silent."""

import numbers
from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal

import torch

from fpdlib.errors import check, choose, positive
from fpdlib.training.adversarial import Adversary

OPTIMIZERS = {"adamax": torch.optim.Adamax, "adam": torch.optim.Adam, "sgd": torch.optim.SGD}


@dataclass(frozen=True)
class Recipe:
    """How a network is trained, as plain values.

    phases: 1 (first phase only, 'one phase' of Table 1) or 2 (Alg. 1 lines 14-17).
    gate: when lines 9-10 restrict a step to F_FD and F_R: 'step' (l2 > T at this step, Alg. 1), 'latch' (until l2 <= T
        for the first time, Sec. 3.4 "once the L2 loss reaches the T") or 'none'.
    threshold: T, on the mean squared error of pixels in [0, 1]; threshold_share: instead, T as a share of the untrained network's
        error on the first batch (3 is 0.06 of ResNet-101's).
    alpha1, alpha2, alpha2_second: weights of cross-entropy and of L2; the second phase may weigh L2 differently.
    noise: half-width of the uniform noise (lines 3-6), pixel units.
    clip: largest gradient norm. images: train on that many of the training images (None: all). measured: clean accuracy and
        restoration are measured on so many of the held-out and of the test images (None: all).
    selection: choose the epoch on 'held-out' training images, or on 'test' as the release does (not sound, offered for
        comparison). patience: epochs without improvement before stopping.
    adversary: adversarial training instead of Algorithm 1's steps (Sec. 4.2); begin: the network whose weights it starts
        from ('' from scratch); the epoch is then chosen on held-out accuracy under that adversary.
    parts: of an epoch; after each the log has a line and held-out images are measured (a deep network learns within one epoch).
    schedule: 'plateau' (x0.1 after `plateau` epochs without a better loss), 'one-cycle' (10 % warm-up, cosine to zero)
        'cyclic' (linear up over 40 %, linear down to zero) or 'constant'. precision: 'float32' or 'bfloat16' (autocast).
    """

    name: str = "paper"
    phases: Literal[1, 2] = 2
    gate: Literal["step", "latch", "none"] = "step"
    threshold: float = 3.0
    alpha1: float = 1.0
    alpha2: float = 1.0
    alpha2_second: float = 1.0
    noise: float = 0.01
    optimizer: Literal["adamax", "adam", "sgd"] = "adamax"
    lr: float = 1e-3
    weight_decay: float = 1e-5
    clip: float = 10.0
    batch_size: int = 300
    epochs: int = 100
    schedule: Literal["plateau", "one-cycle", "cyclic", "constant"] = "plateau"
    plateau: int = 10
    patience: int = 20
    images: int | None = None
    selection: Literal["held-out", "test"] = "held-out"
    augment: bool = False
    precision: Literal["float32", "bfloat16"] = "float32"
    adversary: Adversary | None = None
    begin: str = ""
    threshold_share: float | None = field(default=None, metadata={"before": None})
    parts: int = field(default=1, metadata={"before": 1})
    measured: int | None = field(default=None, metadata={"before": None})
    version: ClassVar[int] = 1  # of what a step and the choice of the epoch compute (see `keys`)

    def __post_init__(self):
        check(self)
        for name in ("lr", "clip"):
            positive(f"recipe {self.name!r}: {name}", getattr(self, name))
        for name in ("batch_size", "epochs", "patience", "parts", "measured", "images"):
            if getattr(self, name) is not None:
                positive(f"recipe {self.name!r}: {name}", getattr(self, name), numbers.Integral)


def paper_recipe(dataset: str = "mnist", **changes) -> Recipe:
    """Algorithm 1; values on which the text is silent are the release's for this dataset (REPRODUCE.md lists them)."""
    family = dataset.split("-")[0]  # its samples, stand-ins and other splits are trained alike
    values = {
        "mnist": {},
        "svhn": {"optimizer": "adam", "lr": 1e-4, "weight_decay": 0.0, "clip": 5.0},
        "caltech101": {
            "optimizer": "adam", "lr": 1e-4, "weight_decay": 0.0, "clip": 5.0, "threshold": 1.0, "noise": 0.03,
            "batch_size": 24, "alpha2_second": 0.1, "plateau": 15,
        },
    }  # fmt: skip
    values["caltech256"] = values["caltech101"]
    choose("dataset", family, values)
    return replace(Recipe(**values[family]), **changes)


def released_recipe(dataset: str = "mnist", **changes) -> Recipe:
    """`paper_recipe` plus what only the release does: augmentation on MNIST and Caltech, epochs chosen on test images."""
    family = dataset.split("-")[0]
    return paper_recipe(dataset, **{"name": "released", "augment": family != "svhn", "selection": "test", **changes})


def passes(recipe: Recipe) -> dict[str, float]:
    """Passes through the network per training image and epoch: forward, backward to parameters, and backward to pixels alone.

    Adversarial training takes the last for every attack step, and the first two for the clean and the adversarial half of its
    loss (gated steps not deducted).
    """
    if recipe.adversary is None:
        return {"forward": float(recipe.phases), "backward": float(recipe.phases), "pixel": 0.0}
    crafting = float(recipe.adversary.steps)
    return {"forward": 2.0 + crafting, "backward": 2.0, "pixel": crafting}


def training_macs(recipe: Recipe, macs: dict[str, float]) -> float:
    """Multiply-accumulates per training image and epoch, with the network's `macs` (`network.cost`)."""
    return sum(count * macs[f"{kind}_macs"] for kind, count in passes(recipe).items())
