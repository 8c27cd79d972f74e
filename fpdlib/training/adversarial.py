"""Adversarial training with L-inf FGSM and PGD (Sec. 4.2, 'Notation'): the inner attack stays on the network's device.

The paper gives the attack's parameters and no loss; the release averages the clean and the adversarial loss, each
cross-entropy plus, with a restoration module, the distance of the restored image from the clean one. So do we, from
the adversarial image to the *clean* one (its SVHN script restores the adversarial image).
"""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from fpdlib.errors import FPDError, check
from fpdlib.network.answers import attacked
from fpdlib.network.fpd import FPD


@dataclass(frozen=True)
class Adversary:
    """The attack that an adversarially trained network sees, as plain values in pixel units.

    steps, step_size: 1 step of eps without random start is FGSM. random_start: begin at a uniform point of the ball.
    labels: the attack's labels, 'true' or the network's own 'predicted' ones (the release; no label leaking).
    delay: epochs of clean training before it begins (the release: 10 on MNIST, 0 on SVHN).
    warmup: share of the steps over which eps grows from 0 to its value (0: from the start, as the paper).
    clip_start: whether the random start is clipped to [0, 1] before the first gradient (Wong et al. 2020 do not).
    grey: whether the start's noise is the same in all channels, as for an image of one (MNIST at its native size).
    select: compare epochs under this attack ('self') or under ten steps of PGD ('pgd'), which notice when one-step training has
        learnt to fool one step only (catastrophic overfitting).
    clean_weight: weight of the loss on clean images, the rest is on adversarial ones (the release: 0.5).
    """

    name: str = "pgd"
    eps: float = 0.3
    steps: int = 100
    step_size: float = 0.01
    random_start: bool = True
    labels: Literal["true", "predicted"] = "true"
    delay: int = 0
    warmup: float = 0.0
    clean_weight: float = 0.5
    clip_start: bool = True
    grey: bool = False
    select: Literal["self", "pgd"] = "self"

    def __post_init__(self):
        check(self)
        if not 0 < self.eps <= 1 or not self.step_size > 0 or self.steps < 1:
            raise FPDError(
                f"adversary {self.name!r}: eps {self.eps!r}, step_size {self.step_size!r}, steps {self.steps!r}; accepted: "
                "eps in (0, 1] and a step size above 0, both in pixel units, and at least one step."
            )
        if not 0 <= self.warmup <= 1 or not 0 <= self.clean_weight <= 1 or self.delay < 0:
            raise FPDError(
                f"adversary {self.name!r}: warmup {self.warmup!r} and clean_weight {self.clean_weight!r} must be shares in "
                f"[0, 1] and delay {self.delay!r} at least 0 epochs."
            )


# Sec. 4.2 'Notation' and what the released scripts do instead (findings: 40 steps; fine-tuning on predicted labels).
PAPER_FGSM = Adversary("fgsm", 0.3, 1, 0.3, random_start=False)
PAPER_PGD = Adversary("pgd", 0.3, 100, 0.01, random_start=False)
PAPER_PGD_SVHN = Adversary("pgd", 8 / 256, 40, 2 / 256, random_start=False)
# The known answers of `anchor`: Wong et al. 2020 and Madry et al. 2018.
FAST = Adversary("fast", 0.3, 1, 0.375, clean_weight=0.0, clip_start=False, grey=True, select="pgd")
MADRY = Adversary("madry", 0.3, 40, 0.01, clean_weight=0.0, warmup=0.1, grey=True)


@attacked
def craft(model: FPD, x: Tensor, y: Tensor, adversary: Adversary, draws: torch.Generator, scale: float = 1.0) -> Tensor:
    """Adversarial images (B, 3, H, W) in [0, 1] within `scale * eps` of x, against the deployed logits."""
    eps, size = adversary.eps * scale, adversary.step_size * scale
    if adversary.labels == "predicted":
        with torch.no_grad():
            y = model(x).argmax(1)
    adversarial = x
    if adversary.random_start:
        shape = (len(x), 1, *x.shape[2:]) if adversary.grey else x.shape
        noise = torch.rand(shape, generator=draws, device=x.device) * 2 - 1
        adversarial = x + eps * noise
        adversarial = adversarial.clamp(0, 1) if adversary.clip_start else adversarial
    for _ in range(adversary.steps):
        adversarial = adversarial.detach().requires_grad_()
        loss = F.cross_entropy(model(adversarial), y)
        (gradient,) = torch.autograd.grad(loss, adversarial)
        moved = adversarial.detach() + size * gradient.sign()
        adversarial = torch.max(torch.min(moved, x + eps), x - eps).clamp(0, 1)
    return adversarial.detach()


def losses(model: FPD, x: Tensor, clean: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Cross-entropy, L2 to the clean image (0 without restoration) and logits for the images x."""
    front = model.front(x)
    logits = model.squeeze(model.classify(front)).to(x.dtype)
    l2 = F.mse_loss(front.restored.to(x.dtype), clean) if front.restored is not None else x.new_zeros(())
    return F.cross_entropy(logits, y), l2, logits


def adversarial_step(model: FPD, recipe, x: Tensor, y: Tensor, noise: Tensor, adversarial: Tensor) -> dict:
    """Loss of one adversarial training step on noisy clean images and adversarial ones, by the adversary's `clean_weight`."""
    weight = recipe.adversary.clean_weight
    ce, l2, logits = losses(model, x + noise, x, y)
    ce_adversarial, l2_adversarial, answers = losses(model, adversarial, x, y)
    loss = recipe.alpha1 * (weight * ce + (1 - weight) * ce_adversarial)
    loss = loss + recipe.alpha2 * (weight * l2 + (1 - weight) * l2_adversarial)
    return {
        "loss": loss, "ce": ce, "mse": l2, "images": len(y), "correct": (logits.argmax(1) == y).sum(),
        "ce_adversarial": ce_adversarial, "correct_adversarial": (answers.argmax(1) == y).sum(),
    }  # fmt: skip
