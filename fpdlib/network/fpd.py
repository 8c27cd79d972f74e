"""The Feature Pyramid Decoder around timm CNNs that take `act_layer` (Sec. 3, Fig. 1), and the variants that Table 1 compares.

Read it from the bottom: `FPD.front` and `FPD.classify` are the two passes, `Trunk` is the backbone with inner
denoising layers implanted by stage name, `RestorationDecoder` is F_R. Shapes are (batch, channels, height, width),
pixels lie in [0, 1].
"""

import functools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.flop_counter import FlopCounterMode

from fpdlib.errors import FPDError
from fpdlib.network.backbone import STAGES, build_backbone, probe, resolve_stage, stage_modules
from fpdlib.network.spec import NetworkSpec
from fpdlib.runtime import meanwhile


def gaussian_non_local_mean(x: Tensor) -> Tensor:
    """Non-local mean with Gaussian weights, y_i = sum_j softmax_j(x_i . x_j / sqrt(C)) x_j: what Sec. 3.1 replaces.

    x: (B, C, H, W). Returns the same. The scale 1 / sqrt(C) keeps the softmax from picking one pixel; it is ours.
    """
    flat = x.flatten(2).transpose(1, 2)  # (B, HW, C)
    return F.scaled_dot_product_attention(flat, flat, flat).transpose(1, 2).reshape_as(x)


def non_local_mean(x: Tensor, source: Tensor | None = None) -> Tensor:
    """Dot-product non-local mean (Sec. 3.1): y_i = (1 / HW) * sum_j (s_i . s_j) x_j, with s = `source` (default x).

    With pixels as columns of X (C, HW) this is X (S^T S) / HW over positions; for s = x it equals (X X^T) X / HW, a
    C x C matrix instead of HW x HW. The cheaper order is taken. The channel form of the release's middle layer,
    (S S^T) X / HW, is what `source` selects; both coincide when source is x.

    x, source: (B, C, H, W). Returns (B, C, H, W).
    """
    channels, pixels = x.shape[1], x.shape[2] * x.shape[3]
    flat = x.flatten(2)  # (B, C, HW)
    if source is not None:
        gram = source.flatten(2)
        weights = gram @ gram.transpose(1, 2) / pixels  # (B, C, C)
        return (weights @ flat).view_as(x)
    if channels <= pixels:
        gram = flat @ flat.transpose(1, 2) / pixels
        return (gram @ flat).view_as(x)  # (B, C, C) @ (B, C, HW)
    similarity = flat.transpose(1, 2) @ flat / pixels
    return (flat @ similarity).view_as(x)  # (B, C, HW) @ (B, HW, HW)


class DenoisingLayer(nn.Module):
    """Inner denoising layer with a residual connection, unless it is left out (Sec. 3.1, Fig. 2a and 2b), (B, C, H, W) -> the same.

    'plain' adds the non-local mean (Fig. 2b); 'bottleneck' passes it through a 1x1 convolution first (Fig. 2a);
    'xie' through a 1x1 convolution and a BatchNorm whose scale starts at zero (Xie et al. 2019, Sec. 4).
    """

    def __init__(self, channels: int, kind: str, similarity: str = "dot", residual: bool = True):
        super().__init__()
        self.residual = residual
        self.mean = gaussian_non_local_mean if similarity == "gaussian" else non_local_mean
        self.transform = nn.Identity()
        if kind == "bottleneck":
            self.transform = nn.Conv2d(channels, channels, 1)
        elif kind == "xie":
            norm = nn.BatchNorm2d(channels)
            nn.init.zeros_(norm.weight)
            self.transform = nn.Sequential(nn.Conv2d(channels, channels, 1, bias=False), norm)

    def forward(self, x: Tensor) -> Tensor:
        denoised = self.transform(self.mean(x))
        return x + denoised if self.residual else denoised


class Trunk(nn.Module):
    """A timm CNN without its head, with denoising layers behind the named stages.

    Hooks leave the backbone's own module and parameter names untouched, so pretrained weights still load. `forward`
    returns the features of stage 1 to 4 *before* their denoising layer (the release's lateral inputs) and the last
    feature map.
    """

    def __init__(self, backbone: nn.Module, stages: dict[str, str], denoisers: dict[str, nn.Module]):
        super().__init__()
        self.backbone = backbone
        self.inner = nn.ModuleDict({path.replace(".", "/"): layer for path, layer in denoisers.items()})
        self.pyramid = [stages[name] for name in STAGES[1:]]
        self._features: dict[str, Tensor] = {}
        for path in {*self.pyramid, *denoisers}:
            backbone.get_submodule(path).register_forward_hook(functools.partial(self._passed, path))

    def _passed(self, path: str, module: nn.Module, inputs: tuple, output: Tensor) -> Tensor | None:
        self._features[path], name = output, path.replace(".", "/")
        return self.inner[name](output) if name in self.inner else None

    def forward(self, x: Tensor) -> tuple[list[Tensor], Tensor]:
        last = self.backbone.forward_features(x)
        features = [self._features[path] for path in self.pyramid]
        self._features.clear()  # else the graph of this pass would live until the next one
        return features, last


class RestorationDecoder(nn.Module):
    """Image restoration module F_R (Sec. 3.2): fuse the pyramid, then transposed convolutions to image size.

    1x1 laterals on stages 1-4, bilinear upsampling and addition from the top, one 3x3 smoothing convolution, then
    transposed convolutions D -> D/4 -> D/16 -> 3 (or `between`). As in the release there is no activation, norm or clamp, so the
    decoder is linear in its features and x' may leave [0, 1].

    features: four maps, finest first, (B, C_i, H_i, W_i). Returns (B, 3, H, W).
    """

    def __init__(self, channels: Sequence[int], width: int, reduction: int, between: Sequence[int] = ()):
        super().__init__()
        self.laterals = nn.ModuleList(nn.Conv2d(c, width, 1) for c in channels)
        self.smooth = nn.Conv2d(width, width, 3, padding=1)
        doublings = round(math.log2(reduction))
        if between and len(between) != doublings:
            raise FPDError(f"decoder_channels is {tuple(between)!r}; accepted: {doublings} numbers here, one per doubling, or none.")
        widths = [width, *(between or (max(width // 4 ** (i + 1), 4) for i in range(doublings)))]
        layers = [nn.ConvTranspose2d(a, b, 2, 2) for a, b in pairwise(widths)]
        self.up = nn.Sequential(*layers, nn.ConvTranspose2d(widths[-1], 3, 1))

    def forward(self, features: list[Tensor]) -> Tensor:
        fused = self.laterals[-1](features[-1])
        for lateral, feature in zip(list(self.laterals)[-2::-1], features[-2::-1], strict=True):
            size = feature.shape[-2:]
            fused = lateral(feature) + F.interpolate(fused, size=size, mode="bilinear", align_corners=False)
        return self.up(self.smooth(fused))


class Front(NamedTuple):
    """Result of the front pass: its input, its last feature map, and the restored image x' (or None)."""

    x: Tensor
    last: Tensor
    restored: Tensor | None


class FPD(nn.Module):
    """A CNN enhanced by the Feature Pyramid Decoder (Fig. 1), or one of its ablations; see `NetworkSpec`.

    `forward(x)` gives the deployed logits (squeezed if the spec says so), (B, 3, H, W) in [0, 1] -> (B, classes).
    `pre_squeeze(x)` gives the logits before tanh: same ranking, no vanishing gradient.

    Raises FPDError when the backbone is unknown, has no stages, or is too deep for the image size.
    """

    def __init__(self, spec: NetworkSpec):
        super().__init__()
        self.spec, self.denoises_middle, self.middle_mean = spec, True, non_local_mean
        backbone = build_backbone(spec)
        stages = stage_modules(backbone, spec)
        channels, sizes = probe(backbone, stages, spec)
        paths = [resolve_stage(name, stages, backbone, spec) for name in spec.inner]
        if len(set(paths)) < len(paths):
            raise FPDError(f"inner is {spec.inner!r}: two entries name the same module. Name each stage once.")

        def trunk(backbone: nn.Module) -> Trunk:
            layers = {path: DenoisingLayer(channels[path], spec.denoiser, spec.similarity, spec.residual) for path in paths}
            return Trunk(backbone, stages, layers)

        self.trunk = trunk(backbone)
        pyramid = [channels[stages[name]] for name in STAGES[1:]]
        reduction = spec.image_size // sizes[stages["stage1"]]
        decoder = spec.decoder_width, reduction, spec.decoder_channels
        self.decoder = RestorationDecoder(pyramid, *decoder) if spec.restoration else None
        if spec.restoration and spec.image_size != sizes[stages["stage1"]] * 2 ** round(math.log2(reduction)):
            raise FPDError(
                f"image_size is {spec.image_size}: doubling the {sizes[stages['stage1']]}-pixel features of stage 1 "
                "cannot restore it. Choose a multiple of 32."
            )
        self.back_trunk = trunk(build_backbone(spec)) if spec.sharing == "separate" else None
        if spec.initialisation == "released":
            beside = (self.decoder, self.trunk.inner, self.back_trunk.inner if self.back_trunk is not None else None)
            draw_as_released(module for module in beside if module is not None)
        # One set of running statistics per pass, weights shared (Sec. 3.1 shares "the parameters").
        self.back_statistics = nn.Module()
        if spec.classifier == "back" and spec.statistics == "per_pass" and self.back_trunk is None:
            for name, buffer in self.trunk.named_buffers():
                self.back_statistics.register_buffer(name.replace(".", ":"), buffer.clone())

    def front(self, x: Tensor) -> Front:
        """Front denoising module F_FD, then the restoration module F_R (Sec. 3.1, 3.2)."""
        features, last = self.trunk(x)
        return Front(x, last, self.decoder(features) if self.decoder is not None else None)

    def classify(self, front: Front) -> Tensor:
        """Middle layer, back denoising module F_BD and classifier on a front pass; logits *before* squeezing."""
        last = front.last
        if self.spec.classifier == "back":
            last = self._back(self.clean(front.restored, front.x))
        return self.trunk.backbone.forward_head(last)

    def clean(self, restored: Tensor, x: Tensor) -> Tensor:
        """What the back module sees (Sec. 3.2 end; Sec. 4.1 'Denoising Approaches'), (B, 3, H, W)."""
        match self.spec.back_input:
            case "restored":
                return restored
            case "average":  # with x: x_clean, which the text names, does not exist at test time
                return (restored + x) / 2
            case "flip":
                return restored.flip(-1)
        if not self.denoises_middle:
            return restored
        denoised = self.middle_mean(x, x) if self.spec.middle == "raw" else self.middle_mean(restored)
        return restored + denoised if self.spec.residual else denoised

    def _back(self, x: Tensor) -> Tensor:
        if self.back_trunk is not None:
            return self.back_trunk(x)[1]
        if self.spec.statistics == "shared":
            return self.trunk(x)[1]
        buffers = {name.replace(":", "."): buffer for name, buffer in self.back_statistics.named_buffers()}
        return functional_call(self.trunk, buffers, (x,))[1]  # batch norm updates these buffers in place

    def second_phase(self) -> AbstractContextManager:
        """The passes of the second phase (Alg. 1 line 14): with `per_pass`, they leave the running statistics alone.

        Those passes see restored images, which a deployed network never gets as input; mixing them in makes the
        statistics match neither. The release ('shared') mixes them.
        """
        norms = [m for m in self.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
        return meanwhile(norms if self.spec.statistics == "per_pass" else (), momentum=0.0)

    @property
    def parts(self) -> tuple[str, ...]:
        """What an attacker can differentiate instead of the deployed path (see `attacks.views.View`)."""
        denoises = bool(self.spec.inner) or (self.spec.classifier == "back" and self.spec.back_input == "middle")
        denoises &= self.spec.residual  # else nothing is left where they are left out
        present = {
            "front": self.spec.classifier == "back",
            "bare": denoises,
            "replaced": denoises,
            "restored": self.decoder is not None,
        }
        return tuple(part for part, there in present.items() if there)

    @contextmanager
    def without_denoising(self) -> Iterator[None]:
        """The same weights with every non-local mean left out."""
        layers = [module for module in self.modules() if isinstance(module, DenoisingLayer)]
        with meanwhile([self], denoises_middle=False), meanwhile(layers, mean=torch.zeros_like):
            yield

    @contextmanager
    def with_replaced_gradients(self) -> Iterator[None]:
        """The same outputs, with gradients as if every non-local mean were a constant, so that a denoising layer's is the identity:
        what an attacker does whose target hides its gradients there (BPDA, Athalye et al. 2018; Sec. 2)."""
        layers = [module for module in self.modules() if isinstance(module, DenoisingLayer)]
        inner = constant(layers[0].mean) if layers else None  # all have the same
        with meanwhile([self], middle_mean=constant(self.middle_mean)), meanwhile(layers, mean=inner):
            yield

    def squeeze(self, logits: Tensor) -> Tensor:
        """The squeezing function f_s of the classification layer F_LCC (Sec. 3.3, Fig. 3)."""
        return logits.tanh() if self.spec.squeeze == "tanh" else logits

    def pre_squeeze(self, x: Tensor) -> Tensor:
        return self.classify(self.front(x))

    def forward(self, x: Tensor) -> Tensor:
        return self.squeeze(self.pre_squeeze(x))


def constant(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """The same values, through which no gradient flows."""
    return lambda *arguments: function(*arguments).detach()


def draw_as_released(parts: Iterable[nn.Module]) -> None:
    """Draw the weights of all convolutions in `parts` anew, He-normal (fan out, ReLU gain), as the release does with every one.

    Transposed convolutions, biases and BatchNorm keep PyTorch's default. PyTorch's default on the decoder's laterals is
    2.4 to 6.9 times narrower: an untrained ResNet-101 then restores MNIST at 64 pixels with a mean squared error of 0.4 to
    0.6 instead of 30 to 70, below the gate's T = 3 (Sec. 3.4, Alg. 1 line 9), so that no step is ever gated.
    """
    for layer in (layer for part in parts for layer in part.modules()):
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")


def build(spec, seed: int) -> nn.Module:
    """The network of a spec with weights drawn from `seed`; the caller's random state is left as it was.

    spec: a `NetworkSpec`, or any other spec with a method `build` (see `anchor`).
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return FPD(spec) if isinstance(spec, NetworkSpec) else spec.build()


@functools.cache
def cost(spec) -> dict[str, float]:
    """Of the network of a spec (see `build`): parameters, and multiply-accumulates for one image: forward, backward to the
    parameters, and backward to the pixels alone (what an attack takes)."""
    model = build(spec, 0).eval()
    x = torch.rand(1, 3, spec.image_size, spec.image_size)

    def count(model: nn.Module, x: Tensor) -> tuple[int, int]:
        with FlopCounterMode(display=False) as forward:
            logits = model(x)
        with FlopCounterMode(display=False) as backward:
            logits.sum().backward()
        # the counter counts a multiply-accumulate as two
        return forward.get_total_flops() // 2, backward.get_total_flops() // 2

    parameters = sum(p.numel() for p in model.parameters())
    forward, backward = count(model, x)
    _, pixel = count(model.requires_grad_(False), x.requires_grad_())
    return {"parameters": parameters, "forward_macs": forward, "backward_macs": backward, "pixel_macs": pixel}
