"""Three attacks as adversarial-robustness-toolbox 0.10 had them, which the paper used and later versions changed.

Written from their described behaviour and tested against outcomes that version 0.10 itself gives on a fixed network
(`tests/data/art010.safetensors`). C&W and DeepFool see the deployed logits, gradient attacks their softmax.

- C&W-Linf (its Carlini class): at most 10 iterations of a line search in tanh space on the margin. A step is
  taken only where the float32 margin falls strictly; the step size halves up to five times, or doubles up to five times
  while that helps, and is carried over to the next iteration, so a failed iteration shrinks it 16-fold. Examples
  that are not broken come back unchanged.
- L2 FGSM and PGD: a step along g / (|g| + 1e-7), with g the gradient of the *mean* loss of the batch, so a step shrinks where
  gradients are small (half at |g| = 1e-7) and depends on the batch size; clip to [0, 1], then project.
- DeepFool: 100 iterations, no overshoot (its last step scaled an array that was a view of itself).
"""

import torch
from torch import Tensor

from fpdlib.attacks.adapters import project

SMOOTH = 0.999999  # keeps the inverse of tanh finite at the bounds
TOLERANCE = 1e-7
ITERATIONS, HALVINGS, DOUBLINGS, STEP = 10, 5, 5, 0.01
DEEPFOOL_ITERATIONS = 100


def carlini_linf(view, x: Tensor, y: Tensor, seed: int, classes: int, eps: float) -> Tensor:
    """C&W-Linf of ART 0.10 with its default parameters, for the true labels y; (B, C, H, W) within eps of x."""
    low, high = (x - eps).clamp(0, 1), (x + eps).clamp(0, 1)
    shape = (-1,) + (1,) * (x.dim() - 1)

    def image(w: Tensor, chosen: Tensor) -> Tensor:
        return (w.tanh() / SMOOTH + 1) / 2 * (high[chosen] - low[chosen]) + low[chosen]

    @torch.no_grad()
    def margin(images: Tensor, chosen: Tensor) -> Tensor:
        logits, own = view(images), y[chosen, None]
        others = logits.scatter(1, own, -torch.inf).amax(1)
        return (logits.gather(1, own)[:, 0] - others).clamp(min=0)

    width = (high - low).clamp(min=1e-12)
    w = torch.atanh((((x - low) / width).clamp(0, 1) * 2 - 1) * SMOOTH)
    adversarial, loss = x.clone(), margin(x, torch.arange(len(x), device=x.device))
    step = torch.full((len(x),), STEP, device=x.device)
    for _ in range(ITERATIONS):
        active = (loss > 0).nonzero().flatten()
        if not len(active):
            break
        direction = descent(view, adversarial[active], y[active])
        direction = direction * (high - low)[active] * (1 - w[active].tanh() ** 2) / (2 * SMOOTH)
        before, best, best_step = loss[active], loss[active].clone(), torch.zeros_like(loss[active])
        now, halvings = before.clone(), torch.zeros_like(active)

        def attempt(part: Tensor, active=active, direction=direction) -> Tensor:
            moved = w[active[part]] + step[active[part]].view(shape) * direction[part]
            return margin(image(moved, active[part]), active[part])

        for _ in range(HALVINGS):
            part = (now >= before).nonzero().flatten()
            if not len(part):
                break
            now[part] = attempt(part)
            better = part[now[part] < best[part]]
            best_step[better], best[better] = step[active[better]], now[better]
            step[active[part]] *= 0.5
            halvings[part] += 1
        step[active] *= 2
        for _ in range(DOUBLINGS):
            part = ((halvings == 1) & (now <= best)).nonzero().flatten()
            if not len(part):
                break
            step[active[part]] *= 2
            now[part] = attempt(part)
            better = part[now[part] < best[part]]
            best_step[better], best[better] = step[active[better]], now[better]
        step[active[halvings == 1]] *= 0.5
        moved = (best_step > 0).nonzero().flatten()
        if len(moved):
            chosen = active[moved]
            w[chosen] = w[chosen] + best_step[moved].view(shape) * direction[moved]
            adversarial[chosen] = image(w[chosen], chosen)
            loss[chosen] = margin(adversarial[chosen], chosen)
    return torch.where((loss <= 0).view(shape), adversarial.clamp(0, 1), x)


def l2_gradient(view, x: Tensor, y: Tensor, seed: int, classes: int, eps: float, steps: int, step_size: float) -> Tensor:
    """L2 FGSM (one step of eps) and PGD of ART 0.10; the last iterate, (B, C, H, W) within eps of x."""
    shape, adversarial = (-1,) + (1,) * (x.dim() - 1), x
    for _ in range(steps):
        adversarial = adversarial.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(torch.nn.functional.cross_entropy(view(adversarial), y), adversarial)
        length = gradient.flatten(1).norm(dim=1).view(shape)
        moved = (adversarial.detach() + min(step_size, eps) * gradient / (length + TOLERANCE)).clamp(0, 1)
        adversarial = project(moved, x, eps, "l2")
    return adversarial.detach()


def descent(view, x: Tensor, y: Tensor) -> Tensor:
    """Gradient of (largest wrong logit - true logit) with respect to the image: the direction in which the margin falls."""
    x = x.detach().requires_grad_()
    logits = view(x)
    others = logits.scatter(1, y[:, None], -torch.inf).amax(1)
    (gradient,) = torch.autograd.grad((others - logits.gather(1, y[:, None])[:, 0]).sum(), x)
    return gradient


def deepfool(view, x: Tensor, y: Tensor, seed: int, classes: int) -> Tensor:
    """DeepFool of ART 0.10, which never looks at y; (B, C, H, W) in [0, 1].

    Only what still keeps its class is moved, and gone on with while it moves: without overshoot an image may stop right at the
    boundary, and from then on every further step is the same.
    """
    adversarial, active, first = x.clone(), torch.arange(len(x), device=x.device), None
    for _ in range(DEEPFOOL_ITERATIONS):
        logits, gradients = jacobian(view, adversarial[active])
        said = logits.argmax(1)
        first = said.clone() if first is None else first
        keep = said == first
        active, first, logits, gradients = active[keep], first[keep], logits[keep], gradients[keep]
        if not len(active):
            break
        row = torch.arange(len(active), device=x.device)
        differences = gradients - gradients[row, first][:, None]
        gaps = (logits - logits[row, first][:, None]).abs()
        lengths = differences.flatten(2).norm(dim=2)
        nearest = (gaps / (lengths + TOLERANCE)).index_put((row, first), gaps.new_tensor(torch.inf)).argmin(1)
        scale = gaps[row, nearest] / (lengths[row, nearest] ** 2 + TOLERANCE)
        moved = (adversarial[active] + scale.view((-1,) + (1,) * (x.dim() - 1)) * differences[row, nearest]).clamp(0, 1)
        changed = (moved != adversarial[active]).flatten(1).any(1)
        adversarial[active] = moved
        active, first = active[changed], first[changed]
    return adversarial


def jacobian(view, x: Tensor) -> tuple[Tensor, Tensor]:
    """Logits (B, K) and the gradient of each with respect to its image (B, K, C, H, W), all classes in one backward pass."""
    x = x.detach().requires_grad_()
    logits = view(x)
    each = torch.eye(logits.shape[1], device=x.device)[:, None].expand(-1, len(x), -1)
    (gradients,) = torch.autograd.grad(logits, x, each, is_grads_batched=True)
    view.backwards += (logits.shape[1] - 1) * len(x)  # the view counts one pass
    return logits.detach(), gradients.transpose(0, 1)
