"""The attack methods, as plain values, and how each library runs them on a `View` of a network.

A method says which outputs it has to see in a protocol (`sees`) and gives, for one radius, the attempts that are made one
after the other on the examples that still stand. An attempt is a function (view, x, y, seed, classes) -> images, with x and
the result (B, C, H, W) in [0, 1] and y (B,) the true labels.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from fpdlib.errors import FPDError, choose

Attempt = Callable[..., Tensor]
NORMS = {"linf": np.inf, "l2": 2}
# protocol -> what a gradient attack on cross-entropy sees (see `attacks`)
PROTOCOLS = {"published": "softmax", "current": "deployed", "sound-pgd": "pre-squeeze", "sound": "pre-squeeze"}


class Method(Protocol):
    """What every method has: the norm of its radius, the view it differentiates, and its attempts."""

    norm: str

    def sees(self, protocol: str) -> str: ...

    def attempts(self, eps: float) -> Iterator[tuple[str, Attempt]]: ...


def logit_view(protocol: str) -> str:
    """What an attack on logit differences sees: ART 0.10 gave those the deployed logits, without a softmax."""
    return "deployed" if protocol in ("published", "current") else "logits"


@dataclass(frozen=True)
class PGD:
    """Projected gradient descent on cross-entropy, one run per stage: (steps, step size, restarts). FGSM is one step of eps.

    A restart starts at a random point of the epsilon ball; 0 restarts means one run from the clean image. A step
    size of None means epsilon / 4. The last iterate counts (ART).
    """

    stages: tuple[tuple[int, float | None, int], ...]
    norm: str = "linf"

    def __post_init__(self):
        choose("norm", self.norm, NORMS)

    def sees(self, protocol: str) -> str:
        return PROTOCOLS[protocol]

    def attempts(self, eps: float) -> Iterator[tuple[str, Attempt]]:
        for steps, step_size, restarts in self.stages:
            for _ in range(max(restarts, 1)):
                yield (
                    "pgd",
                    partial(pgd, eps=eps, steps=steps, step_size=step_size, random_start=restarts > 0, norm=self.norm),
                )


FGSM = PGD(((1, 1.0, 0),))  # the step is cut to epsilon
FGSM_L2 = PGD(((1, 100.0, 0),), "l2")


@dataclass(frozen=True)
class TargetedMargin:
    """PGD that raises u_t - max_{j != t} u_j, for the `targets` best wrong classes t in turn, from random starts."""

    steps: int = 100
    targets: int = 9
    norm: str = "linf"

    def sees(self, protocol: str) -> str:
        return logit_view(protocol)

    def attempts(self, eps: float) -> Iterator[tuple[str, Attempt]]:
        for rank in range(self.targets):
            yield "targeted margin", partial(targeted_margin, eps=eps, steps=self.steps, rank=rank, norm=self.norm)


@dataclass(frozen=True)
class ART:
    """An attack of today's ART by name, with its parameters; `options` are those of `ART_ATTACKS`."""

    name: str
    norm: str
    parameters: tuple[tuple[str, object], ...] = ()

    def __post_init__(self):
        choose("ART attack", self.name, ART_ATTACKS)

    def sees(self, protocol: str) -> str:
        return logit_view(protocol)

    def attempts(self, eps: float) -> Iterator[tuple[str, Attempt]]:
        yield self.name, partial(art_attack, name=self.name, parameters=dict(self.parameters))


@dataclass(frozen=True)
class ART010:
    """An attack as ART 0.10 had it (see `art010`): 'linf-cw', 'l2-deepfool', or L2 FGSM and PGD as 'l2-pgd'."""

    name: str
    norm: str
    steps: int = 0
    step_size: float = 0.0

    def __post_init__(self):
        choose("ART 0.10 attack", self.name, ("linf-cw", "l2-deepfool", "l2-pgd"))

    def sees(self, protocol: str) -> str:
        return PROTOCOLS[protocol] if self.name == "l2-pgd" else logit_view(protocol)

    def attempts(self, eps: float) -> Iterator[tuple[str, Attempt]]:
        from fpdlib import art010

        if self.name == "linf-cw":
            yield self.name, partial(art010.carlini_linf, eps=eps)
        elif self.name == "l2-pgd":
            yield self.name, partial(art010.l2_gradient, eps=eps, steps=self.steps, step_size=self.step_size)
        else:
            yield self.name, art010.deepfool


@dataclass(frozen=True)
class Foolbox:
    """A minimal-norm attack of foolbox by name: 'l2-cw', 'l2-deepfool', 'linf-deepfool'."""

    name: str
    norm: str
    parameters: tuple[tuple[str, object], ...] = ()

    def __post_init__(self):
        choose("foolbox attack", self.name, ("l2-cw", "l2-deepfool", "linf-deepfool"))

    def sees(self, protocol: str) -> str:
        return logit_view(protocol)

    def attempts(self, eps: float) -> Iterator[tuple[str, Attempt]]:
        yield f"foolbox {self.name}", partial(foolbox_attack, name=self.name, parameters=dict(self.parameters))


@dataclass(frozen=True)
class AutoAttack:
    """AutoAttack (Croce and Hein 2020, pyautoattack); the default is its 'standard' version."""

    attacks: tuple[str, ...] = ("apgd-ce", "apgd-t", "fab-t", "square")
    norm: str = "linf"
    iterations: int = 100
    queries: int = 5000
    targets: int = 9

    def __post_init__(self):
        for name in self.attacks:
            choose("attack of AutoAttack", name, ("apgd-ce", "apgd-dlr", "apgd-t", "fab", "fab-t", "square"))

    def sees(self, protocol: str) -> str:
        return logit_view(protocol)

    def attempts(self, eps: float) -> Iterator[tuple[str, Attempt]]:
        for name in self.attacks:
            yield name, partial(autoattack, eps=eps, name=name, method=self)


@dataclass(frozen=True)
class Chain:
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
    before = view.outputs
    try:
        view.outputs = method.sees("sound")
        return attempt(view, x, y, seed=seed, classes=classes)
    finally:
        view.outputs = before


# ------------------------------------------------------------------------------------------------ libraries


def art_classifier(view, shape: tuple[int, ...], classes: int, loss: nn.Module | None = None):
    """ART's classifier around a view, with cross-entropy (or `loss`) on its outputs and pixels in [0, 1]."""
    from art.estimators.classification import PyTorchClassifier  # slow to import, and not needed to read results

    # it reports every gradient that is not a number; `diagnostics` counts the outputs that are not
    logging.getLogger("art").setLevel(logging.ERROR)
    device = next(view.parameters()).device
    return PyTorchClassifier(
        view, loss or nn.CrossEntropyLoss(), shape, classes, clip_values=(0.0, 1.0),
        device_type="gpu" if device.type == "cuda" else "cpu",
    )  # fmt: skip


def seeded(generate: Callable, seed: int):
    """Run `generate` with NumPy's global generator, from which ART draws, at `seed`; its state is restored."""
    state = np.random.get_state()
    np.random.seed(seed % 2**32)
    try:
        return generate()
    finally:
        np.random.set_state(state)


def pgd(view, x: Tensor, y: Tensor, eps: float, steps: int, step_size: float | None, random_start: bool, seed: int,
        classes: int, norm: str = "linf", loss: nn.Module | None = None, targeted: bool = False) -> Tensor:  # fmt: skip
    """ART's PGD on the labels y (towards them if `targeted`); the last iterate, within eps of x."""
    from art.attacks.evasion import ProjectedGradientDescent

    attack = ProjectedGradientDescent(
        art_classifier(view, tuple(x.shape[1:]), classes, loss), norm=NORMS[norm], eps=eps,
        eps_step=min(step_size or eps / 4, eps), max_iter=steps, num_random_init=int(random_start), targeted=targeted,
        batch_size=len(x), verbose=False,
    )  # fmt: skip
    adversarial = seeded(lambda: attack.generate(x.cpu().numpy(), y.cpu().numpy()), seed)
    return project(torch.from_numpy(adversarial).to(x.device), x, eps, norm)


def project(adversarial: Tensor, x: Tensor, eps: float, norm: str) -> Tensor:
    """The nearest image within eps of x (as it is, if eps is infinite), clipped to [0, 1]; x where it is not a number."""
    adversarial = torch.where(adversarial.isnan(), x, adversarial)
    if math.isinf(eps):
        return adversarial.clamp(0, 1)
    if norm == "linf":
        return torch.max(torch.min(adversarial, x + eps), x - eps).clamp(0, 1)
    delta = (adversarial.clamp(0, 1) - x).flatten(1)
    length = delta.norm(dim=1, keepdim=True)
    return (x + (delta * (eps / length.clamp(min=1e-12)).clamp(max=1)).view_as(x)).clamp(0, 1)


class MarginLoss(nn.Module):
    """max_{j != t} u_j - u_t, which a targeted attack towards t lowers below zero."""

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        target = target.argmax(1) if target.dim() == 2 else target
        own = logits.gather(1, target[:, None])[:, 0]
        others = logits.scatter(1, target[:, None], -math.inf).amax(1)
        return (others - own).mean()


def targeted_margin(view, x: Tensor, y: Tensor, seed: int, classes: int, eps: float, steps: int, rank: int,
                    norm: str) -> Tensor:  # fmt: skip
    """One targeted run towards the class with the `rank`-th largest logit among the wrong ones (0 is the largest)."""
    if rank >= classes - 1:
        return x
    with torch.no_grad():
        logits = view(x).scatter(1, y[:, None], -math.inf)
    target = logits.argsort(1, descending=True)[:, rank]
    size = 2.5 * eps / steps if steps > 10 else eps / 4
    return pgd(view, x, target, eps, steps, size, True, seed, classes, norm, MarginLoss(), targeted=True)


# name -> (class of art.attacks.evasion, whether it wants the true labels)
ART_ATTACKS = {
    "linf-cw": ("CarliniLInfMethod", True),
    "l2-cw": ("CarliniL2Method", True),
    "l2-deepfool": ("DeepFool", False),
    "linf-bim": ("BasicIterativeMethod", True),
    "jsma": ("SaliencyMapMethod", False),
    "hopskipjump": ("HopSkipJump", False),
    "zoo": ("ZooAttack", True),
}


def art_attack(view, x: Tensor, y: Tensor, seed: int, classes: int, name: str, parameters: dict) -> Tensor:
    """An attack of today's ART with these parameters, all examples in one batch."""
    from art.attacks import evasion

    kind, labelled = ART_ATTACKS[name]
    one_by_one = name in ("jsma", "zoo")  # both fail on batches
    options = {"batch_size": 1 if one_by_one else len(x), "verbose": False} | parameters
    attack = getattr(evasion, kind)(art_classifier(view, tuple(x.shape[1:]), classes), **options)
    labels = nn.functional.one_hot(y, classes).cpu().numpy() if labelled else None
    adversarial = seeded(lambda: attack.generate(x.cpu().numpy(), labels), seed)
    return torch.from_numpy(np.asarray(adversarial, dtype=np.float32)).to(x.device)


def foolbox_attack(view, x: Tensor, y: Tensor, seed: int, classes: int, name: str, parameters: dict) -> Tensor:
    """A minimal-norm attack of foolbox; examples that it cannot break come back as they are."""
    import foolbox

    kinds = {"l2-cw": foolbox.attacks.L2CarliniWagnerAttack, "l2-deepfool": foolbox.attacks.L2DeepFoolAttack,
             "linf-deepfool": foolbox.attacks.LinfDeepFoolAttack}  # fmt: skip
    model = foolbox.PyTorchModel(view, bounds=(0, 1), device=x.device)
    adversarial, _, broken = kinds[name](**parameters)(model, x, y, epsilons=None)
    return torch.where(broken[:, None, None, None], adversarial, x).detach()


def autoattack(
    view, x: Tensor, y: Tensor, seed: int, classes: int, eps: float, name: str, method: AutoAttack
) -> Tensor:
    """One attack of AutoAttack; its targeted attacks take at most as many targets as there are wrong classes."""
    from pyautoattack import AutoAttack as Reference

    if name == "apgd-t" and classes < 4:  # its loss compares four logits
        return x
    norm = {"linf": "Linf", "l2": "L2"}[method.norm]
    attack = Reference(view, norm=norm, eps=eps, seed=seed, version="custom", attacks=[name], device=x.device)
    attack.verbose = False
    for part in (attack.apgd, attack.apgd_targeted, attack.fab):
        part.n_restarts, part.n_iter = 1, method.iterations
    for part in (attack.apgd_targeted, attack.fab):
        part.n_target_classes = min(method.targets, classes - 1)
    attack.square.n_queries = method.queries
    return attack.run_standard_evaluation(x, y, batch_size=len(x))[0].detach()
