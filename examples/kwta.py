"""A second defence in the kit: k-winners-take-all activations (Xiao, Zhong and Zheng, ICLR 2020) on MNIST.

    python examples/kwta.py              three seeds of two networks; says how long before it starts, and resumes
    python examples/kwta.py --quick      the same path in a minute, no number worth reading

Of the outputs of a layer the k largest keep their value and the others become 0, so that the network jumps at densely distributed
inputs. The paper's abstract: 'In all cases, the robustness of k-WTA networks outperforms that of traditional networks under white-box
attacks.' It was broken by attacks that look past the jumps (Tramer, Carlini, Brendel and Madry, NeurIPS 2020). The paper's networks
and data are others, so no size is compared, only the direction.

Everything that a paper is stands in `KWTA`; plan, workers, store, protocols, intervals and verdict rules are those of FPD.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from typing import ClassVar

import pandas as pd
from torch import Tensor, nn

import fpdlib
from fpdlib.attacks.spec import AttackSpec
from fpdlib.network.reference import CNN
from fpdlib.paper import Paper
from fpdlib.paper.profiles import Profile
from fpdlib.paper.suites import LAPTOP_SCALE, SMOKE_SCALE, TABLE1_PGD, Scale, sound
from fpdlib.paper.variants import Variant
from fpdlib.report import claims

EPS = 0.3  # what MNIST is attacked with everywhere in the kit


class Winners(nn.Module):
    """Keeps the share `gamma` of the largest outputs of a layer, over all its channels and places (the paper's sparsity ratio)."""

    def __init__(self, gamma: float):
        super().__init__()
        self.gamma = gamma

    def forward(self, x: Tensor) -> Tensor:
        flat = x.flatten(1)
        least = flat.topk(max(1, int(self.gamma * flat.shape[1])), dim=1).values[:, -1:]
        return (flat * (flat >= least)).view_as(x)


@dataclass(frozen=True)
class Spec:
    """A small CNN; activation: 'relu' or 'kwta'."""

    activation: str = "relu"
    gamma: float = 0.1
    width: int = 16
    num_classes: int = 10
    image_size: int = 28
    version: ClassVar[int] = 1

    def build(self) -> nn.Module:
        def act() -> nn.Module:
            return Winners(self.gamma) if self.activation == "kwta" else nn.ReLU()

        features = nn.Sequential(
            nn.Conv2d(3, self.width, 5, padding=2), act(), nn.MaxPool2d(2),
            nn.Conv2d(self.width, 2 * self.width, 5, padding=2), act(), nn.MaxPool2d(2),
            nn.Flatten(), nn.Linear(2 * self.width * (self.image_size // 4) ** 2, 256), act(),
        )  # fmt: skip
        return CNN(self, features, nn.Linear(256, self.num_classes))


def attacks(scale: Scale) -> dict[str, AttackSpec]:
    """PGD as most papers run it, the same on today's terms, the worst case, and the radius of each image."""
    published = AttackSpec("linf-pgd", "published", TABLE1_PGD, (EPS,), images=scale.sound, batch_size=scale.batch)
    worst = replace(published, name="sound", protocol="sound", method=sound("linf", EPS, scale, made_for_fpd=False), iterates="any")
    return {"published/linf-pgd": published, "current/linf-pgd": replace(published, protocol="current"), "sound/linf": worst,
            "radius/linf": replace(worst, name="radius", method=scale.radius, eps=(1.0,))}  # fmt: skip


def profile(name: str, purpose: str, scale: Scale, recipe: dict) -> Profile:
    plainly = {"optimizer": "adam", "schedule": "one-cycle", "lr": 2e-3, "batch_size": 100, "noise": 0.0, "weight_decay": 0.0}
    return Profile(name, purpose, "mnist-sample", Spec(), plainly | recipe, attacks(scale), scale, seeds=(0, 1, 2), threads=1)


def stated() -> pd.DataFrame:
    """The claims: id, place, words, test (`report.claims.TESTS`), networks, attacks. No size is compared: networks differ."""
    columns = ("id", "place", "claim", "test", "better", "worse", "where")
    more = "networks with k-WTA are more robust under white-box attacks than traditional ones"
    lines = [
        ("robust", "Abstract", more, "order", "k-WTA", "ReLU", "linf"),
        ("clean", "Abstract", "k-WTA is innocuous to training: no clean accuracy is lost", "clean", "k-WTA", "ReLU", ""),
        ("masking", "ours", "k-WTA does not mask gradients more than ReLU", "masking", "k-WTA", "ReLU", ""),
    ]
    return pd.DataFrame(lines, columns=columns)


KWTA = Paper(
    name="k-wta",
    variants={"ReLU": Variant("a small CNN", {}), "k-WTA": Variant("the same with k-WTA", {"activation": "kwta"})},
    profiles={
        "k-wta": profile("k-wta", "two processors, minutes", replace(LAPTOP_SCALE, sound=200), {"epochs": 4}),
        "k-wta-quick": profile("k-wta-quick", "seconds", SMOKE_SCALE, {"epochs": 1, "images": 1500}),
    },
    claims=stated,
    plain=lambda variant: "ReLU" if variant == "k-WTA" else "",
)


def main(name: str) -> pd.DataFrame:
    rows = fpdlib.plan(profile=name, paper=KWTA)
    fpdlib.compute(rows, "cpu")
    return claims.verify(fpdlib.load(rows, paper=KWTA))


if __name__ == "__main__":
    quick = "--quick" in sys.argv[1:]
    verdicts = main("k-wta-quick" if quick else "k-wta")
    print(claims.readable(verdicts).to_markdown(index=False))
    if quick:
        print("\nThis shows that every step runs. Networks that train for seconds say nothing about k-WTA; run it without --quick.")
