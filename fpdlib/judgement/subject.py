"""What is judged: a model and its images, checked, in the form that attacks take."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import ClassVar
from unittest import mock

import torch
from torch import Tensor, nn

from fpdlib import data
from fpdlib.errors import FPDError
from fpdlib.network.answers import predict_in_float64

TINY = 1e-12  # below it a probability has no logarithm


class Subject(nn.Module):
    """A model with what attacks ask for: logits (of probabilities their logarithm), averaged over `eot` runs of a random defence.

    network: (B, C, H, W) in [0, 1] -> (B, classes). Its own `pre_squeeze` (logits before a squeezing function that keeps their order)
    is differentiated instead of its output where a protocol asks for it.
    """

    def __init__(self, network: nn.Module, classes: int, probabilities: bool, eot: int = 1):
        super().__init__()
        self.network, self.spec, self.probabilities, self.eot = network, SimpleNamespace(num_classes=classes), probabilities, eot
        # libraries ask the first parameter for device and type, and a model may have none
        device = next((p.device for p in network.parameters()), torch.device("cpu"))
        self.place = nn.Parameter(torch.zeros((), device=device), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        out = sum(self.network(x) for _ in range(self.eot)) / self.eot
        return out.clamp_min(TINY).log() if self.probabilities else out


class Squeezed(Subject):
    def pre_squeeze(self, x: Tensor) -> Tensor:
        return self.network.pre_squeeze(x)


class Given(data.Images):
    """Images as they were given, float32 in [0, 1], not rounded to 8 bits."""

    def batch(self, index: Tensor | slice) -> Tensor:
        return self.pixels[index]

    native_batch = batch


def images_of(images: Tensor, labels: Tensor, device: torch.device) -> data.Splits:
    """Test images for `evaluate`. FPDError for a wrong shape, range, number or type."""
    images, labels = torch.as_tensor(images), torch.as_tensor(labels)
    if images.dim() != 4 or not len(images):
        raise FPDError(f"images have shape {tuple(images.shape)}; accepted: (number, channels, height, width), at least one.")
    if images.dtype == torch.uint8:
        images = images / 255
    if not images.is_floating_point():
        raise FPDError(f"images are {images.dtype}; accepted: floats in [0, 1], or uint8 in [0, 255].")
    if not images.isfinite().all():
        raise FPDError(
            f"{int((~images.isfinite()).flatten(1).any(1).sum())} of {len(images)} images have a pixel that is not a number."
        )
    low, high = float(images.min()), float(images.max())
    if low < 0 or high > 1:
        hint = "divide by 255" if high > 2 else "put the normalisation into the model, so that epsilon is in pixel units"
        raise FPDError(f"pixels lie in [{low:.3g}, {high:.3g}]; accepted: [0, 1]: {hint}.")
    if labels.shape != images.shape[:1] or labels.is_floating_point():
        raise FPDError(
            f"labels have shape {tuple(labels.shape)} and type {labels.dtype}; accepted: one integer an image ({len(images)})."
        )
    test = Given(images.float().to(device), labels.long().to(device), images.float().to(device))
    return data.Splits("given", test, test, test)


def subject_of(model: nn.Module, test: data.Images, eot: int) -> tuple[Subject, dict[str, str]]:
    """The model as a subject, and what is noticed of it by looking: {flag: words}. FPDError for what cannot be judged."""
    if not isinstance(model, nn.Module):
        raise FPDError(f"the model is a {type(model).__name__}; accepted: a torch.nn.Module.")
    if model.training:
        raise FPDError("the model is in training mode; call model.eval() first.")
    kinds = {str(p.dtype) for p in model.parameters() if p.is_floating_point()} - {"torch.float32"}
    if kinds:
        raise FPDError(f"the model's weights are {', '.join(sorted(kinds))}; accepted: float32. Call model.float() first.")
    x, y, flags = test.batch(slice(0, 20)), test.labels, {}
    with torch.no_grad():
        try:
            out, again = model(x), model(x)
        except RuntimeError as error:
            raise FPDError(f"the model does not take images of shape {tuple(x.shape)}: {str(error).splitlines()[0]}") from error
    if not isinstance(out, Tensor) or out.dim() != 2 or len(out) != len(x) or out.shape[1] < 2:
        got = tuple(out.shape) if isinstance(out, Tensor) else type(out).__name__
        raise FPDError(f"the model gives {got} for {len(x)} images; accepted: logits of shape ({len(x)}, classes).")
    try:
        predict_in_float64(model, x[:1])
    except RuntimeError as error:
        raise FPDError(
            f"the model does not run in double precision, which decides where float32 overflows ({str(error).splitlines()[0]}). "
            "Register its parts as modules and buffers, and cast nothing to float32 in forward."
        ) from error
    if int(y.min()) < 0 or int(y.max()) >= out.shape[1]:
        raise FPDError(
            f"labels lie in {int(y.min())} to {int(y.max())}; the model has {out.shape[1]} outputs: accepted 0 to {out.shape[1] - 1}."
        )
    if out.isnan().any():
        flags["not a number"] = "outputs on clean images are not numbers"
    if not torch.equal(out.nan_to_num(), again.nan_to_num()):
        flags["random"] = f"two passes over the same images differ; attacks average over {eot} (--eot)"
    probabilities = bool((out >= 0).all() and ((out.sum(1) - 1).abs() < 1e-3).all())
    if probabilities:
        flags["probabilities"] = "outputs are probabilities, whose gradient vanishes; their logarithm is attacked"
    if optimises(model, x):
        flags["optimises"] = "the forward pass computes gradients or steps an optimiser: attacks may not see through it"
    squeezed = callable(getattr(model, "pre_squeeze", None))
    return (Squeezed if squeezed else Subject)(model, out.shape[1], probabilities, eot), flags


def optimises(model: nn.Module, x: Tensor) -> bool:
    """Whether a forward pass asks for gradients of its own."""
    asked = []

    def watched(original: Callable) -> Callable:
        def call(*arguments, **keywords):
            asked.append(original)
            return original(*arguments, **keywords)

        return call

    with (
        mock.patch("torch.autograd.grad", watched(torch.autograd.grad)),
        mock.patch("torch.Tensor.backward", watched(Tensor.backward)),
    ):
        model(x[:1])
    return bool(asked)


@dataclass(frozen=True)
class Own:
    """An attack of the user's: `call(model, x, y, eps)` gives images of the shape of x; what leaves the ball is projected back."""

    call: Callable
    norm: str = "linf"
    version: ClassVar[int] = 1

    def sees(self, protocol: str) -> str:
        return "deployed"

    def attempts(self, eps: float):
        def attempt(view: nn.Module, x: Tensor, y: Tensor, seed: int, classes: int) -> Tensor:
            found = self.call(view.network, x.clone(), y, eps)
            if not isinstance(found, Tensor) or found.shape != x.shape:
                raise FPDError(
                    f"the attack gave {getattr(found, 'shape', type(found).__name__)}; accepted: images of shape {tuple(x.shape)}."
                )
            return found.detach()

        yield "own", attempt


def fingerprint(subject: Subject, test: data.Images, *settings: object) -> str:
    """SHA-256 of what a judgement is about: code and weights of the model, its answers (two models may share both and differ in a
    plain attribute; a random one has none that last), images, labels, settings."""
    sources = [source(type(module)) for module in subject.network.modules()]
    digest = hashlib.sha256(repr((sources, *settings)).encode())
    with torch.no_grad():
        answers = [subject(test.batch(slice(0, 20))) for _ in range(2)]
    for tensor in (*subject.network.state_dict().values(), test.pixels, test.labels, *(answers[:1] if torch.equal(*answers) else ())):
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def source(kind: type) -> str:
    """The code of a class, as far as there is a file of it."""
    try:
        return inspect.getsource(kind)
    except (OSError, TypeError):
        return kind.__qualname__
