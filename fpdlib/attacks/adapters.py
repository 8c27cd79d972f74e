"""How each library runs an attack on a `View` of a network: ART, foolbox, AutoAttack.

Every function takes (view, x, y, seed, classes, ...) and gives images: x and the result (B, C, H, W) in [0, 1], y (B,) the true
labels (the targets, where it says so).
"""

import logging
import math
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager

import numpy as np
import torch
from torch import Tensor, nn

NORMS = {"linf": np.inf, "l2": 2}


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
        classes: int, norm: str = "linf", loss: nn.Module | None = None, targeted: bool = False,
        decay: float | None = None) -> Tensor:  # fmt: skip
    """ART's PGD on the labels y (towards them if `targeted`), with momentum if there is a `decay`; the last iterate, within eps of
    x."""
    from art.attacks.evasion import ProjectedGradientDescent

    attack = ProjectedGradientDescent(
        art_classifier(view, tuple(x.shape[1:]), classes, loss), norm=NORMS[norm], eps=eps,
        eps_step=min(step_size or eps / 4, eps), max_iter=steps, decay=decay, num_random_init=int(random_start), targeted=targeted,
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


class RestorationLoss(nn.Module):
    """Cross-entropy of the first outputs plus the logarithm of the mean squared restoration error behind them, which weighs the same
    whatever the error's scale. weight: of the logarithm; below 0 an attack that raises the loss lowers the error."""

    def __init__(self, classes: int, weight: float = 1.0):
        super().__init__()
        self.classes, self.weight = classes, weight

    def forward(self, outputs: Tensor, y: Tensor) -> Tensor:
        y = y.argmax(1) if y.dim() == 2 else y
        error = outputs[:, self.classes :].square().mean(1)
        return nn.functional.cross_entropy(outputs[:, : self.classes], y) + self.weight * (error + 1e-12).log().mean()


def through_part(view, x: Tensor, y: Tensor, seed: int, classes: int, eps: float, steps: int, part: str, norm: str) -> Tensor:
    """PGD with momentum (Dong et al. 2018) from a random start on a part of an FPD network (`views.PARTS`), or on the logits before
    tanh; x where the network has no such part."""
    if part != "pre-squeeze" and not view.has(part):
        return x
    with view.seeing(part):
        loss = RestorationLoss(classes) if part == "restored" else None
        return pgd(view, x, y, eps, steps, 2.5 * eps / steps if steps > 10 else eps / 4, True, seed, classes, norm, loss, decay=1.0)


# name -> (class of art.attacks.evasion, whether it wants the true labels)
ART_ATTACKS = {"linf-cw": ("CarliniLInfMethod", True), "l2-cw": ("CarliniL2Method", True), "l2-deepfool": ("DeepFool", False)}


def art_attack(view, x: Tensor, y: Tensor, seed: int, classes: int, name: str, parameters: dict) -> Tensor:
    """An attack of today's ART with these parameters, all examples in one batch."""
    from art.attacks import evasion

    kind, labelled = ART_ATTACKS[name]
    options = {"batch_size": len(x), "verbose": False} | parameters
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


def quiet() -> AbstractContextManager:
    """AutoAttack without its warnings of zero gradients: every outcome records them itself."""
    logging.getLogger("auto-attack").setLevel(logging.ERROR)
    return warnings.catch_warnings(action="ignore")


def autoattack(view, x: Tensor, y: Tensor, seed: int, classes: int, eps: float, name: str, norm: str, iterations: int,
               queries: int, targets: int) -> Tensor:  # fmt: skip
    """One attack of AutoAttack; its targeted attacks take at most as many targets as there are wrong classes."""
    from pyautoattack import AutoAttack as Reference

    if name == "apgd-t" and classes < 4:  # its loss compares four logits
        return x
    version = {"linf": "Linf", "l2": "L2"}[norm]
    attack = Reference(view, norm=version, eps=eps, seed=seed, version="custom", attacks=[name], device=x.device)
    attack.verbose = False
    for part in (attack.apgd, attack.apgd_targeted, attack.fab):
        part.n_restarts, part.n_iter = 1, iterations
    for part in (attack.apgd_targeted, attack.fab):
        part.n_target_classes = min(targets, classes - 1)
    attack.square.n_queries = queries
    try:
        with quiet():
            return attack.run_standard_evaluation(x, y, batch_size=len(x))[0].detach()
    except (RuntimeError, ZeroDivisionError) as error:
        # its L2 Square stumbles when no margin is above 0 after its first stripes (outputs that are not numbers, or exact ties), and
        # on images of a few pixels
        if name == "square" and (isinstance(error, ZeroDivisionError) or "0 elements" in str(error)):
            return x
        raise


def fmn(view, x: Tensor, y: Tensor, steps: int) -> Tensor:
    """foolbox's L-inf FMN, judged on the view; where it finds nothing, its last image or x."""
    import foolbox

    model = foolbox.PyTorchModel(view, bounds=(0, 1), device=x.device)
    adversarial, _, _ = foolbox.attacks.LInfFMNAttack(steps=steps)(model, x, y, epsilons=None)
    return adversarial.detach()


def apgd(view, x: Tensor, y: Tensor, eps: Tensor, seed: int, iterations: int, rank: int | None) -> Tensor:
    """One run of AutoAttack's APGD with a radius per image, eps (B,): cross-entropy, or the targeted loss towards the class with the
    `rank`-th largest logit among the wrong ones, from a random point of the ball. Gives its best adversarial image, or the last
    that it took for one."""
    from pyautoattack.autopgd_base import APGDAttack, APGDAttack_targeted

    radius = eps.view(-1, 1, 1, 1)
    kind = APGDAttack if rank is None else APGDAttack_targeted
    attack = kind(view, n_iter=iterations, norm="Linf", eps=radius, seed=seed, device=x.device)
    attack.init_hyperparam(x)
    if rank is not None:
        with torch.no_grad():
            attack.y_target = view(x).scatter(1, y[:, None], -math.inf).argsort(1, descending=True)[:, rank]
    with torch.random.fork_rng(devices=[x.device] if x.device.type == "cuda" else []), quiet():
        torch.manual_seed(seed)
        return attack.attack_single_run(x, y)[3].detach()
