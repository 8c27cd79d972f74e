"""The paper's data sets: how large they are, how they are split, and the bundled stand-ins. `readers` reads their files."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

SAMPLES = Path(__file__).parent / "samples"


@dataclass(frozen=True)
class Dataset:
    """What a data set is, which of `readers` reads it, with what options, and whether it only stands in for one of the paper's.

    version: raised when its images or its split change (part of every key; a test pins the digest of the bundled ones).
    """

    description: str
    reader: str
    classes: int
    train: int  # training images, those held out included; Caltech-256's to the nearest hundred
    test: int  # test images
    stand_in: bool = False
    version: int = 1
    options: dict = field(default_factory=dict)

    @property
    def bundled(self) -> bool:
        """Whether its images ship with the kit."""
        return self.stand_in or self.reader == "mnist_sample"

    def read(self, folder: Path, size: int):
        from fpdlib.data import readers  # slow to import, and not needed to read results

        return getattr(readers, self.reader)(folder, size, **self.options)


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


CALTECH101 = {"folder": "caltech101/101_ObjectCategories", "classes": 102, "parts": (0.9, 0.1)}
CALTECH256 = {"folder": "caltech256/256_ObjectCategories", "classes": 257, "parts": (0.95, 0.05)}

DATASETS = {
    "mnist": Dataset("all 60,000 training and 10,000 test images of MNIST, from the data folder", "mnist", 10, 60_000, 10_000),
    "mnist-sample": Dataset("the bundled sample of MNIST: 10,000 training and 2,000 test images, balanced", "mnist_sample", 10,
                            10_000, 2_000),
    "svhn": Dataset("SVHN, 73,257 training and all 26,032 test images", "svhn", 10, 73_257, 26_032),
    "svhn-10000": Dataset(
        "SVHN with the first 10,000 test images: our reading of the paper's 10,000, an assumption",
        "svhn", 10, 73_257, 10_000, options={"test_images": 10_000},
    ),
    "svhn-stand-in": Dataset(
        "stand-in for SVHN: MNIST digits on coloured textures, 4,000 training and 1,000 test images, bundled",
        "svhn", 10, 4_000, 1_000, stand_in=True, options={"stand_in": True},
    ),
    "caltech101": Dataset("Caltech-101, 102 folders, each in file order 90 % training, 10 % test (866)", "photographs", 102,
                          8_186, 866, options=CALTECH101),
    "caltech101-random": Dataset("Caltech-101, split per folder at random (seed 0)", "photographs", 102, 8_186, 866,
                                 options=CALTECH101 | {"seed": 0}),
    "caltech101-sample": Dataset(
        "stand-in for Caltech-101: ten of its folders, 50 images each, at 96 pixels, bundled",
        "photographs", 10, 400, 100, stand_in=True, options={"folder": "caltech101-sample", "classes": 10, "parts": (0.8, 0.2)},
    ),
    "caltech256": Dataset("Caltech-256, 257 folders, each in file order 95 % training, 5 % test (1,422)", "photographs", 257,
                          28_900, 1_422, options=CALTECH256),
}  # fmt: skip
