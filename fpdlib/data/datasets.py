"""The paper's data sets as files: where they are, their checksums, their splits, and the bundled stand-ins.

A reader takes the data folder and the network's image size and returns ((images, labels), (images, labels)) for
training and test: uint8 (N, H, W) or (N, C, H, W), labels int64. Photographs, which come in all sizes, are resized to
the square while they are decoded (Sec. 4: "resized into 224-by-224"); all else keeps its native size.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from torchvision.datasets import MNIST, SVHN, ImageFolder
from torchvision.datasets.mnist import read_image_file, read_label_file
from torchvision.transforms.v2 import functional as transforms
from tqdm import tqdm

from fpdlib.errors import FPDError
from fpdlib.files import replace_file

SAMPLES = Path(__file__).parent / "samples"

# The canonical files after decompression.
MNIST_MD5 = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}
BUNDLED = "or use a profile with bundled images (smoke, laptop)"


@dataclass(frozen=True)
class Dataset:
    """What a data set is, how it is read, and whether it only stands in for one of the paper's.

    version: raised when its images or its split change (part of every key; a test pins the digest of the bundled ones).
    """

    description: str
    read: Callable
    classes: int
    train: int  # training images, those held out included; Caltech-256's to the nearest hundred
    test: int  # test images
    stand_in: bool = False
    version: int = 1


def first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _read_sample(root: Path, size: int):
    folder = SAMPLES / "mnist"
    manifest = json.loads((folder / "manifest.json").read_text())
    splits = []
    for split in ("train", "test"):
        parts = []
        for part, reader in (("images", read_image_file), ("labels", read_label_file)):
            path = folder / f"{split}-{part}.gz"
            _verify(path, "sha256", manifest["sha256"][path.name], "Restore it with `git checkout -- fpdlib/data/samples`.")
            parts.append(_read_idx(path, reader))
        splits.append(tuple(parts))
    return splits


def _read_idx(path: Path, reader):
    # torchvision reads the format from an uncompressed file only
    with tempfile.NamedTemporaryFile(suffix="-idx") as unpacked, gzip.open(path) as source:
        shutil.copyfileobj(source, unpacked)
        unpacked.flush()
        return reader(unpacked.name)


def _read_mnist(root: Path, size: int = 0):
    raw = root / "MNIST" / "raw"
    if not all((raw / file).exists() for file in MNIST_MD5):
        try:
            MNIST(root, download=True)
        except Exception as error:
            missing = [file for file in MNIST_MD5 if not (raw / file).exists()]
            raise FPDError(
                f"MNIST is incomplete in {raw} (missing: {', '.join(missing)}) and could not be downloaded ({first_line(error)}). "
                f"Put the four *-ubyte files there, set FPD_DATA to a folder that has MNIST/raw, {BUNDLED}."
            ) from error
    for file, md5 in MNIST_MD5.items():
        _verify(raw / file, "md5", md5, f"Delete {raw} to download it again.")
    return [
        (read_image_file(str(raw / f"{part}-images-idx3-ubyte")), read_label_file(str(raw / f"{part}-labels-idx1-ubyte")))
        for part in ("train", "t10k")
    ]


def _verify(path: Path, algorithm: str, expected: str, remedy: str) -> None:
    try:
        with open(path, "rb") as file:
            found = hashlib.file_digest(file, algorithm).hexdigest()
    except OSError as error:
        raise FPDError(f"{path} cannot be read ({error.strerror}). {remedy}") from error
    if found != expected:
        size = path.stat().st_size
        raise FPDError(
            f"{path} is truncated or corrupted: its {algorithm} is {found} ({size:,} bytes), expected {expected}. {remedy}"
        )


class StandIn(SVHN):
    """The bundled stand-in for SVHN, in SVHN's own file format, read by torchvision's own reader."""

    split_list = {  # noqa: RUF012 (torchvision's own form)
        "train": ["", "train_32x32.mat", "3286520e2d7e82f789953be3e22c3bbc"],
        "test": ["", "test_32x32.mat", "a39986bcb2bbb05d61b5719ab4fc987f"],
    }


def _read_svhn(root: Path, size: int, kind: type[SVHN] = SVHN, test_images: int | None = None):
    folder = SAMPLES / "svhn-stand-in" if kind is StandIn else root / "SVHN"
    splits = []
    for split in ("train", "test"):
        name, md5 = kind.split_list[split][1:]
        path = folder / name
        if kind is SVHN and not path.exists():
            try:
                SVHN(folder, split, download=True)
            except Exception as error:
                raise FPDError(
                    f"{path} is missing and could not be downloaded ({first_line(error)}). Put SVHN's train_32x32.mat and "
                    f"test_32x32.mat there, set FPD_DATA to a folder that has SVHN/, {BUNDLED}."
                ) from error
        remedy = "Restore it with `git checkout -- fpdlib/data/samples`." if kind is StandIn else "Delete it to download it again."
        _verify(path, "md5", md5, remedy)
        read = kind(folder, split)
        splits.append((torch.from_numpy(read.data).contiguous(), torch.from_numpy(read.labels)))
    pixels, labels = splits[1]
    return [splits[0], (pixels[:test_images], labels[:test_images])]


def folder_split(labels: np.ndarray, parts: tuple[float, float], seed: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Indices of training and test images: per class, in file order, the first int(a n) and the next int(b n).

    labels: one per file, in file order. seed: shuffle each class first (the text's "randomly choose", Sec. 4).
    """
    train, test = [], []
    generator = np.random.default_rng(seed)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        if seed is not None:
            members = generator.permutation(members)
        first, second = int(parts[0] * len(members)), int(parts[1] * len(members))
        train.append(members[:first])
        test.append(members[first : first + second])
    return np.sort(np.concatenate(train)), np.sort(np.concatenate(test))


def _read_photographs(root: Path, size: int, folder: str, classes: int, parts: tuple[float, float],
                      seed: int | None = None):  # fmt: skip
    """A folder per class; every folder counts, so Caltech-101 has 102 classes (torchvision's own class drops one)."""
    path = SAMPLES / folder if folder.endswith("sample") else root / folder
    found = sorted(p.name for p in path.iterdir() if p.is_dir()) if path.is_dir() else []
    if len(found) != classes:
        raise FPDError(
            f"{path} holds {len(found)} image folders; accepted: {classes}. Extract the data set there "
            f"({folder}/<class>/image_0001.jpg), set FPD_DATA to the folder above it, {BUNDLED}."
        )
    listing = ImageFolder(path, loader=partial(_decode, size=size))
    names = "\n".join(f"{Path(file).relative_to(path)} {Path(file).stat().st_size}" for file, _ in listing.samples)
    digest = hashlib.sha256(names.encode()).hexdigest()[:12]
    labels = np.array(listing.targets)
    pixels = _cached(root / "decoded" / f"{Path(folder).name}-{size}-{digest}.safetensors", listing, size)
    chosen = folder_split(labels, parts, seed)
    return [(pixels[index], torch.from_numpy(labels[index])) for index in map(torch.from_numpy, chosen)]


def _decode(path: str, size: int) -> Tensor:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            return transforms.pil_to_tensor(image.convert("RGB").resize((size, size), Image.Resampling.BILINEAR))
    except (OSError, UnidentifiedImageError) as error:
        raise FPDError(f"{path} is not a readable image ({error}). Extract the data set again.") from error


def _cached(path: Path, listing: ImageFolder, size: int) -> Tensor:
    """All images decoded, (N, 3, size, size); kept beside the data, since decoding takes a minute."""
    try:
        return load_file(path)["pixels"]
    except (OSError, SafetensorError, KeyError):
        pass
    pixels = torch.empty(len(listing), 3, size, size, dtype=torch.uint8)
    for number in tqdm(range(len(listing)), desc="decode", mininterval=2, leave=False, disable=len(listing) < 2000):
        pixels[number] = listing[number][0]
    if len(listing) >= 2000:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, lambda temporary: save_file({"pixels": pixels}, temporary))
    return pixels


CALTECH101 = partial(_read_photographs, folder="caltech101/101_ObjectCategories", classes=102, parts=(0.9, 0.1))
CALTECH256 = partial(_read_photographs, folder="caltech256/256_ObjectCategories", classes=257, parts=(0.95, 0.05))

DATASETS = {
    "mnist": Dataset("all 60,000 training and 10,000 test images of MNIST, from the data folder", _read_mnist, 10, 60_000, 10_000),
    "mnist-sample": Dataset("the bundled sample of MNIST: 10,000 training and 2,000 test images, balanced", _read_sample, 10,
                            10_000, 2_000),
    "svhn": Dataset("SVHN, 73,257 training and all 26,032 test images", _read_svhn, 10, 73_257, 26_032),
    "svhn-10000": Dataset(
        "SVHN with the first 10,000 test images: our reading of the paper's 10,000, an assumption",
        partial(_read_svhn, test_images=10_000), 10, 73_257, 10_000,
    ),
    "svhn-stand-in": Dataset(
        "stand-in for SVHN: MNIST digits on coloured textures, 4,000 training and 1,000 test images, bundled",
        partial(_read_svhn, kind=StandIn), 10, 4_000, 1_000, stand_in=True,
    ),
    "caltech101": Dataset("Caltech-101, 102 folders, each in file order 90 % training, 10 % test (866)", CALTECH101, 102, 8_186, 866),
    "caltech101-random": Dataset("Caltech-101, split per folder at random (seed 0)", partial(CALTECH101, seed=0), 102, 8_186, 866),
    "caltech101-sample": Dataset(
        "stand-in for Caltech-101: ten of its folders, 50 images each, at 96 pixels, bundled",
        partial(_read_photographs, folder="caltech101-sample", classes=10, parts=(0.8, 0.2)), 10, 400, 100, stand_in=True,
    ),
    "caltech256": Dataset("Caltech-256, 257 folders, each in file order 95 % training, 5 % test (1,422)", CALTECH256, 257,
                          28_900, 1_422),
}  # fmt: skip
