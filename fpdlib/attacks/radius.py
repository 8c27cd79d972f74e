"""The smallest L-inf perturbation that breaks an image, its radius: curves, areas and paired comparisons follow from it.

FMN (Pintor et al. 2021, foolbox) finds a first one; APGD with cross-entropy on the logits before tanh and on the deployed output,
and with the targeted loss, then looks within a share of what is known of each image; every image that
passed through the network on the way counts, and every find is pulled towards the image as far as it stays one. Success is judged on
the deployed output, in float64 where that is not a number.
"""

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
    """fmn_steps: of FMN. rounds: (share of the known radius in which a round looks, steps of each of its runs of APGD).

    targets: how many of the best wrong classes the targeted loss takes in a round (none if there are fewer than four classes).
    Each run starts at a random point of the ball: started from what is known, it finds less. `benchmarks/radius_vs_autoattack.py`
    says how strong the default is.
    """

    fmn_steps: int = 50
    rounds: tuple[tuple[float, int], ...] = ((0.9, 50), (0.97, 100))
    targets: int = 4
    norm: str = "linf"
    version: ClassVar[int] = 2

    def __post_init__(self):
        right = all(0 < share < 1 and steps > 0 for share, steps in self.rounds)
        if self.norm != "linf" or self.fmn_steps < 0 or not right:
            raise FPDError(f"{self}: accepted: norm 'linf', steps from 0, rounds of a share between 0 and 1 and at least one step.")

    def sees(self, protocol: str) -> str:
        return "logits"

    def runs(self, classes: int, number: int) -> Iterator[tuple[str, int | None]]:
        """(outputs, rank of the targeted class) of each run of APGD in a round."""
        yield "pre-squeeze", None
        if number == 0:
            yield "deployed", None
        yield from (("logits", rank) for rank in range(min(self.targets, classes - 1) if classes >= 4 else 0))

    def search(self, target: nn.Module, view: View, x: Tensor, y: Tensor, seed: int, classes: int, overflow: str) -> Search:
        """The smallest perturbation found for images x (B, C, H, W) in [0, 1] with labels y (B,), on a network and a view of it."""
        search = Search(target, x, y, overflow)

        def attack(outputs: str, run: Callable[..., Tensor], **options) -> None:
            if not len(index := (search.radius > 0).nonzero().flatten()):  # for which a smaller one may exist
                return
            with view.seeing(outputs), view.watching(x[index], y[index], "linf") as seen:
                images = run(view, x[index], y[index], **{key: of(index) if callable(of) else of for key, of in options.items()})
            search.consider(index, images)
            passed = seen.size < search.radius[index]
            search.consider(index[passed], seen.images[passed])

        if self.fmn_steps:
            attack("logits", adapters.fmn, steps=self.fmn_steps)
        for number, (share, steps) in enumerate(self.rounds):
            for count, (outputs, rank) in enumerate(self.runs(classes, number)):
                # nothing known: anywhere
                within = lambda index, share=share: torch.where(search.found[index], share * search.radius[index], 1.0)  # noqa: E731
                attack(outputs, adapters.apgd, eps=within, seed=seed + 100 * number + count, iterations=steps, rank=rank)
        return search
