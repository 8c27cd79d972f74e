"""One network as plain values; its hash names the checkpoint."""

from dataclasses import dataclass, field, replace
from typing import Literal

from torch import nn

from fpdlib.errors import FPDError, check

ACTIVATIONS = {"relu": nn.ReLU, "elu": nn.ELU}  # ELU with alpha = 1 (Sec. 3.3, last paragraph)

# What each module computes, counted: raised when it changes on purpose, and in the key of every network that has the module.
VERSIONS = {"denoising": 1, "decoder": 1, "fpd": 1}


@dataclass(frozen=True)
class NetworkSpec:
    """One network, as plain values; its hash names the checkpoint.

    backbone, backbone_args: timm model name and extra arguments of `timm.create_model`.
    inner: stages whose output gets an inner denoising layer (Sec. 3.1): 'stem', 'stage1'..'stage4', or a module path.
    denoiser: 'plain' (Fig. 2b), 'bottleneck' (Fig. 2a, a 1x1 convolution), 'xie' (Xie et al. 2019: 1x1 + zero-init BN).
    restoration: build the image restoration module F_R (Sec. 3.2).
    classifier: 'front' classifies the front pass, 'back' the back pass F_BD (needs restoration).
    back_input: what the back pass sees: 'restored' x', 'average' (x' + x) / 2, 'flip' (x' mirrored left-right),
        'middle' (x' after the middle denoising layer, Fig. 2c).
    middle: what the middle layer denoises: 'restored' (the paper's text) or 'raw' (the released code: x, with x' added).
    activation: 'relu' or 'elu'; squeeze: 'none' or 'tanh' on the logits (Sec. 3.3, Fig. 3).
    statistics: BatchNorm running statistics: 'per_pass' (one set for the front and one for the back pass, untouched by
        the second training phase) or 'shared' (one set for all passes: the released code).
    similarity: weights of the non-local mean: 'dot' (the paper's dot product) or 'gaussian' (softmax of it, Sec. 3.1).
    residual: whether denoising layers add their input to what they made of it (Sec. 3.1), inner and middle ones.
    sharing: 'shared' (F_FD and F_BD have the same weights, Sec. 3.1) or 'separate'.
    decoder_width: channels of the pyramid (256 in the release for ResNets; 128 in its ResNet-50 for SVHN); decoder_channels: of its
        transposed convolutions before the last, one per doubling ((64, 16) in both); () for a quarter each of what comes before.
    dropout: before the classifier, in [0, 1) (the release: 0.5 for SVHN and Caltech, none for MNIST).
    initialisation: of the convolutions beside the backbone (laterals, smoothing, 1x1 of a denoising layer): 'released'
        (He-normal, see `draw_as_released`) or 'pytorch' (its default). The backbone's are timm's, for ResNets the release's.
    """

    backbone: str = "resnet101"
    backbone_args: tuple[tuple[str, object], ...] = ()
    num_classes: int = 10
    image_size: int = 64
    inner: tuple[str, ...] = ()
    denoiser: Literal["plain", "bottleneck", "xie"] = "plain"
    restoration: bool = False
    classifier: Literal["front", "back"] = "front"
    back_input: Literal["restored", "average", "flip", "middle"] = "middle"
    middle: Literal["restored", "raw"] = "restored"
    activation: Literal["relu", "elu"] = "relu"
    squeeze: Literal["none", "tanh"] = "none"
    statistics: Literal["per_pass", "shared"] = "per_pass"
    decoder_width: int = 256
    dropout: float = 0.0
    similarity: Literal["dot", "gaussian"] = "dot"
    sharing: Literal["shared", "separate"] = "shared"
    initialisation: Literal["released", "pytorch"] = "released"
    decoder_channels: tuple[int, ...] = field(default=(), metadata={"before": ()})
    residual: bool = field(default=True, metadata={"before": True})

    @property
    def versions(self) -> dict[str, int]:
        has = {"denoising": bool(self.inner) or self.back_input == "middle", "decoder": self.restoration, "fpd": True}
        return {module: number for module, number in VERSIONS.items() if has[module]}

    def __post_init__(self):
        check(self)
        if not self.residual and self.denoiser == "xie":
            raise FPDError(
                "residual is False with denoiser 'xie', whose scale starts at zero: nothing would pass it. Set residual=True."
            )
        if self.sharing == "separate" and self.classifier != "back":
            raise FPDError("sharing is 'separate' but classifier is 'front': without a back module nothing is shared.")
        if self.classifier == "back" and not self.restoration:
            raise FPDError(
                "classifier is 'back' but restoration is False: the back module reads the restored image. "
                "Set restoration=True or classifier='front'."
            )
        for name, least in (("num_classes", 2), ("image_size", 1), ("decoder_width", 1)):
            if type(getattr(self, name)) is not int or getattr(self, name) < least:
                raise FPDError(f"{name} is {getattr(self, name)!r}; accepted: an integer from {least}.")
        if not isinstance(self.backbone, str):
            raise FPDError(f"backbone is {self.backbone!r}; accepted: the name of a timm model.")
        if not 0 <= self.dropout < 1:
            raise FPDError(f"dropout is {self.dropout!r}; accepted: a probability in [0, 1).")


def released(backbone: str = "resnet101", **changes) -> NetworkSpec:
    """What the released code intends: denoising after the stem and the first group, middle layer on the raw input,
    one set of BatchNorm statistics, ELU, tanh logits, 256-channel pyramid. Adaptive pooling replaces its fixed 7x7
    pooling, which fails at the paper's 64x64. Same modules in the same order, so its weights load by renaming.
    """
    spec = NetworkSpec(backbone, (("zero_init_last", False),), inner=("stem", "stage1"), restoration=True, classifier="back",
                       middle="raw", activation="elu", squeeze="tanh", statistics="shared")  # fmt: skip
    return replace(spec, **changes)
