"""What an attacker differentiates: views of a network's outputs, and the substitute network of the paper's transfers."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import torch
from torch import Tensor, nn

from fpdlib.errors import choose
from fpdlib.runtime import meanwhile

VIEWS = ("softmax", "deployed", "pre-squeeze", "logits")
# Parts of an FPD network that lead around what may hide its gradients (see `View`)
PARTS = ("front", "bare", "replaced", "restored")


class Seen:
    """The images that went through a view while an attack ran, and fooled the deployed output: for each of x the nearest.

    x: (B, C, H, W) in [0, 1], y (B,) labels. images: like x; size: (B,) their distance in `norm`, inf where none was seen.
    """

    def __init__(self, x: Tensor, y: Tensor, norm: str):
        self.x, self.y, self.norm = x, y, norm
        self.images, self.size = x.clone(), torch.full((len(x),), torch.inf, device=x.device)

    @torch.no_grad()
    def look(self, images: Tensor, logits: Tensor) -> None:
        """logits: of the deployed output. What is not a number is left to the judge of the returned image (`answers.wrong`)."""
        if images.shape != self.x.shape:  # a library that goes on with a part of the batch: what it returns counts
            return
        images = images.detach().float()
        delta = (images - self.x).flatten(1)
        size = delta.abs().amax(1) if self.norm == "linf" else delta.norm(dim=1)
        inside = (images.flatten(1).amin(1) >= 0) & (images.flatten(1).amax(1) <= 1)
        better = inside & logits.isfinite().all(1) & (logits.argmax(1) != self.y) & (size < self.size)
        self.images[better], self.size[better] = images[better], size[better]


class View(nn.Module):
    """The outputs of a network that an attacker differentiates, with counts of the examples passed through.

    outputs: 'softmax' (of the deployed logits), 'deployed', 'pre-squeeze' (before tanh, margins bounded) or 'logits' (before
    tanh as they are, for attacks that depend on distances between logits); of an FPD network also 'front' (the classifier on the
    front pass, which the back pass replaces), 'bare' (the same weights without denoising), 'replaced' (the network, with the identity
    for a denoising layer's gradient) and 'restored' (logits, then the restoration error of every pixel). Gradients reach the pixels
    only. seen: who is shown every image (see `watching`).
    """

    def __init__(self, network: nn.Module, outputs: str):
        super().__init__()
        self.network = network
        self.outputs = choose("outputs", outputs, VIEWS + PARTS)
        self.forwards = self.backwards = 0
        self.seen: Seen | None = None

    @contextmanager
    def watching(self, x: Tensor, y: Tensor, norm: str) -> Iterator[Seen]:
        """Every image that passes in the meantime is looked at."""
        with meanwhile([self], seen=Seen(x, y, norm)):
            yield self.seen

    def seeing(self, outputs: str) -> AbstractContextManager:
        """Other outputs in the meantime."""
        return meanwhile([self], outputs=choose("outputs", outputs, VIEWS + PARTS))

    def has(self, part: str) -> bool:
        """Whether the network has a part (`PARTS`) that differs from what is deployed."""
        inner = getattr(self.network, "network", self.network)
        return part in getattr(inner, "parts", ())

    def forward(self, x: Tensor) -> Tensor:
        self.forwards += len(x)
        x = x.to(next(self.network.parameters(), x).dtype)  # some attacks search in double precision
        given = x
        if x.requires_grad:  # some attacks cannot take gradients in the channels-last layout of the network
            x = x.view_as(x)
            x.register_hook(lambda gradient: gradient.contiguous())
        if self.outputs in PARTS:
            out, said = self._part(x), None
        elif self.outputs in ("pre-squeeze", "logits") and hasattr(self.network, "pre_squeeze"):
            logits = self.network.pre_squeeze(x)
            said = self.network.squeeze(logits.detach()) if callable(getattr(self.network, "squeeze", None)) else None
            out = bounded_margin(logits) if self.outputs == "pre-squeeze" else logits
        else:
            logits = said = self.network(x)
            out = logits.softmax(1) if self.outputs == "softmax" else logits
        if self.seen is not None:
            with torch.no_grad():
                self.seen.look(given, self.network(given) if said is None else said)
        if out.requires_grad:
            out.register_hook(self._count)
        return out

    def _part(self, x: Tensor) -> Tensor:
        """Logits of a part, margins bounded; for 'restored' with the restoration error (B, pixels) behind them."""
        if hasattr(self.network, "lift"):
            x = self.network.lift(x)
        network = getattr(self.network, "network", self.network)
        if self.outputs in ("bare", "replaced"):
            with network.without_denoising() if self.outputs == "bare" else network.with_replaced_gradients():
                return bounded_margin(network.pre_squeeze(x))
        front = network.front(x)
        if self.outputs == "front":
            return bounded_margin(network.trunk.backbone.forward_head(front.last))
        return torch.cat([bounded_margin(network.classify(front)), (front.restored - x).flatten(1)], 1)

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


def loss_gradient(view: View, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Per-example cross-entropy on the view's outputs (B,), and its gradient with respect to x."""
    x = x.detach().requires_grad_()
    loss = nn.functional.cross_entropy(view(x), y, reduction="none")
    (gradient,) = torch.autograd.grad(loss.sum(), x)
    return loss.detach(), gradient


def surrogate(inputs: int, classes: int, width: int = 200) -> nn.Sequential:
    """Three fully connected layers, the substitute network of Table 1's transfer column (Sec. 4.1; width our choice)."""
    layers = nn.Flatten(), nn.Linear(inputs, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, classes)
    return nn.Sequential(*layers)
