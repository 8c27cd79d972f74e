"""What an attacker differentiates: views of a network's outputs, and the substitute network of the paper's transfers."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fpdlib.errors import choose

VIEWS = ("softmax", "deployed", "pre-squeeze", "logits")


class View(nn.Module):
    """The outputs of a network that an attacker differentiates, with counts of the examples passed through.

    outputs: 'softmax' (of the deployed logits), 'deployed', 'pre-squeeze' (before tanh, margins bounded) or 'logits' (before
    tanh as they are, for attacks that depend on distances between logits). Gradients reach the pixels only.
    """

    def __init__(self, network: nn.Module, outputs: str):
        super().__init__()
        self.network = network
        self.outputs = choose("outputs", outputs, VIEWS)
        self.forwards = self.backwards = 0

    def forward(self, x: Tensor) -> Tensor:
        self.forwards += len(x)
        x = x.to(next(self.network.parameters(), x).dtype)  # some attacks search in double precision
        if x.requires_grad:  # some attacks cannot take gradients in the channels-last layout of the network
            x = x.view_as(x)
            x.register_hook(lambda gradient: gradient.contiguous())
        if self.outputs in ("pre-squeeze", "logits") and hasattr(self.network, "pre_squeeze"):
            logits = self.network.pre_squeeze(x)
            logits = bounded_margin(logits) if self.outputs == "pre-squeeze" else logits
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
