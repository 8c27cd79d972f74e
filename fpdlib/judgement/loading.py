"""What the command line names: a model, its weights, images, an attack."""

import importlib
import sys
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torchvision import datasets
from torchvision.transforms import v2

from fpdlib import data
from fpdlib.data.datasets import DATASETS
from fpdlib.errors import FPDError, said
from fpdlib.evaluation import test_order


def named(place: str, what: str):
    """The object that 'package.module:name' names; the working directory is looked through first."""
    module, _, name = place.partition(":")
    if not module or not name:
        raise FPDError(f"{what} is {place!r}; accepted: package.module:name, such as mine.networks:build.")
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        found = importlib.import_module(module)
    except Exception as error:  # whatever a stranger's module raises
        raise FPDError(f"{what} is {place!r}, but {module} cannot be imported: {said(error)}.") from error
    if not hasattr(found, name):
        raise FPDError(f"{what} is {place!r}, but {module} has no {name!r}.")
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
            model.load_state_dict(load_file(weights))
        except (OSError, SafetensorError, RuntimeError) as error:
            lines = str(error).splitlines()
            hint = "" if Path(weights).suffix == ".safetensors" else " Accepted: a safetensors file (`safetensors.torch.save_file`)."
            raise FPDError(f"weights {weights} do not fit {place}: {' '.join(line.strip() for line in lines[:3])}{hint}") from error
    return model.eval() if model.training else model


def test_images(name: str, count: int, size: int, channels: int = 3) -> tuple[Tensor, Tensor]:
    """Images (count, channels, H, W) in [0, 1] and labels (count,): the first `count`, in a fixed shuffled order, of a data set's
    test part, of a folder with one folder a class, or of an .npz file with `images` (N, C, H, W) and `labels` (N,), as they are."""
    path = Path(name)
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
            folder = datasets.ImageFolder(path, to_tensor)
        except FileNotFoundError as error:
            raise FPDError(f"data {name!r} has no images; accepted: a folder with one folder of images a class.") from error
        try:
            pairs = [folder[int(index)] for index in test_order(len(folder))[:count]]
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
        if images.shape[:1] != labels.shape[:1]:
            raise FPDError(
                f"data {name!r} has {len(images)} images and labels of shape {tuple(labels.shape)}; accepted: one an image."
            )
        chosen = test_order(len(images))[:count]
        images, labels = images[chosen], labels[chosen]
    else:
        raise FPDError(f"data is {name!r}; accepted: {', '.join(DATASETS)}, a folder with one folder a class, or an .npz file.")
    if len(images) < count:
        raise FPDError(f"{count} images were asked for; {name} has {len(images)}.")
    if channels == 1 and path.suffix != ".npz":
        images = images.mean(1, keepdim=True)
    return images, labels
