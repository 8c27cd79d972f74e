"""The bundled sample, the full dataset, checksums and their errors."""

import gzip
import json
import shutil
import struct
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from fpdlib import data
from fpdlib.data import datasets, readers
from fpdlib.errors import FPDError
from fpdlib.files import project_folder


def test_the_bundled_sample_is_balanced_and_large_enough(sample):
    labels = torch.cat([sample.train.labels, sample.held_out.labels])
    assert labels.bincount().tolist() == [1000] * 10
    assert sample.test.labels.bincount().tolist() == [200] * 10
    assert sample.train.pixels.dtype == torch.uint8 and sample.train.pixels.shape[1:] == (1, 32, 32)
    x = sample.train.batch(slice(0, 5))
    assert x.shape == (5, 3, 32, 32) and x.dtype == torch.float32 and x.min() >= 0 and x.max() <= 1
    assert torch.equal(x[:, 0], x[:, 2])


def test_splits_are_disjoint_and_the_same_every_time(sample):
    again = data.load("mnist-sample", 32)
    assert torch.equal(again.held_out.native, sample.held_out.native)
    assert repr(sample.test) == "Images(2000 of (1, 32, 32), (1, 28, 28) before resizing)"  # not two million pixels
    seen = {image.numpy().tobytes() for image in sample.train.native}
    assert not any(image.numpy().tobytes() in seen for image in sample.held_out.native)


def test_the_sample_is_part_of_mnist(sample):
    if not (project_folder("data", "FPD_DATA") / "MNIST" / "raw").exists():
        pytest.skip("full MNIST is not in the data folder")
    whole = data.load("mnist", 32)
    assert len(whole.test) == 10_000 and len(whole.train) + len(whole.held_out) == datasets.DATASETS["mnist"].train == 60_000
    index = json.loads((datasets.SAMPLES / "mnist" / "manifest.json").read_text())["indices"]["test"]
    assert torch.equal(whole.test.native[index], sample.test.native)
    assert torch.equal(whole.test.labels[index], sample.test.labels)


@pytest.fixture
def broken_sample(tmp_path, monkeypatch):
    shutil.copytree(datasets.SAMPLES, tmp_path / "samples")
    monkeypatch.setattr(readers, "SAMPLES", tmp_path / "samples")
    return tmp_path / "samples" / "mnist"


def test_a_truncated_missing_or_altered_sample_is_named(broken_sample):
    path = broken_sample / "train-images.gz"
    whole = path.read_bytes()
    for content in (whole[:1000], whole[:500] + b"damage" + whole[506:], b""):
        path.write_bytes(content)
        with pytest.raises(FPDError, match=r"train-images\.gz is truncated or corrupted.*git checkout"):
            data.load("mnist-sample", 32)
    path.unlink()
    with pytest.raises(FPDError, match=r"train-images\.gz cannot be read"):
        data.load("mnist-sample", 32)


def test_missing_mnist_offline_says_where_it_belongs(tmp_path, monkeypatch):
    def offline(*args, **kwargs):
        raise RuntimeError("no network")

    monkeypatch.setattr(readers, "MNIST", offline)
    with pytest.raises(FPDError, match=r"train-images-idx3-ubyte.*no network.*FPD_DATA.*bundled"):
        data.load("mnist", 32, root=tmp_path)


def test_two_workers_download_mnist_once(tmp_path, monkeypatch):
    """The second waits for the first, and finds its files."""
    asked, raw = [], tmp_path / "MNIST" / "raw"

    def download(root, download):
        asked.append(root)
        time.sleep(0.3)
        for file in readers.MNIST_MD5:
            (raw / file).write_bytes(b"")

    monkeypatch.setattr(readers, "MNIST", download)
    monkeypatch.setattr(readers, "_verify", lambda *_: None)
    monkeypatch.setattr(readers, "read_image_file", lambda path: path)
    monkeypatch.setattr(readers, "read_label_file", lambda path: path)
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda _: readers.mnist(tmp_path), range(2)))
    assert len(asked) == 1 and found[0] == found[1]


def test_truncated_mnist_is_named(tmp_path, monkeypatch):
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for file in readers.MNIST_MD5:
        (raw / file).write_bytes(struct.pack(">IIII", 0x803, 1, 28, 28))
    with pytest.raises(FPDError, match=r"ubyte is truncated or corrupted: its md5.*16 bytes.*Delete"):
        data.load("mnist", 32, root=tmp_path)


def test_the_data_folder_comes_from_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("FPD_DATA", str(tmp_path))
    monkeypatch.setattr(readers, "MNIST", lambda root, download: (_ for _ in ()).throw(RuntimeError("no network")))
    with pytest.raises(FPDError, match=str(tmp_path)):
        data.load("mnist", 32)


def test_unknown_datasets_are_named():
    with pytest.raises(FPDError, match="dataset is 'cifar10'; accepted: 'mnist', 'mnist-sample'"):
        data.load("cifar10", 32)


def test_the_manifest_names_its_files():
    folder = datasets.SAMPLES / "mnist"
    manifest = json.loads((folder / "manifest.json").read_text())
    assert {p.name for p in folder.glob("*.gz")} == set(manifest["sha256"])
    assert gzip.decompress((folder / "test-labels.gz").read_bytes())[:8] == struct.pack(">II", 0x801, 2000)
    assert "Share Alike" in (folder / "README.md").read_text()
