"""Algorithm 1: gated two-phase training with epsilon-neighbourhood noise (Sec. 3.4, Fig. 4); `step` is its loop body."""

import torch
import torch.nn.functional as F
from torch import Tensor

from fpdlib.errors import FPDError
from fpdlib.network.fpd import FPD, Front
from fpdlib.training.adversarial import adversarial_step, craft
from fpdlib.training.recipe import Recipe


def step(model: FPD, optimizer, recipe: Recipe, x: Tensor, y: Tensor, noise: Tensor, latched: bool) -> dict:
    """One iteration of Algorithm 1 (lines 3-18) on clean images x (B, 3, H, W), labels y (B,), noise like x.

    Returns the losses before each update, whether the gate was closed, and the number of correct predictions.
    Networks without restoration have no L2 term, gate or second phase.
    """
    front, l2 = begin(model, recipe, x, noise)
    if closed(recipe, front, l2, latched):
        return restore(model, optimizer, recipe, l2)
    return learn(model, optimizer, recipe, front, l2, x, y)


def begin(model: FPD, recipe: Recipe, x: Tensor, noise: Tensor) -> tuple[Front, Tensor]:
    """Lines 6-8: the front pass and its L2 loss (0 without restoration)."""
    with torch.autocast(x.device.type, torch.bfloat16, enabled=recipe.precision == "bfloat16"):
        front = model.front(x + noise)
        return front, F.mse_loss(front.restored.to(x.dtype), x) if front.restored is not None else x.new_zeros(())


def closed(recipe: Recipe, front: Front, l2: Tensor, latched: bool) -> bool:
    """Line 9, the gate."""
    return front.restored is not None and recipe.gate != "none" and not latched and bool(l2 > recipe.threshold)


def restore(model: FPD, optimizer, recipe: Recipe, l2: Tensor, again: bool = False) -> dict:
    """Line 10: no gradient reaches the classifier, so only F_FD and F_R move. again: keep the front pass for another update."""
    update(model, optimizer, recipe, recipe.alpha2 * l2, again)
    return {"gated": 1.0, "mse": l2, "loss": recipe.alpha2 * l2}


def learn(model: FPD, optimizer, recipe: Recipe, front: Front, l2: Tensor, x: Tensor, y: Tensor) -> dict:
    """Lines 12-17: both losses of the first phase, then the second phase on what it restored."""
    autocast = torch.autocast(x.device.type, torch.bfloat16, enabled=recipe.precision == "bfloat16")
    with autocast:
        logits = model.squeeze(model.classify(front)).to(x.dtype)
    l1 = F.cross_entropy(logits, y)  # line 12
    loss = recipe.alpha1 * l1 + recipe.alpha2 * l2
    update(model, optimizer, recipe, loss)  # line 13
    result = {"mse": l2, "ce": l1, "loss": loss, "correct": (logits.argmax(1) == y).sum(), "images": len(y)}
    if recipe.phases == 2 and front.restored is not None:
        restored = front.restored.detach().to(x.dtype)
        with autocast, model.second_phase():
            second = model.front(restored)  # line 14
            logits = model.squeeze(model.classify(second)).to(x.dtype)
            l2 = F.mse_loss(second.restored.to(x.dtype), x)  # line 15
        l1 = F.cross_entropy(logits, y)  # line 16
        update(model, optimizer, recipe, recipe.alpha1 * l1 + recipe.alpha2_second * l2)  # line 17
        result |= {"ce_second": l1, "mse_second": l2}
    return result


def strength(recipe: Recipe, progress: float) -> float:
    """Share of the adversary's eps at this point of the training (its warm-up)."""
    return min(progress / recipe.adversary.warmup, 1.0) if recipe.adversary.warmup else 1.0


def harden(model: FPD, optimizer, recipe: Recipe, x, y, noise, draws, scale: float) -> dict:
    """One step of adversarial training: craft, then one update on clean and adversarial images together."""
    autocast = torch.autocast(x.device.type, torch.bfloat16, enabled=recipe.precision == "bfloat16")
    with autocast:
        adversarial = craft(model, x, y, recipe.adversary, draws, scale)
        result = adversarial_step(model, recipe, x, y, noise, adversarial)
    update(model, optimizer, recipe, result["loss"])
    return result


def update(model: FPD, optimizer, recipe: Recipe, loss: Tensor, again: bool = False) -> None:
    if not (loss.is_cuda and torch.cuda.is_current_stream_capturing()):  # a graph's losses are looked at when it has run
        finite(recipe, loss)
    optimizer.zero_grad(set_to_none=True)
    loss.backward(retain_graph=again)
    torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.clip)
    optimizer.step()


def finite(recipe: Recipe, loss: Tensor) -> None:
    if not torch.isfinite(loss):
        raise FPDError(
            f"the training loss became {loss.item()} with recipe {recipe.name!r} (lr {recipe.lr}, clip {recipe.clip}). "
            "Training stopped; the saved state is from before. Lower lr or clip, or use precision 'float32'."
        )
