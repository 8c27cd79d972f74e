"""What is judged: a model and its images, checked, in the form that attacks take."""

import contextlib
import functools
import hashlib
import inspect
import sys
from collections.abc import Callable
from dataclasses import dataclass
from types import CodeType, FunctionType, MethodType, SimpleNamespace
from typing import ClassVar
from unittest import mock

import numpy as np
import torch
from torch import Tensor, nn

from fpdlib import data
from fpdlib.errors import FPDError, said
from fpdlib.network.answers import attacked, predict_in_float64
from fpdlib.runtime import seeded

TINY = 1e-12  # below it a probability has no logarithm
SLOP = 1e-5  # by which pixels may leave [0, 1]
STEADY = 0.02  # share of answers that may change although a random defence is averaged
PLAIN = (bool, int, float, complex, str, Tensor, np.ndarray, list, tuple, dict)
HOLDERS = {property: ("fget", "fset", "fdel"), staticmethod: ("__func__",), classmethod: ("__func__",),
           functools.partial: ("func", "args", "keywords"), MethodType: ("__func__", "__self__"),
           CodeType: ("co_code", "co_consts", "co_names")}  # fmt: skip
INTERNAL = frozenset(vars(nn.Module()))  # attributes that every module has


class Subject(nn.Module):
    """A model with what attacks ask for: logits (of probabilities their logarithm), averaged over `eot` runs of a random defence.

    double_precision: whether it runs in it; if not, an output that is not a number counts as wrong. random: whether it answers the
    same images differently.

    network: (B, C, H, W) in [0, 1] -> (B, classes). Its own `pre_squeeze` (logits before a squeezing function that keeps their order)
    is differentiated instead of its output where a protocol asks for it.
    """

    def __init__(self, network: nn.Module, classes: int, probabilities: bool, eot: int = 1):
        super().__init__()
        self.double_precision, self.random = True, False
        self.network, self.spec, self.probabilities, self.eot = network, SimpleNamespace(num_classes=classes), probabilities, eot
        # libraries ask the first parameter for device and type, and a model may have none
        device = next((p.device for p in network.parameters()), torch.device("cpu"))
        self.place = nn.Parameter(torch.zeros((), device=device), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        out = self.averaged(self.network, x)
        return out.clamp_min(TINY).log() if self.probabilities else out

    def averaged(self, call: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        out = sum(call(x) for _ in range(self.eot)) / self.eot
        # a model that cuts the graph has a gradient of zero, so that attacks run and start at random
        return out + 0 * x.flatten(1).sum(1, keepdim=True) if x.requires_grad else out


class Squeezed(Subject):
    def pre_squeeze(self, x: Tensor) -> Tensor:
        return self.averaged(self.network.pre_squeeze, x)


class Given(data.Images):
    """Images as they were given, float32 in [0, 1], not rounded to 8 bits."""

    def batch(self, index: Tensor | slice) -> Tensor:
        return self.pixels[index]

    native_batch = batch


def images_of(images: Tensor, labels: Tensor, device: torch.device) -> data.Splits:
    """Test images for `evaluate`. FPDError for a wrong shape, range, number or type."""
    try:
        images, labels = torch.as_tensor(images), torch.as_tensor(labels)
    except (TypeError, ValueError, RuntimeError) as error:
        raise FPDError(
            f"images or labels are no tensors or arrays ({said(error)}); accepted: (number, channels, height, width) and (number,)."
        ) from error
    if images.dim() != 4 or not len(images):
        raise FPDError(f"images have shape {tuple(images.shape)}; accepted: (number, channels, height, width), at least one.")
    if images.dtype == torch.uint8:
        images = images / 255
    if not images.is_floating_point():
        raise FPDError(f"images are {images.dtype}; accepted: floats in [0, 1], or uint8 in [0, 255].")
    if bad := int((~images.isfinite()).flatten(1).any(1).sum()):
        raise FPDError(f"{bad} of {len(images)} images have a pixel that is not a number.")
    if images.shape[1] not in (1, 3) and images.shape[3] in (1, 3):
        raise FPDError(f"images have shape {tuple(images.shape)}; accepted: channels first. Transpose them (0, 3, 1, 2).")
    low, high = float(images.min()), float(images.max())
    if low >= -SLOP and high <= 1 + SLOP:  # what resizing leaves
        images = images.clamp(0, 1)
    else:
        hint = "put the normalisation into the model, so that epsilon is in pixel units" if low < 0 or high < 20 else "divide by 255"
        raise FPDError(f"pixels lie in [{low:.3g}, {high:.3g}]; accepted: [0, 1]: {hint}.")
    if labels.shape != images.shape[:1] or labels.is_floating_point():
        shape, kind = tuple(labels.shape), labels.dtype
        raise FPDError(f"labels have shape {shape} and type {kind}; accepted: one integer an image ({len(images)}).")
    images = images.detach().contiguous()  # libraries take views of them
    test = Given(images.float().to(device), labels.long().to(device), images.float().to(device))
    return data.Splits("given", test, test, test)


def subject_of(model: nn.Module, test: data.Images, eot: int) -> tuple[Subject, dict[str, str]]:
    """The model as a subject, and what is noticed of it by looking: {flag: words}. FPDError for what cannot be judged."""
    if not isinstance(model, nn.Module):
        raise FPDError(f"the model is a {type(model).__name__}; accepted: a torch.nn.Module.")
    if training := [name or "the model" for name, module in model.named_modules() if getattr(module, "training", False)]:
        raise FPDError(
            f"{', '.join(training[:3])}{' and more' * (len(training) > 3)} of the model: in training mode; call model.eval() "
            "first. A random defence draws in its forward whatever the mode, such as functional.dropout(x, training=True)."
        )
    if any(map(nn.parameter.is_lazy, model.parameters())):
        raise FPDError("the model has lazy modules without weights; run it on a batch, or load its weights, first.")
    if any(p.is_meta for p in model.parameters()):
        raise FPDError("the model's weights are on the device 'meta', which has none; load them (to_empty, load_state_dict) first.")
    kinds = {str(p.dtype) for p in model.parameters() if p.is_floating_point()} - {"torch.float32"}
    if kinds:
        raise FPDError(f"the model's weights are {', '.join(sorted(kinds))}; accepted: float32. Call model.float() first.")
    if broken := [name for name, value in tensors(model) if value.is_floating_point() and value.isnan().any()]:
        raise FPDError(f"{', '.join(broken[:3])} of the model's weights: not a number somewhere; accepted: numbers. Train it again.")
    x, y, flags = test.batch(slice(0, 20)).clone(), test.labels, {}
    before = x.clone()
    with torch.no_grad():
        try:
            out, again, alone, turned = model(x), model(x), model(x[:1]), model(x.flip(0))
        except Exception as error:  # whatever a stranger's code raises
            raise FPDError(
                f"the model does not take images of shape {tuple(x.shape)}: {said(error)}. (--channels, --size for other images.)"
            ) from error
    if not torch.equal(x, before):
        raise FPDError("the model changes the images that it is given; let it work on a copy (x = x - 0.1, not x.sub_(0.1)).")
    if not isinstance(out, Tensor) or out.dim() != 2 or len(out) != len(x) or out.shape[1] < 2:
        got = tuple(out.shape) if isinstance(out, Tensor) else type(out).__name__
        raise FPDError(f"the model gives {got} for {len(x)} images; accepted: logits of shape ({len(x)}, classes).")
    if getattr(alone, "shape", ()) != out[:1].shape:
        got = tuple(getattr(alone, "shape", ()))
        raise FPDError(f"the model gives {got} for one image; accepted: {tuple(out[:1].shape)}, as for {len(x)} (a squeeze()?).")
    if out.dtype != torch.float32:
        raise FPDError(f"the model's outputs are {out.dtype}; accepted: torch.float32. Call .float() on them, autocast off.")
    low, high, outputs = int(y.min()), int(y.max()), out.shape[1]
    if low < 0 or high >= outputs:
        raise FPDError(f"labels lie in {low} to {high}; the model has {outputs} outputs: accepted 0 to {outputs - 1}.")
    if out.isnan().any():
        flags["not a number"] = "outputs on clean images are not numbers"
    probabilities = bool((out >= 0).all() and ((out.sum(1) - 1).abs() < 1e-3).all())
    if probabilities:
        flags["probabilities"] = "outputs are probabilities, whose gradient vanishes; their logarithm is attacked"
    if optimises(model, x):
        flags["optimises"] = "the forward pass computes gradients or steps an optimiser: attacks may not see through it"
    squeezed = callable(getattr(model, "pre_squeeze", None))
    changing = not torch.equal(out.nan_to_num(), again.nan_to_num())
    beside = torch.cat([alone - out[:1], turned.flip(0) - out]).nan_to_num().abs().max() if turned.shape == out.shape else 1.0
    if not changing and beside > 1e-3 * max(1.0, float(out.nan_to_num().abs().max())):
        flags["batch"] = (
            "an image's output depends on those beside it (batch statistics?), so accuracies depend on the order and number of "
            "images, and an attacker may choose them"
        )
    if squeezed:
        check_squeezed(model, x)
    subject = (Squeezed if squeezed else Subject)(model, out.shape[1], probabilities, eot)
    subject.random = changing
    try:
        predict_in_float64(model, x[:1])
    except Exception:  # what is cast to float32, NumPy, parts that are not registered: only an overflow would need it
        subject.double_precision = False
    if changing:
        with torch.no_grad():
            first, second = (torch.cat([subject(part) for part in test.pixels[:200].split(100)]).argmax(1) for _ in range(2))
        if (moved := (first != second).float().mean()) > STEADY or eot == 1:
            over = f", averaged over {eot} runs" if eot > 1 else ""
            flags["random"] = (
                f"outputs change from one time to the next, and {100 * moved:.0f} % of clean answers with them{over}: a break may be "
                "chance. Average over more runs (--eot)"
            )
    if cuts(model, x[:1]):
        flags["no gradient"] = (
            "the output does not depend differentiably on the image, so gradient attacks do no more than start at random; what "
            "counts is Square, and an attack of your own (--attack)"
        )
    return subject, flags


def tensors(model: nn.Module) -> list[tuple[str, Tensor]]:
    return [(name, value) for name, value in model.state_dict().items() if isinstance(value, Tensor)]


def check_squeezed(model: nn.Module, x: Tensor) -> None:
    """FPDError if `pre_squeeze` does not give logits whose largest is among the largest of the output (where tanh rounds, there are
    several). Of a random model with the same random numbers; one that draws others nevertheless may differ by chance."""
    with torch.no_grad():
        with seeded(0):
            out = model(x)
        with seeded(0):
            steady = torch.equal(out, model(x))
    try:
        with torch.no_grad(), seeded(0):
            before = model.pre_squeeze(x)
    except Exception as error:
        raise FPDError(f"the model's pre_squeeze failed: {said(error)}. It is called as pre_squeeze(x) and gives logits.") from error
    if not isinstance(before, Tensor) or before.shape != out.shape or before.dtype != out.dtype:
        got = f"{tuple(before.shape)} {before.dtype}" if isinstance(before, Tensor) else type(before).__name__
        raise FPDError(f"the model's pre_squeeze gives {got}; accepted: logits as the output, {tuple(out.shape)} {out.dtype}.")
    if before.isnan().any() and not out.isnan().any():
        raise FPDError("the model's pre_squeeze gives outputs that are not numbers on clean images; accepted: logits.")
    other = out.gather(1, before.argmax(1, keepdim=True))[:, 0] < out.amax(1) - 1e-5 * out.abs().amax(1)
    if steady and other.any():
        raise FPDError(
            f"the model's pre_squeeze ranks another class first than its output on {int(other.sum())} of {len(x)} images; accepted: "
            "the logits before a squeezing function that keeps their order."
        )


def cuts(model: nn.Module, x: Tensor) -> bool:
    """Whether the graph from the output does not reach the image."""
    x = x.clone().requires_grad_()
    try:
        with torch.enable_grad():
            out = model(x).sum()
            return not out.requires_grad or torch.autograd.grad(out, x, allow_unused=True)[0] is None
    except Exception as error:
        raise FPDError(f"the model cannot be differentiated: {said(error)}. Detach the part that cannot, or mend it.") from error


def optimises(model: nn.Module, x: Tensor) -> bool:
    """Whether a forward pass asks for gradients of its own."""
    asked = []

    def watched(original: Callable) -> Callable:
        def call(*arguments, **keywords):
            asked.append(original)
            return original(*arguments, **keywords)

        return call

    # all ways to ask for gradients go through it, under whatever name they were imported
    with mock.patch("torch.autograd._engine_run_backward", watched(torch.autograd._engine_run_backward)):
        model(x[:1])
    return bool(asked)


@dataclass(frozen=True)
class Own:
    """An attack of the user's: `call(model, x, y, eps)` gives images of the shape of x; what leaves the ball is projected back.
    model: the one that is judged, as it was given."""

    call: Callable
    norm: str = "linf"
    version: ClassVar[int] = 1

    def sees(self, protocol: str) -> str:
        return "deployed"

    def attempts(self, eps: float):
        def attempt(view: nn.Module, x: Tensor, y: Tensor, seed: int, classes: int) -> Tensor:
            model = view.network.network
            before = {name: value.clone() for name, value in tensors(model)}
            try:
                with seeded(seed):
                    found = attacked(lambda model: self.call(model, x.clone(), y, eps))(model)
            except Exception as error:
                raise FPDError(f"the attack failed: {said(error)}. It is called as attack(model, x, y, eps).") from error
            if moved := [name for name, value in tensors(model) if not torch.equal(value.nan_to_num(), before[name].nan_to_num())]:
                with torch.no_grad():
                    for name, value in tensors(model):
                        value.copy_(before[name])
                raise FPDError(
                    f"the attack changed the model ({', '.join(moved[:3])}), which is as it was again; accepted: an attack that "
                    "leaves it alone, or works on a copy (copy.deepcopy)."
                )
            if not isinstance(found, Tensor) or found.shape != x.shape:
                got = f"{type(found).__name__} {tuple(getattr(found, 'shape', ()))}"
                raise FPDError(f"the attack gave {got}; accepted: a Tensor {tuple(x.shape)}.")
            if bad := int((~found.isfinite()).flatten(1).any(1).sum()):
                raise FPDError(
                    f"the attack gave {bad} of {len(x)} images with pixels that are not numbers; accepted: pixels in [0, 1]."
                )
            return found.detach().to(x)

        yield "own", attempt


def fingerprint(subject: Subject, test: data.Images, *settings: object) -> str:
    """SHA-256 of what a judgement is about: the model's code (whole files, since a function beside the class is part of it, and what
    of it is loaded), attributes, weights, answers and sizes of gradients (two models may share all of these and differ in an import;
    one that draws from a generator of its own has none that last), images, labels, settings. What a forward pass changes, such as a
    counter, is left out."""
    network, x = subject.network, test.batch(slice(0, 20)).clone().requires_grad_()
    kinds = [type(subject).__name__, *(f"{type(m).__module__}.{type(m).__qualname__}" for m in network.modules())]
    sources = sorted({source(type(module)) for module in network.modules()})
    before, told = state(network), []
    for call in (subject, subject.pre_squeeze) if isinstance(subject, Squeezed) else (subject,):
        passes = []
        for _ in range(2):
            with torch.enable_grad(), seeded(0):
                out = call(x)
                (gradient,) = torch.autograd.grad(out.amax(1).sum(), x)
            sizes = [f"{float(size):.2e}" for size in gradient.flatten(1).abs().sum(1)]  # GPUs add in no fixed order
            passes.append((described(out), sizes))
        told.append(passes[0] if passes[0][0] == passes[1][0] else "random")
    after = state(network)
    lasting = {name: value for name, value in before.items() if after.get(name) == value}
    what = (kinds, sources, lasting, told, described(test.pixels), described(test.labels), *settings)
    return hashlib.sha256(repr(what).encode()).hexdigest()[:16]


def state(network: nn.Module) -> dict[str, str]:
    """What a network is beside its code: tensors, attributes, hooks, and the code of its methods that is loaded."""
    found = {name: described(value) for name, value in tensors(network)}
    for name, module in network.named_modules():
        own = {key: value for key, value in vars(module).items() if key not in INTERNAL}
        bases = [base for base in type(module).__mro__ if not issubclass(nn.Module, base)]  # their methods and attributes
        own |= {
            f"class {key}": value
            for base in reversed(bases)
            for key, value in vars(base).items()
            if key[:2] != "__" or callable(value)
        }
        own |= {"hooks": [*module._forward_hooks.values(), *module._forward_pre_hooks.values()]}
        found |= {f"{name}: {key}": described(value) for key, value in own.items()}
    return found


def described(value: object, depth: int = 5) -> str:
    """A value in words that are the same in every process and, as far as that goes, another's for another value."""
    within = lambda inner: described(inner, depth - 1)  # noqa: E731
    if isinstance(value, bool | int | float | complex | str | bytes | None):
        return repr(value)
    if isinstance(value, Tensor):
        plain = value.detach().cpu().contiguous().reshape(-1)
        return f"{value.dtype} {tuple(value.shape)} {hashlib.sha256(plain.view(torch.uint8).numpy()).hexdigest()}"
    if isinstance(value, np.ndarray | np.generic):
        return f"{value.dtype} {value.shape} {hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()}"
    if depth == 0:
        return type(value).__qualname__
    if isinstance(value, dict):
        return f"{{{', '.join(f'{within(key)}: {within(inner)}' for key, inner in value.items())}}}"
    if isinstance(value, list | tuple | set | frozenset):
        return f"[{', '.join(map(within, value) if isinstance(value, list | tuple) else sorted(map(within, value)))}]"
    for kind, parts in HOLDERS.items():
        if isinstance(value, kind):
            return f"{kind.__name__} {', '.join(within(getattr(value, part)) for part in parts)}"
    if isinstance(value, FunctionType):
        code, cells = value.__code__, []
        reads = {name: value.__globals__[name] for name in code.co_names if isinstance(value.__globals__.get(name), PLAIN)}
        for cell in value.__closure__ or ():
            with contextlib.suppress(ValueError):  # not filled yet
                cells.append(cell.cell_contents)
        return f"{value.__qualname__} {', '.join(map(within, (code, value.__defaults__, cells, reads)))}"
    return f"{type(value).__qualname__} {within(getattr(value, '__dict__', {}))}"


def source(kind: Callable) -> str:
    """The code around a class or function: its file, or what a notebook has of it."""
    for what in (sys.modules.get(getattr(kind, "__module__", "")), kind):
        with contextlib.suppress(OSError, TypeError):
            return inspect.getsource(what)
    return getattr(kind, "__qualname__", type(kind).__qualname__)
