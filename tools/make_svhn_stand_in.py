"""Draw the bundled stand-in for SVHN: `python tools/make_svhn_stand_in.py`.

Digits of the bundled MNIST sample on coloured textures, 32 x 32 x 3, in SVHN's own file format (`train_32x32.mat` with X of
(32, 32, 3, N) and y from 1 to 10, where 10 is the digit 0). Colours have 16 levels, so that the files stay small.
"""

import hashlib

import numpy as np
import torch
import torch.nn.functional as F
from scipy.io import savemat

from fpdlib import data
from fpdlib.data.datasets import SAMPLES

COUNTS = {"train": 4000, "test": 1000}
SEED = 0


def textured(digits: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Digits (N, 1, 32, 32) in [0, 1] on smooth two-colour backgrounds -> uint8 (N, 3, 32, 32)."""
    count = len(digits)
    waves = F.interpolate(torch.rand(count, 1, 5, 5, generator=generator), size=(32, 32), mode="bicubic").clamp(0, 1)
    colours = torch.rand(3, count, 3, 1, 1, generator=generator)
    background = waves * colours[0] + (1 - waves) * colours[1]
    # the digit's colour is the far end of each channel, so that it can be read
    ink = torch.where(background.mean((2, 3), keepdim=True) > 0.5, 0.25 * colours[2], 1 - 0.25 * colours[2])
    mixed = background * (1 - 0.9 * digits) + ink * 0.9 * digits
    return ((mixed.clamp(0, 1) * 15).round() * 17).to(torch.uint8)


def main() -> None:
    folder = SAMPLES / "svhn-stand-in"
    folder.mkdir(parents=True, exist_ok=True)
    splits = data.load("mnist-sample", 32)
    generator = torch.Generator().manual_seed(SEED)
    for split, count in COUNTS.items():
        images = splits.train if split == "train" else splits.test
        index = torch.randperm(len(images), generator=generator)[:count]
        pixels = textured(images.pixels[index].float() / 255, generator)
        labels = images.labels[index].numpy().astype(np.uint8)
        name = f"{split}_32x32.mat"
        content = {"X": pixels.permute(2, 3, 1, 0).contiguous().numpy(), "y": np.where(labels == 0, 10, labels)[:, None]}
        savemat(folder / name, content, do_compression=True)
        raw = bytearray((folder / name).read_bytes())
        raw[:116] = b"MATLAB 5.0 MAT-file".ljust(116)  # the header holds the date; the file must not
        (folder / name).write_bytes(raw)
        print(name, hashlib.md5(raw).hexdigest(), "(readers.StandIn checks it)")


if __name__ == "__main__":
    main()
