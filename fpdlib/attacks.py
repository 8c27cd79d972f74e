"""Attack suites as data: what is perturbed, which outputs the attacker differentiates, with which exact parameters.

Epsilon and step size are in pixel units ([0, 1]). The attacks themselves are ART's; this module only chooses the view
of the network that ART sees, which is where the three protocols differ:

- `published`: the deployed logits pass a softmax before ART's cross-entropy adds its own, as ART 0.10 did (its
  classifier appended one); no random start, the last iterate, parameters as printed in Sec. 4.1.
- `current`: the same attack without the extra softmax.
- `sound-pgd`: the logits before tanh with a bounded margin (same ranking, no vanishing gradient), restarts, worst
  case per example.

Success is always judged on the deployed output.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from fpdlib.errors import FPDError, choose

PROTOCOLS = {"published": "softmax", "current": "deployed", "sound-pgd": "pre-squeeze"}


@dataclass(frozen=True)
class PGD:
    """One run of L-inf PGD per stage, each only on examples that still stand: (steps, step size, restarts).

    A restart starts at a random point of the epsilon ball; 0 restarts means one run from the clean image. A step
    size of None means epsilon / 4.
    """

    stages: tuple[tuple[int, float | None, int], ...]


@dataclass(frozen=True)
class AttackSpec:
    """One column of a table.

    protocol: 'published', 'current' or 'sound-pgd' (see the module). eps: radii in pixel units, ascending; more than
    one is a ladder: an example broken at one radius stays broken at the larger ones, only survivors are attacked.
    surrogate: None (white-box) or the labels on which a three-layer fully connected substitute is trained for this
    network (Sec. 4.1): 'oracle' (the target's answers, as Papernot et al. 2017) or 'true'.
    space: 'network' perturbs the resized three-channel image (the paper), 'native' the dataset's own pixels.
    images: how many test images, the first of a fixed seeded order. batch_size: images attacked at once.
    """

    name: str
    protocol: str
    pgd: PGD
    eps: tuple[float, ...] = (0.3,)
    surrogate: str | None = None
    space: str = "network"
    images: int = 1000
    batch_size: int = 100

    def __post_init__(self):
        choose("protocol", self.protocol, PROTOCOLS)
        choose("surrogate", self.surrogate, (None, "oracle", "true"))
        choose("space", self.space, ("network", "native"))
        if not self.eps or list(self.eps) != sorted(set(self.eps)) or not 0 <= self.eps[0] <= self.eps[-1] <= 1:
            raise FPDError(
                f"attack {self.name!r}: eps is {self.eps!r}; accepted: ascending radii in pixel units, 0 to 1."
            )
        if self.images < 1 or self.batch_size < 1:
            raise FPDError(f"attack {self.name!r}: images and batch_size must be at least 1.")
        if self.surrogate and self.space == "native":
            raise FPDError(f"attack {self.name!r}: a surrogate sees network inputs; use space='network'.")


TABLE1_PGD = PGD(stages=((40, 0.01, 0),))  # Sec. 4.1: eps 0.3, 40 steps of 0.01


def table1_suite(images: int, sound_images: int, steps: int, restarts: int, rungs: tuple[float, ...], rung_steps: int,
                 batch_size: int) -> dict[str, AttackSpec]:  # fmt: skip
    """Table 1's two columns in `published`, the same point in `sound-pgd`, and the curve over epsilon.

    The first stage of the two sound attacks is a cheap screen (10 coarse steps): what it breaks is broken.
    """
    screen = (10, None, 1)
    published = AttackSpec("white-box", "published", TABLE1_PGD, images=images, batch_size=batch_size)
    return {
        "white-box": published,
        "transfer-oracle": replace(published, name="transfer-oracle", surrogate="oracle"),
        "transfer-true": replace(published, name="transfer-true", surrogate="true"),
        "sound-pgd": AttackSpec(
            "sound-pgd", "sound-pgd", PGD((screen, (steps, 0.01, restarts))), images=sound_images, batch_size=batch_size
        ),
        "curve": AttackSpec(
            "curve", "sound-pgd", PGD((screen, (rung_steps, None, 1))), eps=rungs, images=images, batch_size=batch_size
        ),
    }


class View(nn.Module):
    """The outputs of a network that an attacker differentiates, with counts of the examples passed through.

    outputs: 'softmax' (of the deployed logits), 'deployed' or 'pre-squeeze'. Gradients reach the pixels only.
    """

    def __init__(self, network: nn.Module, outputs: str):
        super().__init__()
        self.network = network
        self.outputs = choose("outputs", outputs, PROTOCOLS.values())
        self.forwards = self.backwards = 0

    def forward(self, x: Tensor) -> Tensor:
        self.forwards += len(x)
        if self.outputs == "pre-squeeze" and hasattr(self.network, "pre_squeeze"):
            logits = bounded_margin(self.network.pre_squeeze(x))
        else:
            logits = self.network(x)
        out = logits.softmax(1) if self.outputs == "softmax" else logits
        if out.requires_grad:
            out.register_hook(self._count)
        return out

    def _count(self, gradient: Tensor) -> None:
        self.backwards += len(gradient)


def bounded_margin(logits: Tensor, largest: float = 10.0) -> Tensor:
    """Logits (B, K) with each example divided by a constant, so that its two best differ by at most `largest`.

    Cross-entropy saturates as tanh does: in float32 its gradient is exactly zero from a margin of about 104 on. The
    ranking stays, and so does the sign of the margin's gradient.
    """
    best = logits.detach().topk(2, dim=1).values
    scale = ((best[:, 0] - best[:, 1]) / largest).clamp(min=1)
    return logits / scale[:, None]


def art_classifier(view: View, shape: tuple[int, ...], classes: int):
    """ART's classifier around a view, with cross-entropy on its outputs and pixels in [0, 1]."""
    from art.estimators.classification import PyTorchClassifier  # slow to import, and not needed to read results

    device = next(view.parameters()).device
    return PyTorchClassifier(
        view, nn.CrossEntropyLoss(), shape, classes, clip_values=(0.0, 1.0),
        device_type="gpu" if device.type == "cuda" else "cpu",
    )  # fmt: skip


def pgd(view: View, x: Tensor, y: Tensor, eps: float, steps: int, step_size: float | None, random_start: bool,
        seed: int, classes: int) -> Tensor:  # fmt: skip
    """ART's L-inf PGD on true labels; the last iterate, (B, C, H, W) in [0, 1], within eps of x."""
    from art.attacks.evasion import ProjectedGradientDescent

    attack = ProjectedGradientDescent(
        art_classifier(view, tuple(x.shape[1:]), classes), norm=np.inf, eps=eps, eps_step=min(step_size or eps / 4, eps),
        max_iter=steps, num_random_init=int(random_start), batch_size=len(x), verbose=False,
    )  # fmt: skip
    state = np.random.get_state()
    np.random.seed(seed % 2**32)  # ART draws its random starts from NumPy's global generator
    try:
        adversarial = attack.generate(x.cpu().numpy(), y.cpu().numpy())
    finally:
        np.random.set_state(state)
    adversarial = torch.from_numpy(adversarial).to(x.device)
    return torch.max(torch.min(adversarial, x + eps), x - eps).clamp(0, 1)


def loss_gradient(view: View, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Per-example cross-entropy on the view's outputs (B,), and its gradient with respect to x."""
    x = x.detach().requires_grad_()
    loss = nn.functional.cross_entropy(view(x), y, reduction="none")
    (gradient,) = torch.autograd.grad(loss.sum(), x)
    return loss.detach(), gradient


class Surrogate(nn.Module):
    """Three fully connected layers, the substitute network of Table 1's transfer column (Sec. 4.1; width our choice)."""

    def __init__(self, inputs: int, classes: int, width: int = 200):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Flatten(), nn.Linear(inputs, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(),
            nn.Linear(width, classes),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)
