"""Images as uint8 tensors on the device, with checksums, splits and batched augmentation.

Datasets are kept at their native size and resized once to the network's size (bilinear with antialiasing, rounded to
8 bits, as the release's image transform does). A batch leaves this module as float in [0, 1] with three channels:
that is the space in which the paper's attacks live (Sec. 4). `NativeInput` moves resizing and channel repetition into
the model instead, so that the same attack can be stated on the original pixels.
"""

import functools
import hashlib
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fpdlib.data.datasets import DATASETS
from fpdlib.errors import choose
from fpdlib.files import project_folder

HELD_OUT = 0.1  # share of the training images on which epochs are compared; the test set is for the table alone


@dataclass
class Images:
    """A split on the device: `pixels` uint8 (N, C, H, W) at the network's size, `native` before resizing."""

    pixels: Tensor
    labels: Tensor
    native: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        return f"Images({len(self)} of {tuple(self.pixels.shape[1:])}, {tuple(self.native.shape[1:])} before resizing)"

    def batch(self, index: Tensor | slice) -> Tensor:
        """float32 (B, 3, H, W) in [0, 1]; grey images repeated over three channels (Sec. 4, P: 'repeat')."""
        return as_network_input(self.pixels[index])

    def native_batch(self, index: Tensor | slice) -> Tensor:
        """float32 (B, C, h, w) in [0, 1] at the dataset's own size and channels."""
        return self.native[index].float() / 255

    def subset(self, index: Tensor) -> "Images":
        return Images(self.pixels[index], self.labels[index], self.native[index])

    def to(self, device) -> "Images":
        return Images(self.pixels.to(device), self.labels.to(device), self.native.to(device))


@dataclass
class Splits:
    """`train` and `held_out` partition the training set with a fixed seed; `test` is untouched until evaluation."""

    name: str
    train: Images
    held_out: Images
    test: Images

    @functools.cached_property
    def sha256(self) -> str:
        """Of all pixels and labels as the network gets them, and in native size."""
        digest = hashlib.sha256()
        for part in (self.train, self.held_out, self.test):
            for tensor in (part.pixels, part.labels, part.native):
                digest.update(tensor.cpu().contiguous().numpy())
        return digest.hexdigest()


def first(images: Images, count: int | None) -> Images:
    """The first so many images, or all if there are fewer; None: all."""
    return images if count is None else images.subset(torch.arange(min(count, len(images)), device=images.labels.device))


class NativeInput(nn.Module):
    """A network whose input is the dataset's own pixels: resize and channel repetition belong to the model.

    (B, C, h, w) in [0, 1] -> whatever `network` gives for (B, 3, image_size, image_size).
    """

    def __init__(self, network: nn.Module, image_size: int):
        super().__init__()
        self.network = network
        self.image_size = image_size

    def lift(self, x: Tensor) -> Tensor:
        size = (self.image_size, self.image_size)
        x = F.interpolate(x, size=size, mode="bilinear", align_corners=False, antialias=True)
        return x.expand(-1, 3, -1, -1) if x.shape[1] == 1 else x

    def forward(self, x: Tensor) -> Tensor:
        return self.network(self.lift(x))

    def pre_squeeze(self, x: Tensor) -> Tensor:
        return self.network.pre_squeeze(self.lift(x))

    def squeeze(self, logits: Tensor) -> Tensor:
        return self.network.squeeze(logits)


def as_network_input(pixels: Tensor) -> Tensor:
    x = pixels.float() / 255
    return x.repeat(1, 3, 1, 1) if x.shape[1] == 1 else x


def load(name: str, image_size: int, device="cpu", root: str | Path | None = None) -> Splits:
    """The splits of a dataset, resized to `image_size` pixels, on `device`.

    root: the data folder (default: environment FPD_DATA, else `data/`); bundled images need none.
    Raises FPDError for an unknown dataset, and for a missing, truncated or corrupted file.
    """
    choose("dataset", name, DATASETS)
    folder = Path(root) if root else project_folder("data", "FPD_DATA")
    (train_pixels, train_labels), (test_pixels, test_labels) = DATASETS[name].read(folder, image_size)
    # The split does not depend on a run's seed: every network of every run is selected on the same images.
    order = torch.randperm(len(train_labels), generator=torch.Generator().manual_seed(0))
    held = order[: round(HELD_OUT * len(order))].sort().values
    kept = order[round(HELD_OUT * len(order)) :].sort().values
    train = _images(train_pixels, train_labels, image_size)
    test = _images(test_pixels, test_labels, image_size)
    return Splits(name, train.subset(kept).to(device), train.subset(held).to(device), test.to(device))


def _images(native: Tensor, labels: Tensor, size: int) -> Images:
    from torchvision.transforms.v2 import functional as transforms  # slow to import, and not needed to read results

    native = native[:, None] if native.dim() == 3 else native
    pixels = native if native.shape[-1] == size else transforms.resize(native, [size, size], antialias=True)
    return Images(pixels, labels.long(), native)


def augment(x: Tensor, generator: torch.Generator, degrees: float = 15.0, brightness: float = 0.1) -> Tensor:
    """The release's MNIST augmentation, batched on the device: rotation by up to `degrees`, brightness by +-10 %.

    Angle and factor are drawn per image. x: (B, C, H, W) in [0, 1]; returns the same.
    (torchvision's transforms draw one angle for a whole batch.) Corners are filled with black.
    """
    draws = torch.rand(len(x), 2, generator=generator, device=generator.device).to(x.device) * 2 - 1
    angle = draws[:, 0] * torch.pi * degrees / 180
    cos, sin, zero = angle.cos(), angle.sin(), torch.zeros_like(angle)
    matrix = torch.stack([torch.stack([cos, -sin, zero], 1), torch.stack([sin, cos, zero], 1)], 1)  # (B, 2, 3)
    grid = F.affine_grid(matrix, list(x.shape), align_corners=False)
    x = F.grid_sample(x, grid, align_corners=False)
    return (x * (1 + brightness * draws[:, 1])[:, None, None, None]).clamp(0, 1)
