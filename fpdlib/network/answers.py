"""What a network answers, and when an answer counts as wrong although float32 overflowed."""

import copy
import functools
from collections.abc import Callable

import torch
from torch import Tensor, nn

from fpdlib.errors import choose

NOT_A_NUMBER = -1  # the class of an output that is not a number, which is right for no label
OVERFLOWS = ("confirmed", "broken")


@torch.no_grad()
def deployed(network: nn.Module, x: Tensor) -> Tensor:
    return network(x)


def attacked(function: Callable) -> Callable:
    """Calls it with its first argument, a network given by position, in evaluation mode and without gradients to its parameters, so
    that an attack neither moves it nor is blurred by batch statistics; afterwards the network and its gradients are as they were."""

    @functools.wraps(function)
    def call(network: nn.Module, /, *args, **options):
        modes = [(module, module.training) for module in network.modules()]
        wanted = [(parameter, parameter.requires_grad, parameter.grad) for parameter in network.parameters()]
        for parameter, _, _ in wanted:
            parameter.grad = None  # libraries zero what they find
        try:
            return function(network.eval().requires_grad_(False), *args, **options)
        finally:
            for module, training in modes:
                module.training = training
            for parameter, flag, gradient in wanted:
                parameter.requires_grad_(flag).grad = gradient

    return call


def answer(logits: Tensor) -> Tensor:
    return torch.where(logits.isnan().any(1), NOT_A_NUMBER, logits.argmax(1))


def predict(network: nn.Module, x: Tensor) -> Tensor:
    """The class of each image, (B,); -1 where an output is not a number.

    The dot-product denoising layer is cubic and unnormalised, so a large perturbation can overflow float32 in it.
    """
    return answer(deployed(network, x))


def in_float64(network: nn.Module) -> nn.Module:
    """A copy of the network with its weights in double precision."""
    return copy.deepcopy(network).double()


def predict_in_float64(network: nn.Module, x: Tensor) -> Tensor:
    """What the same weights answer in double precision, (B,); -1 where even that is not finite. A network that says that it has no
    `double_precision` answers as it is."""
    if not getattr(network, "double_precision", True):
        return answer(deployed(network, x))
    logits = deployed(in_float64(network), x.double())
    return torch.where(logits.isfinite().all(1), answer(logits), NOT_A_NUMBER)


def wrong(network: nn.Module, x: Tensor, y: Tensor, overflow: str = "confirmed") -> Tensor:
    """(B,) whether the deployed output misses the labels y.

    overflow: what an output that is not a number counts as: 'confirmed', wrong only if the network in float64 is wrong or not
    finite on the same pixels (an overflow is a property of float32, not of the defence); 'broken', wrong in any case.
    """
    choose("overflow", overflow, OVERFLOWS)
    said = predict(network, x)
    missed, doubtful = said != y, said == NOT_A_NUMBER
    if overflow == "confirmed" and doubtful.any():
        missed[doubtful] = predict_in_float64(network, x[doubtful]) != y[doubtful]
    return missed
