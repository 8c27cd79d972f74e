"""Two small CNNs whose robustness on MNIST others have published: the known answers against which the evaluation is checked.

Fast adversarial training (Wong et al. 2020) keeps 82.93 % under AutoAttack at eps 0.3 on the 28 x 28 images, PGD training
(Madry et al. 2018) 88.50 %, its successors up to 92.8 %. The networks average the three channels that the rest of the kit
works on, so an L-inf ball is the same for one channel and for three; attacks in `native` space see 28 x 28 x 1.
"""

from contextlib import nullcontext
from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor, nn

from fpdlib.errors import check
from fpdlib.network.fpd import Front


@dataclass(frozen=True)
class AnchorSpec:
    """kind: 'wong' (16 and 32 channels, 100 units, strided) or 'madry' (32 and 64 channels, max-pooling, 1,024 units)."""

    kind: Literal["wong", "madry"] = "wong"
    num_classes: int = 10
    image_size: int = 28
    version: ClassVar[int] = 1

    __post_init__ = check

    def build(self) -> nn.Module:
        return AnchorCNN(self)


class CNN(nn.Module):
    """Any classifier with FPD's interface, so that the same training and evaluation run on it. (B, 3, H, W) -> (B, classes).

    spec: frozen, with `num_classes`, `image_size` and a `version` of its code. features: (B, 3, H, W) -> (B, width); head: -> logits.
    """

    def __init__(self, spec, features: nn.Module, head: nn.Module):
        super().__init__()
        self.spec, self.features, self.head = spec, features, head

    second_phase = nullcontext

    def front(self, x: Tensor) -> Front:
        return Front(x, self.features(x), None)

    def classify(self, front: Front) -> Tensor:
        return self.head(front.last)

    def squeeze(self, logits: Tensor) -> Tensor:
        return logits

    def pre_squeeze(self, x: Tensor) -> Tensor:
        return self.classify(self.front(x))

    forward = pre_squeeze


class AnchorCNN(CNN):
    """(B, 3, 28, 28) -> (B, 10), on the mean of the channels."""

    def __init__(self, spec: AnchorSpec):
        if spec.kind == "wong":
            parts = [nn.Conv2d(1, 16, 4, 2, 1), nn.ReLU(), nn.Conv2d(16, 32, 4, 2, 1), nn.ReLU()]
            width = 100
        else:
            parts = [nn.Conv2d(1, 32, 5, 1, 2), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(32, 64, 5, 1, 2), nn.ReLU(), nn.MaxPool2d(2)]
            width = 1024
        channels = 32 if spec.kind == "wong" else 64
        features = nn.Sequential(*parts, nn.Flatten(), nn.Linear(channels * 49, width), nn.ReLU())
        super().__init__(spec, features, nn.Linear(width, spec.num_classes))

    def front(self, x: Tensor) -> Front:
        return Front(x, self.features(x.mean(1, keepdim=True)), None)
