"""Is the robustness real? The gradient-masking checks, each a line with its value, what to expect, and whether it passes.

Symptoms of Athalye et al. 2018 and Carlini et al. 2019 (FGSM against PGD, black-box against white-box, random noise, unbounded
radii, convergence), the six indicators of attack failure of Pintor et al. 2022, and an active test after Zimmermann et al.
2022 that plants an adversarial example which a sound attack has to find. Attacks see the deployed logits (`deployed`), as a
defender would run them, or the logits before tanh (`pre-squeeze`, `logits`). A failed check says that robust accuracy
measured on that view means nothing; passing all proves nothing.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fpdlib.attacks import adapters
from fpdlib.attacks.methods import PGD, AutoAttack, Method
from fpdlib.attacks.views import View, loss_gradient
from fpdlib.errors import FPDError
from fpdlib.evaluation.outcomes import Rate, rate, test_order
from fpdlib.network.answers import attacked, predict, wrong
from fpdlib.runtime import generator

TANH_IS_ONE = 9.011  # float32 tanh is exactly 1, and its gradient 0, from here on (findings D2)


@dataclass(frozen=True)
class DiagnosisSpec:
    """How far the checks go. eps: the radius in question (L-inf, pixel units). images: correctly classified test images.
    overflow: what an output that is not a number counts as (see `answers.wrong`)."""

    eps: float = 0.3
    images: int = 100
    steps: int = 100
    restarts: int = 10
    draws: int = 1000
    queries: int = 5000
    planted: int = 20
    grid: int = 21
    overflow: str = "confirmed"


class Bench:
    """A network, correctly classified images, and the attacks that the checks share."""

    def __init__(self, model: nn.Module, x: Tensor, y: Tensor, spec: DiagnosisSpec, seed: int):
        self.model, self.x, self.y, self.spec, self.seed = model, x, y, spec, seed
        self.classes = model.spec.num_classes

    def line(self, group: str, check: str, found: Rate | float, expectation: str = "informative", passes: bool | None = None) -> dict:
        """One check; found: a share with its interval, or a number in the unit that the check names."""
        rate = found if isinstance(found, Rate) else Rate(float(found), len(self.y), np.nan, np.nan)
        return {"group": group, "check": check, "value": rate.value, "low": rate.low, "high": rate.high, "n": rate.n,
                "expectation": expectation, "passes": None if passes is None else bool(passes)}  # fmt: skip

    def right(self, images: Tensor, of: Tensor | slice = slice(None)) -> Tensor:
        """(B,) whether each image, of the bench's or of those with the indices `of`, is still classified correctly."""
        return ~wrong(self.model, images, self.y[of], self.spec.overflow)

    def left(self, method: Method, outputs: str, eps: float) -> Tensor:
        """(B,) right after every attempt of a method on a view, each on what still stands."""
        standing, view = torch.ones_like(self.y, dtype=torch.bool), View(self.model, outputs).eval()
        for number, (_, attempt) in enumerate(method.attempts(eps)):
            if len(left := standing.nonzero().flatten()):
                images = attempt(view, self.x[left], self.y[left], seed=self.seed + number, classes=self.classes)
                standing[left] = self.right(images, left)
        return standing

    def pgd(self, outputs: str, eps: float, steps: int, size: float | None = None, runs: int = 1) -> Tensor:
        """(B,) right after the worst of `runs` PGD runs on a view, from random starts (0: one, from the image itself)."""
        return self.left(PGD(((steps, size, runs),)), outputs, eps)


def share(right: Tensor) -> Rate:
    return rate(right.cpu().numpy())


def saturation(bench: Bench) -> Iterator[dict]:
    """How much of the gradient tanh takes away, and the size of the logits before it."""
    for outputs in ("softmax", "deployed", "pre-squeeze"):
        _, gradient = loss_gradient(View(bench.model, outputs), bench.x, bench.y)
        zero = (gradient == 0).flatten(1).all(1)
        yield bench.line("gradients", f"zero-gradient share, {outputs}", zero.float().mean(), "0 on the view that is attacked",
                         not zero.any())  # fmt: skip
    with torch.no_grad():
        size = View(bench.model, "logits")(bench.x).abs().amax(1)
    for q in (0.1, 0.5, 0.9, 1.0):
        yield bench.line("gradients", f"|logit before tanh|, largest per image, quantile {q:g}", size.quantile(q))
    attacked = adapters.pgd(View(bench.model, "pre-squeeze").eval(), bench.x, bench.y, bench.spec.eps, 10, None, True, bench.seed,
                           bench.classes)  # fmt: skip
    with torch.no_grad():
        broken = ~View(bench.model, "logits")(attacked).isfinite().all(1)
    yield bench.line("gradients", "share of attacked images whose logits overflow", broken.float().mean(), "0", not broken.any())
    yield bench.line("gradients", "share of images with a saturated logit (|u| > 9.011)", (size > TANH_IS_ONE).float().mean())


def symptoms(bench: Bench, surrogate: nn.Module | None) -> Iterator[dict]:
    """FGSM against PGD, random noise, radii up to 1, black box against white box, Square against gradients."""
    spec = bench.spec
    others = {"Square": share(bench.left(AutoAttack(("square",), queries=spec.queries), "logits", spec.eps)).value}
    if surrogate is not None:
        others["transfer"] = share(bench.right(borrowed(bench, surrogate))).value
    for outputs in ("deployed", "pre-squeeze"):
        fgsm = share(bench.pgd(outputs, spec.eps, 1, 1.0, runs=0)).value
        white = share(bench.pgd(outputs, spec.eps, spec.steps, spec.eps / 10, runs=spec.restarts)).value
        words = "at least 0: iterating may not weaken"
        yield bench.line("symptoms", f"FGSM minus PGD, {outputs}", fgsm - white, words, fgsm >= white)
        words = "at least -0.002: without the gradients nothing may beat them"
        for name, value in others.items():
            yield bench.line("symptoms", f"{name} minus PGD, {outputs}", value - white, words, value >= white - 0.002)
    noisy = torch.ones_like(bench.y, dtype=torch.bool)
    draws = generator(bench.x.device, bench.seed, 1)
    for _ in range(spec.draws):
        noise = (torch.rand(bench.x.shape, generator=draws, device=bench.x.device) * 2 - 1).sign() * spec.eps
        noisy &= bench.right((bench.x + noise).clamp(0, 1))
    found, words = share(noisy), "above the white-box accuracy"
    yield bench.line("symptoms", f"right under {spec.draws} random sign draws", found, words, found.value >= white)
    previous = 1.0
    for eps in (0.01, 0.03, 0.1, 0.2, 0.3, 0.5, 1.0):
        found = share(bench.pgd("pre-squeeze", eps, min(spec.steps, 40), eps / 8))
        limit = {0.5: 1 / bench.classes, 1.0: 0.0}.get(eps, previous)
        words = {0.5: "at most chance (a grey image)", 1.0: "0: every image is within reach"}.get(eps, "not above a smaller radius")
        yield bench.line("radii", f"PGD, eps {eps:g}", found, words, found.low <= limit)
        previous = max(found.high, 1e-9)


def borrowed(bench: Bench, surrogate: nn.Module) -> Tensor:
    """Adversarial images of another network, (B, 3, H, W)."""
    view = View(surrogate, "pre-squeeze").eval()
    return adapters.pgd(view, bench.x, bench.y, bench.spec.eps, 40, None, True, bench.seed, bench.classes)


def convergence(bench: Bench) -> Iterator[dict]:
    """Accuracy over steps and over restarts; the last doubling may not matter by more than a point."""
    spec = bench.spec
    for what, settings in (
        ("steps", [(s, 1) for s in sorted({5, 10, 20, 40, spec.steps, 2 * spec.steps})]),
        ("restarts", [(min(spec.steps, 40), r) for r in sorted({1, 2, 5, spec.restarts})]),
    ):
        found = [share(bench.pgd("pre-squeeze", spec.eps, steps, 2.5 * spec.eps / steps, runs=runs)) for steps, runs in settings]
        for (steps, runs), this in zip(settings, found, strict=True):
            yield bench.line("convergence", f"PGD by {what}: {steps} steps, {runs} restarts", this)
        change = round(abs(found[-2].value - found[-1].value), 9)  # of shares: 0.28 - 0.27 is more than 0.01 in binary
        yield bench.line("convergence", f"change with the last increase of {what}", change, "at most 0.01", change <= 0.01)


def indicators(bench: Bench, surrogate: nn.Module | None, outputs: str = "deployed") -> Iterator[dict]:
    """The six indicators of attack failure (Pintor et al. 2022) for PGD on a view; each passes at 0.

    Unavailable gradients; unstable predictions (relative change of the loss over 100 draws within 4/255); silent success
    (an earlier iterate was adversarial, the last is not); incomplete optimisation (the loss still moves by more than 5 % of its
    range in the last ten steps); transfer failure; unconstrained attack failure (eps 1 does not reach 0 %).
    """
    spec, view = bench.spec, View(bench.model, outputs).eval()
    _, gradient = loss_gradient(view, bench.x, bench.y)
    unavailable = (gradient == 0).flatten(1).all(1).float().mean()
    draws, changes = generator(bench.x.device, bench.seed, 2), []
    with torch.no_grad():
        base = F.cross_entropy(view(bench.x), bench.y, reduction="none")
        for _ in range(min(spec.draws, 100)):
            noise = (torch.rand(bench.x.shape, generator=draws, device=bench.x.device) - 0.5) * 8 / 255
            loss = F.cross_entropy(view((bench.x + noise).clamp(0, 1)), bench.y, reduction="none")
            changes.append(((loss - base).abs() / base.clamp(min=1e-12)).clamp(max=1))
    unstable = (torch.stack(changes).mean(0) > 0.1).float().mean()
    trace, ever, last = trajectory(bench, view, spec.steps)
    silent = (ever & last).float().mean()
    span = (trace.amax(0) - trace.amin(0)).clamp(min=1e-12)
    moving = (trace[-1] - trace[-min(11, len(trace))]) / span
    incomplete = ((moving > 0.05) & last).float().mean()
    fell = torch.zeros_like(last) if surrogate is None else ~bench.right(borrowed(bench, surrogate))
    unbounded = bench.pgd(outputs, 1.0, spec.steps, 0.1).float().mean()
    values = {
        "unavailable gradients": unavailable, "unstable predictions": unstable, "silent success": silent,
        "incomplete optimisation": incomplete, "transfer failure": (last & fell).float().mean(),
        "unconstrained attack failure": unbounded,
    }  # fmt: skip
    yield from (bench.line("indicators", f"{name}, {outputs}", value, "0", value == 0) for name, value in values.items())
    yield bench.line("indicators", f"right under that PGD, {outputs}", last.float().mean())


def trajectory(bench: Bench, view: View, steps: int) -> tuple[Tensor, Tensor, Tensor]:
    """Loss per step (steps + 1, B), whether any iterate was adversarial, whether the last one is still right; L-inf PGD by hand.

    ART gives only the last iterate, and what matters here are those before it.
    """
    eps, x, y = bench.spec.eps, bench.x, bench.y
    adversarial, losses, ever = x, [], torch.zeros_like(y, dtype=torch.bool)
    for _ in range(steps):
        loss, gradient = loss_gradient(view, adversarial, y)
        losses.append(loss)
        adversarial = adapters.project(adversarial + eps / 10 * gradient.sign(), x, eps, "linf")
        ever |= ~bench.right(adversarial)
    losses.append(loss_gradient(view, adversarial, y)[0])
    return torch.stack(losses), ever, bench.right(adversarial)


class Planted(nn.Module):
    """A two-class readout on a network's features; class 1 is what the planted example has. Gain and squeeze as deployed.

    features: what the last layer sees, standing in for Zimmermann et al.'s penultimate ones: the logits before tanh, (B, K)."""

    def __init__(self, features: nn.Module, weight: Tensor, bias: Tensor, squeeze: bool):
        super().__init__()
        self.features, self.squeeze = features, squeeze
        self.weight, self.bias = nn.Parameter(weight, requires_grad=False), nn.Parameter(bias, requires_grad=False)

    def pre_squeeze(self, x: Tensor) -> Tensor:
        u = self.features(x) @ self.weight + self.bias
        return torch.stack([-u, u], 1)

    def forward(self, x: Tensor) -> Tensor:
        logits = self.pre_squeeze(x)
        return logits.tanh() if self.squeeze else logits


def active_test(bench: Bench, outputs: str) -> dict:
    """Plant an adversarial example per image at the edge of the ball and ask PGD on a view to find one (Zimmermann et al.).

    For each image, a linear readout of the network's features separates 100 points well inside the ball from one point on
    its boundary, which is thus adversarial by construction; the readout is squeezed as the network is. The attack passes if it
    finds an adversarial example for at least 95 % of the images on which one was planted.
    """
    spec, features, found, planted = bench.spec, View(bench.model, "logits"), 0, 0
    for number in range(min(spec.planted, len(bench.y))):
        x = bench.x[number : number + 1]
        draws = generator(x.device, bench.seed, 3, number)
        inner = (x + (torch.rand((100, *x.shape[1:]), generator=draws, device=x.device) - 0.5) * spec.eps).clamp(0, 1)
        edge = (x + (torch.rand(x.shape, generator=draws, device=x.device) - 0.5).sign() * spec.eps).clamp(0, 1)
        with torch.no_grad():
            inside, outside = features(torch.cat([x, inner])), features(edge)
        weight = outside[0] - inside.mean(0)
        low, high = float((inside @ weight).max()), float(outside[0] @ weight)
        if high <= low:
            continue  # the features do not separate this point; another readout would be another test
        gain = 20 / (high - low)  # a squeezed readout is then saturated on both sides, as trained networks are
        readout = Planted(features, weight * gain, torch.tensor(-(low + 0.9 * (high - low)) * gain, device=x.device),
                          bench.model.spec.squeeze == "tanh" if hasattr(bench.model.spec, "squeeze") else True)  # fmt: skip
        planted += 1
        view = View(readout, outputs).eval()
        target = torch.zeros(1, dtype=torch.long, device=x.device)
        for run in range(max(spec.restarts // 2, 1)):
            adversarial = adapters.pgd(view, x, target, spec.eps, spec.steps, spec.eps / 10, True, bench.seed + run, 2)
            if int(readout(adversarial).argmax(1)) == 1:
                found += 1
                break
    result = rate(np.arange(planted) < found) if planted else Rate(np.nan, 0, np.nan, np.nan)
    passes = result.value >= 0.95 if planted else None
    return bench.line("active test", f"planted examples found, {outputs}", result, "at least 0.95", passes)


def landscape(bench: Bench, outputs: str) -> pd.DataFrame:
    """Margin u_y - max u_j and cross-entropy on a grid around one image, along its gradient's sign and a random sign."""
    x, y = bench.x[:1], bench.y[:1]
    view = View(bench.model, outputs).eval()
    _, gradient = loss_gradient(View(bench.model, "logits"), x, y)
    draws = generator(x.device, bench.seed, 4, 0)
    other = (torch.rand(x.shape, generator=draws, device=x.device) - 0.5).sign()
    steps = torch.linspace(-bench.spec.eps, bench.spec.eps, bench.spec.grid, device=x.device)
    a, b = torch.meshgrid(steps, steps, indexing="ij")
    images = (x + a.reshape(-1, 1, 1, 1) * gradient.sign() + b.reshape(-1, 1, 1, 1) * other).clamp(0, 1)
    with torch.no_grad():
        logits = torch.cat([view(part) for part in images.split(100)])
    own = logits[:, y.item()]
    others = logits.scatter(1, y.expand(len(logits), 1), -torch.inf).amax(1)
    loss = F.cross_entropy(logits, y.expand(len(logits)), reduction="none")
    columns = {"along_gradient": a.flatten(), "along_random": b.flatten(), "margin": own - others, "loss": loss}
    return pd.DataFrame({k: v.cpu().numpy() for k, v in columns.items()}).assign(outputs=outputs)


@attacked
def diagnose(model: nn.Module, test, spec: DiagnosisSpec, seed: int,
             surrogate: nn.Module | None = None) -> tuple[pd.DataFrame, pd.DataFrame]:  # fmt: skip
    """All checks of one network on its first correctly classified test images, and the loss landscape around the first.

    surrogate: another trained network for the transfers. Raises FPDError if the network classifies no image correctly.
    """
    order = test_order(len(test)).to(test.labels.device)
    right = torch.cat([predict(model, test.batch(part)) == test.labels[part] for part in order[:1000].split(250)])
    index = order[:1000][right][: spec.images]
    if not len(index):
        raise FPDError("the network classifies none of the test images correctly, so there is nothing to diagnose; train it longer.")
    bench = Bench(model, test.batch(index), test.labels[index], spec, seed)
    lines = [
        *saturation(bench), *symptoms(bench, surrogate), *convergence(bench), *indicators(bench, surrogate),
        *indicators(bench, surrogate, "pre-squeeze"), active_test(bench, "deployed"), active_test(bench, "pre-squeeze"),
    ]  # fmt: skip
    grids = pd.concat([landscape(bench, outputs) for outputs in ("deployed", "logits")], ignore_index=True)
    return pd.DataFrame(lines), grids
