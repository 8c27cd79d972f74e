"""The data sets' files, read with torchvision: checksums, downloads, decoding, and the bundled images.

A reader takes the data folder and the network's image size and returns ((images, labels), (images, labels)) for
training and test: uint8 (N, H, W) or (N, C, H, W), labels int64. Photographs, which come in all sizes, are resized to
the square while they are decoded (Sec. 4: "resized into 224-by-224"); all else keeps its native size.
"""

import contextlib
import gzip
import hashlib
import json
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from torchvision.datasets import MNIST, SVHN, ImageFolder
from torchvision.datasets.mnist import read_image_file, read_label_file
from torchvision.transforms.v2 import functional as transforms
from tqdm import tqdm

from fpdlib.data.datasets import SAMPLES, folder_split
from fpdlib.errors import FPDError, said
from fpdlib.files import replace_file

# The canonical files after decompression.
MNIST_MD5 = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}
BUNDLED = "or use bundled images (profiles smoke and laptop; --data mnist-sample)"


def mnist_sample(root: Path, size: int):
    folder = SAMPLES / "mnist"
    sums = json.loads((folder / "manifest.json").read_text())["sha256"]

    def read(name: str, header: int) -> Tensor:
        _verify(folder / name, "sha256", sums[name], "Restore it with `git checkout -- fpdlib/data/samples`.")
        return torch.frombuffer(bytearray(gzip.decompress((folder / name).read_bytes())), dtype=torch.uint8, offset=header)

    return [(read(f"{split}-images.gz", 16).view(-1, 28, 28), read(f"{split}-labels.gz", 8).long()) for split in ("train", "test")]


def _fetched(name: str, folder: Path, files: Iterable[str], download: Callable) -> None:
    """Download what is missing, once: several workers may need it at the same time."""
    try:
        if any(not (folder / file).exists() for file in files):
            folder.mkdir(parents=True, exist_ok=True)
            with FileLock(folder / "download.lock"):
                if any(not (folder / file).exists() for file in files):
                    download()
    except Exception as error:
        missing = ", ".join(file for file in files if not (folder / file).exists())
        raise FPDError(
            f"{name} is incomplete in {folder} (missing: {missing}) and could not be downloaded ({said(error)}). Put its files "
            f"there, set FPD_DATA to the data folder that has them, {BUNDLED}."
        ) from error


def mnist(root: Path, size: int = 0):
    raw = root / "MNIST" / "raw"
    _fetched("MNIST", raw, MNIST_MD5, lambda: MNIST(root, download=True))
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


def svhn(root: Path, size: int, stand_in: bool = False, test_images: int | None = None):
    kind = StandIn if stand_in else SVHN
    folder = SAMPLES / "svhn-stand-in" if stand_in else root / "SVHN"
    splits = []
    for split in ("train", "test"):
        name, md5 = kind.split_list[split][1:]
        path = folder / name
        if not stand_in:
            _fetched("SVHN", folder, [name], lambda split=split: SVHN(folder, split, download=True))
        remedy = "Restore it with `git checkout -- fpdlib/data/samples`." if stand_in else "Delete it to download it again."
        _verify(path, "md5", md5, remedy)
        read = kind(folder, split)
        splits.append((torch.from_numpy(read.data).contiguous(), torch.from_numpy(read.labels)))
    pixels, labels = splits[1]
    return [splits[0], (pixels[:test_images], labels[:test_images])]


def photographs(root: Path, size: int, folder: str, classes: int, parts: tuple[float, float],
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
        with contextlib.suppress(OSError, FPDError):  # a folder that can only be read
            replace_file(path, lambda temporary: save_file({"pixels": pixels}, temporary))
    return pixels
