"""Draw the bundled MNIST sample from the full dataset: `python tools/make_mnist_sample.py [data-folder]`.

Balanced and seeded: 1,000 training and 200 test images per digit, in file order. Written in MNIST's own IDX format,
gzip-compressed, with a manifest of SHA-256 checksums and the indices of the chosen images.
"""

import gzip
import hashlib
import json
import struct
import sys
from pathlib import Path

import numpy as np

from fpdlib.data.datasets import SAMPLES
from fpdlib.data.readers import mnist
from fpdlib.files import project_folder

PER_CLASS = {"train": 1000, "test": 200}
SEED = 0


def main() -> None:
    folder = SAMPLES / "mnist"
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(SEED)
    checksums, indices = {}, {}
    splits = mnist(Path(sys.argv[1]) if len(sys.argv) > 1 else project_folder("data", "FPD_DATA"))
    for (split, count), (images, labels) in zip(PER_CLASS.items(), splits, strict=True):
        images, labels = images.numpy(), labels.numpy()
        per_digit = [rng.choice(np.flatnonzero(labels == digit), count, replace=False) for digit in range(10)]
        chosen = np.sort(np.concatenate(per_digit))
        indices[split] = chosen.tolist()
        header = struct.pack(">IIII", 0x803, len(chosen), 28, 28)
        payloads = {
            f"{split}-images.gz": header + images[chosen].astype(np.uint8).tobytes(),
            f"{split}-labels.gz": struct.pack(">II", 0x801, len(chosen)) + labels[chosen].astype(np.uint8).tobytes(),
        }
        for name, payload in payloads.items():
            data = gzip.compress(payload, 9, mtime=0)
            (folder / name).write_bytes(data)
            checksums[name] = hashlib.sha256(data).hexdigest()
    manifest = {"seed": SEED, "per_class": PER_CLASS, "sha256": checksums, "indices": indices}
    (folder / "manifest.json").write_text(json.dumps(manifest) + "\n")


if __name__ == "__main__":
    main()
