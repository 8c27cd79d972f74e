"""The smallest L-inf perturbation that breaks an image, its radius: curves, areas and paired comparisons follow from it.

FMN (Pintor et al. 2021, foolbox) finds a first one; APGD with cross-entropy on the deployed output and on the logits before tanh, and
with the targeted loss, then looks within a share of what is known of each image, starting from it; every find is pulled towards the
image as far as it stays one. Success is judged on the deployed output, in float64 where that is not a number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from fpdlib.attacks import adapters
from fpdlib.attacks.views import View
from fpdlib.errors import FPDError
from fpdlib.network.answers import wrong

HALVINGS = 6  # of the way from the image to a find


class Search:
    """The nearest find of every image so far: `radius` (B,), 1 where there is none and 0 where the image itself is misclassified."""

    def __init__(self, target: nn.Module, x: Tensor, y: Tensor, overflow: str):
        self.target, self.x, self.y, self.overflow = target, x, y, overflow
        self.images, self.radius = x.clone(), torch.ones(len(x), device=x.device)
        self.found = wrong(target, x, y, overflow)
        self.radius[self.found] = 0.0

    def open(self) -> Tensor:
        """Indices of the images that a smaller radius may exist for."""
        return (self.radius > 0).nonzero().flatten()

    def consider(self, index: Tensor, images: Tensor) -> None:
        """Keep what fools the deployed output nearer than what was known, and pull it in."""
        if not len(index):
            return
        x, images = self.x[index], torch.where(images.isnan(), self.x[index], images).clamp(0, 1).float()
        size = (images - x).flatten(1).abs().amax(1)
        better = wrong(self.target, images, self.y[index], self.overflow) & (size <= self.radius[index])
        index, x, images = index[better], x[better], images[better]
        low, high = torch.zeros(len(index), device=x.device), torch.ones(len(index), device=x.device)
        for _ in range(HALVINGS if len(index) else 0):
            middle = (low + high) / 2
            nearer = torch.lerp(x, images, middle.view(-1, 1, 1, 1))
            fooled = wrong(self.target, nearer, self.y[index], self.overflow)
            high, low = torch.where(fooled, middle, high), torch.where(fooled, low, middle)
        nearer = torch.lerp(x, images, high.view(-1, 1, 1, 1))
        nearer = torch.where((high == 1).view(-1, 1, 1, 1), images, nearer)
        self.images[index], self.found[index] = nearer, True
        self.radius[index] = (nearer - x).flatten(1).abs().amax(1)


@dataclass(frozen=True)
class Radius:
    """fmn_steps, iterations: of FMN and of each run of APGD. shrink: the share of the known radius in which each round looks.

    targets: how many of the best wrong classes the targeted loss takes in a round (none if there are fewer than four classes).
    The default is about 550 steps an image; `benchmarks/radius_vs_autoattack.py` says how strong that is.
    """

    fmn_steps: int = 100
    iterations: int = 20
    shrink: tuple[float, ...] = (0.85, 0.95)
    targets: int = 9
    norm: str = "linf"
    version: ClassVar[int] = 1

    def __post_init__(self):
        if self.norm != "linf" or self.fmn_steps < 0 or self.iterations < 1 or not all(0 < share < 1 for share in self.shrink):
            raise FPDError(f"{self}: accepted: norm 'linf', steps from 0, iterations from 1, shares between 0 and 1.")

    def sees(self, protocol: str) -> str:
        return "logits"

    def attempts(self, eps: float) -> Iterator[tuple[str, Callable]]:
        raise FPDError("a radius has no attempts at one epsilon; it is searched (`search`).")

    def search(self, target: nn.Module, view: View, x: Tensor, y: Tensor, seed: int, classes: int, overflow: str) -> Search:
        """The smallest perturbation found for images x (B, C, H, W) in [0, 1] with labels y (B,), on a network and a view of it."""
        search, index = Search(target, x, y, overflow), None
        if len(index := search.open()) and self.fmn_steps:
            search.consider(index, adapters.fmn(view, x[index], y[index], self.fmn_steps))
        runs = [("deployed", None), ("pre-squeeze", None), *(("logits", rank) for rank in range(self.targets if classes >= 4 else 0))]
        for number, share in enumerate(self.shrink):
            for outputs, rank in runs:
                if not len(index := search.open()):
                    break
                eps, view.outputs = share * search.radius[index], outputs
                eps = torch.where(search.found[index], eps, torch.ones_like(eps))  # nothing known: anywhere
                start = search.images[index] if number or outputs != "deployed" else None
                images = adapters.apgd(view, x[index], y[index], eps, seed + number, self.iterations, rank, start)
                search.consider(index, images)
        view.outputs = self.sees("sound")
        return search
