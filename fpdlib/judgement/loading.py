"""What the command line names: a model, its weights, images, an attack."""

import importlib
import sys
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torchvision import datasets
from torchvision.transforms import v2

from fpdlib import data
from fpdlib.data.datasets import DATASETS
from fpdlib.errors import FPDError, said
from fpdlib.evaluation import test_order

DEFAULT = 100  # images


def named(place: str, what: str):
    """The object that 'package.module:name' names; the working directory is looked through first."""
    place = place.removeprefix("./").replace(".py:", ":")
    module, _, name = place.partition(":")
    if not module or not name:
        raise FPDError(f"{what} is {place!r}; accepted: package.module:name, such as mine.networks:build.")
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        found = importlib.import_module(module)
    except (Exception, SystemExit) as error:  # whatever a stranger's module raises
        missing = isinstance(error, ModuleNotFoundError) and error.name == module.partition(".")[0]
        hint = f" It was looked for in {Path.cwd()} and where Python imports from." if missing else ""
        raise FPDError(f"{what} is {place!r}, but {module} cannot be imported: {said(error)}.{hint}") from error
    if not hasattr(found, name):
        there = [key for key, value in vars(found).items() if getattr(value, "__module__", "") == module] or ["no class or function"]
        raise FPDError(f"{what} is {place!r}, but {module} has no {name!r}; it has {', '.join(there)}.")
    return getattr(found, name)


def model_of(place: str, weights: Path | None) -> nn.Module:
    """The model that 'package.module:build' gives (a module, or a function without arguments), with weights from a
    safetensors file."""
    found = named(place, "model")
    try:
        model = found if isinstance(found, nn.Module) else found() if callable(found) else found
    except Exception as error:
        raise FPDError(f"model is {place!r}, which failed: {said(error)}. It is called without arguments.") from error
    if not isinstance(model, nn.Module):
        raise FPDError(f"model is {place!r}, which gives a {type(model).__name__}; accepted: a torch.nn.Module.")
    if weights is not None:
        try:
            state = load_file(weights)
        except (OSError, SafetensorError) as error:
            raise FPDError(
                f"weights {str(weights)!r} cannot be read ({said(error)}); accepted: a file of `safetensors.torch.save_file`."
            ) from error
        try:
            model.load_state_dict(state)
        except RuntimeError as error:
            lines = " ".join(line.strip() for line in str(error).splitlines()[:3])
            wrapped = all(key.startswith(("module.", "_orig_mod.")) for key in state)
            hint = " Its names have the prefix of a wrapper: save the state_dict of what it wraps." * wrapped
            raise FPDError(f"weights {str(weights)!r} do not fit {place}: {lines}{hint}") from error
    return model.eval() if model.training else model


class Folder(datasets.ImageFolder):
    """Without hidden folders, which editors leave behind."""

    def find_classes(self, directory: str) -> tuple[list[str], dict[str, int]]:
        names = [name for name in super().find_classes(directory)[0] if not name.startswith(".")]
        return names, {name: number for number, name in enumerate(names)}


def opened(path: str) -> Image.Image:
    """An image in colours of 8 bits; of grey ones of 16 bits the upper 8, where Pillow cuts what is above 255."""
    with Image.open(path) as image:
        deep = image.mode.startswith("I;16")
        return (Image.fromarray((np.asarray(image) // 256).astype(np.uint8)) if deep else image).convert("RGB")


def test_images(name: str, count: int | None, size: int, channels: int = 3) -> tuple[Tensor, Tensor]:
    """`read`, without names."""
    return read(name, count, size, channels)[:2]


def read(name: str, count: int | None, size: int, channels: int = 3) -> tuple[Tensor, Tensor, list]:
    """Images (count, channels, H, W) in [0, 1], labels (count,), and what each is called there (number or file): the first `count`
    (None: 100, or all if there are fewer), in a fixed shuffled order, of a data set's test part, of a folder with one folder a class,
    or of an .npz file with `images` (N, C, H, W) and `labels` (N,), as they are."""
    path = Path(name)
    asked, count = count, DEFAULT if count is None else count
    for what, value in (("images", count), ("size", size)):
        if value < 1:
            raise FPDError(f"{what} is {value}; accepted: an integer from 1.")
    if name in DATASETS:
        test = data.load(name, size).test
        chosen = test_order(len(test))[:count]
        images, labels = test.batch(chosen), test.labels[chosen]
    elif path.is_dir():
        to_tensor = v2.Compose([v2.Resize((size, size)), v2.ToImage(), v2.ToDtype(torch.float32, scale=True)])
        try:
            folder = Folder(path, to_tensor, loader=opened)
        except FileNotFoundError as error:
            raise FPDError(
                f"data {name!r} has no images ({said(error)}); accepted: a folder with one folder of images a class."
            ) from error
        try:
            chosen = test_order(len(folder))[:count]
            pairs = [folder[int(index)] for index in chosen]
        except OSError as error:
            raise FPDError(f"data {name!r} has a file that is no readable image ({error}).") from error
        images, labels = torch.stack([image for image, _ in pairs]), torch.tensor([label for _, label in pairs])
    elif path.suffix == ".npz" and path.exists():
        try:
            with np.load(path, allow_pickle=False) as file:
                if not {"images", "labels"} <= set(file):
                    raise FPDError(f"data {name!r} has {', '.join(file) or 'nothing'}; accepted: `images` and `labels`.")
                images, labels = (torch.from_numpy(file[part]) for part in ("images", "labels"))
        except (OSError, ValueError, TypeError, BadZipFile, EOFError) as error:
            raise FPDError(f"data {name!r} cannot be read ({said(error)}); accepted: numbers of NumPy's plain types.") from error
        if not images.dim():
            raise FPDError(f"data {name!r} has one number for `images`; accepted: (N, C, H, W).")
        if images.shape[:1] != labels.shape[:1]:
            raise FPDError(
                f"data {name!r} has {len(images)} images and labels of shape {tuple(labels.shape)}; accepted: one an image."
            )
        chosen = test_order(len(images))[:count]
        images, labels = images[chosen], labels[chosen]
    else:
        gone = " (there is no such file or folder)" * (not path.exists())
        raise FPDError(f"data is {name!r}{gone}; accepted: {', '.join(DATASETS)}, a folder with one folder a class, or an .npz file.")
    if asked is not None and len(images) < count:
        raise FPDError(f"{count} images were asked for; {name} has {len(images)}.")
    if channels == 1 and path.suffix != ".npz":
        images = images.mean(1, keepdim=True)
    called = (
        [Path(folder.samples[index][0]).relative_to(path) for index in chosen] if path.is_dir() and name not in DATASETS else chosen
    )
    return images, labels, list(map(str, called.tolist() if isinstance(called, Tensor) else called))
