"""The attack methods, as plain values (`adapters` has how each library runs them).

A method says which outputs it has to see in a protocol (`sees`) and gives, for one radius, the attempts that are made one
after the other on the examples that still stand. An attempt is a function (view, x, y, seed, classes) -> images, with x and
the result (B, C, H, W) in [0, 1] and y (B,) the true labels.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal

from torch import Tensor

from fpdlib.attacks import adapters, art010
from fpdlib.errors import FPDError, check

Attempt = Callable[..., Tensor]
# protocol -> what a gradient attack on cross-entropy sees (see `attacks`)
PROTOCOLS = {"published": "softmax", "current": "deployed", "sound": "pre-squeeze"}


class Method:
    """What every method has: the norm of its radius, the view it differentiates, its attempts, and a version that is raised when
    what they compute changes on purpose (part of the key)."""

    norm: str
    version: ClassVar[int] = 1
    __post_init__ = check

    def sees(self, protocol: str) -> str:
        """What an attack on logit differences sees: ART 0.10 gave those the deployed logits, without a softmax."""
        return "deployed" if protocol in ("published", "current") else "logits"


@dataclass(frozen=True)
class PGD(Method):
    """Projected gradient descent on cross-entropy, one run per stage: (steps, step size, restarts). FGSM is one step of eps.

    A restart starts at a random point of the epsilon ball; 0 restarts means one run from the clean image. A step
    size of None means epsilon / 4. The last iterate counts (ART).
    """

    stages: tuple[tuple[int, float | None, int], ...]
    norm: Literal["linf", "l2"] = "linf"

    def sees(self, protocol: str) -> str:
        return PROTOCOLS[protocol]

    def attempts(self, eps: float) -> Iterator[tuple[str, Attempt]]:
        for steps, step_size, restarts in self.stages:
            run = partial(adapters.pgd, eps=eps, steps=steps, step_size=step_size, random_start=restarts > 0, norm=self.norm)
            yield from [("pgd", run)] * max(restarts, 1)


FGSM = PGD(((1, 1.0, 0),))  # the step is cut to epsilon
FGSM_L2 = PGD(((1, 100.0, 0),), "l2")


@dataclass(frozen=True)
class TargetedMargin(Method):
    """PGD that raises u_t - max_{j != t} u_j, for the `targets` best wrong classes t in turn, from random starts."""

    steps: int = 100
    targets: int = 9
    norm: str = "linf"

    def attempts(self, eps: float) -> Iterator[tuple[str, Attempt]]:
        for rank in range(self.targets):
            yield ("targeted margin", partial(adapters.targeted_margin, eps=eps, steps=self.steps, rank=rank, norm=self.norm))


@dataclass(frozen=True)
class MadeForFPD(Method):
    """Attacks that know the defence: PGD with momentum through the front classifier, on the network without its denoising layers,
    on restored image and margin together, and on the logits before tanh; each from a random start."""

    steps: int = 100
    parts: tuple[Literal["front", "bare", "replaced", "restored", "pre-squeeze"], ...] = ("front", "bare", "restored", "pre-squeeze")
    norm: str = "linf"

    def sees(self, protocol: str) -> str:
        return "pre-squeeze"

    def attempts(self, eps: float) -> Iterator[tuple[str, Attempt]]:
        for part in self.parts:
            name = "momentum" if part == "pre-squeeze" else f"through {part}"
            yield name, partial(adapters.through_part, eps=eps, steps=self.steps, part=part, norm=self.norm)


@dataclass(frozen=True)
class ART(Method):
    """An attack of today's ART by name, with its parameters; `options` are those of `ART_ATTACKS`."""

    name: Literal["linf-cw", "l2-cw", "l2-deepfool"]
    norm: str
    parameters: tuple[tuple[str, object], ...] = ()

    def attempts(self, eps: float) -> Iterator[tuple[str, Attempt]]:
        yield self.name, partial(adapters.art_attack, name=self.name, parameters=dict(self.parameters))


@dataclass(frozen=True)
class ART010(Method):
    """An attack as ART 0.10 had it (see `art010`): 'linf-cw', 'l2-deepfool', or L2 FGSM and PGD as 'l2-pgd'."""

    name: Literal["linf-cw", "l2-deepfool", "l2-pgd"]
    norm: str
    steps: int = 0
    step_size: float = 0.0

    def sees(self, protocol: str) -> str:
        return PROTOCOLS[protocol] if self.name == "l2-pgd" else super().sees(protocol)

    def attempts(self, eps: float) -> Iterator[tuple[str, Attempt]]:
        l2_pgd = partial(art010.l2_gradient, eps=eps, steps=self.steps, step_size=self.step_size)
        runs = {"linf-cw": partial(art010.carlini_linf, eps=eps), "l2-pgd": l2_pgd, "l2-deepfool": art010.deepfool}
        yield self.name, runs[self.name]


@dataclass(frozen=True)
class Foolbox(Method):
    """A minimal-norm attack of foolbox by name: 'l2-cw', 'l2-deepfool', 'linf-deepfool'."""

    name: Literal["l2-cw", "l2-deepfool", "linf-deepfool"]
    norm: str
    parameters: tuple[tuple[str, object], ...] = ()

    def attempts(self, eps: float) -> Iterator[tuple[str, Attempt]]:
        yield f"foolbox {self.name}", partial(adapters.foolbox_attack, name=self.name, parameters=dict(self.parameters))


@dataclass(frozen=True)
class AutoAttack(Method):
    """AutoAttack (Croce and Hein 2020, pyautoattack); the default is its 'standard' version."""

    attacks: tuple[Literal["apgd-ce", "apgd-dlr", "apgd-t", "fab", "fab-t", "square"], ...] = ("apgd-ce", "apgd-t", "fab-t", "square")
    norm: str = "linf"
    iterations: int = 100
    queries: int = 5000
    targets: int = 9

    def attempts(self, eps: float) -> Iterator[tuple[str, Attempt]]:
        for name in self.attacks:
            yield name, partial(adapters.autoattack, eps=eps, name=name, norm=self.norm, iterations=self.iterations,
                                queries=self.queries, targets=self.targets)  # fmt: skip


@dataclass(frozen=True)
class Chain(Method):
    """Methods of one norm after each other, each on what the ones before it left standing: the worst case per example."""

    methods: tuple[Method, ...]

    def __post_init__(self):
        if len({method.norm for method in self.methods}) != 1:
            raise FPDError(f"a chain needs methods of one norm; it has {[method.norm for method in self.methods]}.")

    @property
    def norm(self) -> str:
        return self.methods[0].norm

    def sees(self, protocol: str) -> str:
        return self.methods[0].sees(protocol)

    def attempts(self, eps: float) -> Iterator[tuple[str, Attempt]]:
        for method in self.methods:
            for name, attempt in method.attempts(eps):
                yield name, partial(through, method=method, attempt=attempt)


def through(view, x: Tensor, y: Tensor, seed: int, classes: int, method: Method, attempt: Attempt) -> Tensor:
    """Run one method of a chain with the outputs that it has to see."""
    with view.seeing(method.sees("sound")):
        return attempt(view, x, y, seed=seed, classes=classes)
