"""Attack suites as data: what is perturbed, which outputs the attacker differentiates, with which exact parameters.

Epsilon and step size are in pixel units ([0, 1]). The attacks themselves are those of libraries (`adapters.py`); this module
chooses the view of the network that they see, which is where the protocols differ.

`published` and `current` are the same attacks as ART 0.10 and as today's ART run them, `sound` is what a present-day evaluation asks
for (`methods.PROTOCOLS`; REPRODUCE, 'The protocols').

Success is always judged on the deployed output, and only within epsilon; where that is not a number, the network in float64 decides.
"""

import math
import numbers
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from fpdlib.attacks.methods import Method
from fpdlib.errors import FPDError, check, choose, positive


@dataclass(frozen=True)
class AttackSpec:
    """One column of a table.

    protocol: 'published', 'current' or 'sound' (see the module). method: see `methods`. eps: radii in pixel units
    of the method's norm, ascending, inf for an attack without a bound; more than one is a ladder: an example broken at one
    radius stays broken at the larger ones, only survivors are attacked.
    surrogate: None (white-box), the labels on which a three-layer fully connected substitute is trained for this
    network (Sec. 4.1: 'oracle', the target's answers as in Papernot et al. 2017, or 'true'), or 'setting/network' for another
    trained network of the same profile (Table 3).
    surrogate_epochs, surrogate_width, surrogate_images: how long such a substitute is trained, how wide it is, and on how many
    images it is trained, and tested (None: all).
    space: 'network' perturbs the resized three-channel image (the paper), 'native' the dataset's own pixels.
    images: how many test images, of a fixed seeded order or, with order 'file', the first of the test set (Tables 2 to 4 were
    most likely measured on the first 100). batch_size: images attacked at once. overflow: what an output that is not a number
    counts as (see `answers.wrong`).
    iterates: which images of an attack count, the one that it has 'returned' or 'any' that passed through the network within epsilon.
    """

    name: str
    protocol: Literal["published", "current", "sound"]
    method: Method
    eps: tuple[float, ...] = (0.3,)
    surrogate: str | None = None
    space: Literal["network", "native"] = "network"
    images: int = 1000
    batch_size: int = 100
    order: Literal["seeded", "file"] = "seeded"
    surrogate_epochs: int = 5
    surrogate_width: int = 200
    overflow: Literal["confirmed", "broken"] = "confirmed"
    iterates: Literal["returned", "any"] = field(default="returned", metadata={"before": "returned"})
    surrogate_images: int | None = field(default=None, metadata={"before": None})
    version: ClassVar[int] = 1  # of how attacks are run and judged, whatever the method (see `keys`)

    def __post_init__(self):
        check(self)
        if self.surrogate is None or "/" not in self.surrogate:
            choose("surrogate", self.surrogate, (None, "oracle", "true"), "Or 'setting/network' for a trained network.")
        top = 1 if self.norm == "linf" else math.inf
        ladder = self.eps if isinstance(self.eps, tuple | list) else ()
        if not ladder or list(ladder) != sorted(set(ladder)) or not 0 <= ladder[0] <= ladder[-1] <= top:
            raise FPDError(
                f"attack {self.name!r}: eps is {self.eps!r}; accepted: ascending radii in pixel units, 0 to {top:g} for {self.norm}."
            )
        for name in ("images", "batch_size", "surrogate_epochs", "surrogate_width", "surrogate_images"):
            if getattr(self, name) is not None:
                positive(f"attack {self.name!r}: {name}", getattr(self, name), numbers.Integral)
        if self.surrogate and self.space == "native":
            raise FPDError(f"attack {self.name!r}: a surrogate sees network inputs; use space='network'.")

    @property
    def norm(self) -> str:
        return self.method.norm
