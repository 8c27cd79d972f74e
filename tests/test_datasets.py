"""SVHN and Caltech readers on small files in the real formats that these tests write; splits; stand-ins."""

import hashlib

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import savemat

from fpdlib import data
from fpdlib.data import datasets, readers
from fpdlib.data.datasets import DATASETS, folder_split
from fpdlib.errors import FPDError
from fpdlib.files import project_folder


@pytest.fixture
def svhn(tmp_path, monkeypatch):
    """SVHN's two files with 30 and 12 images, and torchvision's checksums replaced by theirs."""
    folder = tmp_path / "SVHN"
    folder.mkdir()
    entries = {}
    for split, count in (("train", 30), ("test", 12)):
        rng = np.random.default_rng(count)
        pixels = rng.integers(0, 256, (32, 32, 3, count), dtype=np.uint8)
        labels = (np.arange(count) % 10 + 1).astype(np.uint8)[:, None]  # SVHN writes the digit 0 as 10
        path = folder / f"{split}_32x32.mat"
        savemat(path, {"X": pixels, "y": labels})
        entries[split] = ["", path.name, hashlib.md5(path.read_bytes()).hexdigest()]
    monkeypatch.setattr(readers.SVHN, "split_list", readers.SVHN.split_list | entries)
    return tmp_path


def test_svhn_is_read_from_its_own_format(svhn):
    splits = data.load("svhn", 64, root=svhn)
    assert len(splits.train) + len(splits.held_out) == 30 and len(splits.test) == 12
    assert splits.test.pixels.shape == (12, 3, 64, 64) and splits.test.native.shape == (12, 3, 32, 32)
    assert splits.test.labels.tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1, 2]
    assert splits.test.batch(slice(0, 2)).is_contiguous()


def test_the_real_checksums_are_torchvisions():
    assert readers.SVHN.split_list["test"][1:] == ["test_32x32.mat", "eb5a983be6a315427106f1b164d9cef3"]
    assert readers.SVHN.split_list["train"][1:] == ["train_32x32.mat", "e26dedcc434d2e4c54c9b2d4a06d8373"]


def test_the_papers_ten_thousand_are_the_first(svhn, monkeypatch):
    assert "an assumption" in DATASETS["svhn-10000"].description
    monkeypatch.setitem(DATASETS, "svhn-10000", datasets.Dataset("", "svhn", 10, 8, 2, options={"test_images": 5}))
    few, all_ = data.load("svhn-10000", 32, root=svhn), data.load("svhn", 32, root=svhn)
    assert len(few.test) == 5 and torch.equal(few.test.native, all_.test.native[:5])


def test_missing_and_damaged_svhn_are_named(svhn, tmp_path, monkeypatch):
    path = svhn / "SVHN" / "test_32x32.mat"
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(FPDError, match=r"test_32x32\.mat is truncated or corrupted: its md5.*Delete it"):
        data.load("svhn", 32, root=svhn)
    for file in (svhn / "SVHN").iterdir():
        file.unlink()

    def offline(*_, **__):
        raise RuntimeError("no network")

    monkeypatch.setattr(readers.SVHN, "__init__", offline)
    with pytest.raises(FPDError, match=r"SVHN is incomplete.*train_32x32\.mat.*no network.*FPD_DATA.*bundled"):
        data.load("svhn", 32, root=svhn)


def photographs(folder, counts, size=(20, 14)):
    for number, count in enumerate(counts):
        (folder / f"class{number:03d}").mkdir(parents=True)
        for image in range(count):
            colour = (number * 20 % 256, image * 9 % 256, 30)
            Image.new("RGB", size, colour).save(folder / f"class{number:03d}" / f"image_{image + 1:04d}.jpg")


def test_caltech_is_split_per_folder_in_file_order(tmp_path, monkeypatch):
    counts = [12, 31, 20]
    photographs(tmp_path / "caltech101" / "101_ObjectCategories", counts)
    options = datasets.CALTECH101 | {"classes": 3}
    monkeypatch.setitem(DATASETS, "caltech101", datasets.Dataset("", "photographs", 3, 6, 3, options=options))
    splits = data.load("caltech101", 16, root=tmp_path)
    assert splits.test.labels.bincount().tolist() == [1, 3, 2] and len(splits.train) + len(splits.held_out) == 10 + 27 + 18
    assert splits.test.pixels.shape[1:] == (3, 16, 16)
    green = splits.test.pixels[:, 1].float().mean((1, 2))  # file number x 9: the tenth of a folder comes after its nine tenths
    assert abs(green[0] - 90) < 4


def test_the_papers_866_images_come_from_102_folders():
    """int(0.1 n) over all folders, BACKGROUND_Google included; torchvision's own class, without it, gives another number."""
    path = project_folder("data", "FPD_DATA") / "caltech101" / "101_ObjectCategories"
    if not path.is_dir():
        pytest.skip("Caltech-101 is not in the data folder")
    counts = {p.name: len(list(p.glob("*.jpg"))) for p in path.iterdir() if p.is_dir()}
    assert len(counts) == 102 and sum(int(0.1 * n) for n in counts.values()) == 866
    assert sum(int(0.9 * n) for n in counts.values()) == DATASETS["caltech101"].train
    assert sum(int(0.1 * n) for name, n in counts.items() if name != "BACKGROUND_Google") == 820


def test_folder_splits():
    labels = np.repeat([0, 1, 2], [10, 25, 33])
    train, test = folder_split(labels, (0.9, 0.1))
    assert [int((labels[test] == c).sum()) for c in range(3)] == [1, 2, 3] and not set(train) & set(test)
    assert test.tolist() == [9, 32, 33, 64, 65, 66]
    shuffled = folder_split(labels, (0.9, 0.1), seed=0)
    assert [len(part) for part in shuffled] == [len(train), len(test)] and shuffled[1].tolist() != test.tolist()
    assert np.array_equal(folder_split(labels, (0.9, 0.1), seed=0)[1], shuffled[1])


def test_wrong_folders_and_broken_photographs_are_named(tmp_path):
    photographs(tmp_path / "caltech101" / "101_ObjectCategories", [3, 3])
    with pytest.raises(FPDError, match=r"holds 2 image folders; accepted: 102\..*FPD_DATA"):
        data.load("caltech101", 16, root=tmp_path)
    with pytest.raises(FPDError, match=r"holds 0 image folders; accepted: 257"):
        data.load("caltech256", 16, root=tmp_path)
    bad = tmp_path / "image.jpg"
    bad.write_bytes(b"not a photograph")
    with pytest.raises(FPDError, match=r"image\.jpg is not a readable image"):
        readers._decode(str(bad), 16)


def test_decoded_photographs_are_kept_and_a_damaged_copy_is_made_again(tmp_path, monkeypatch):
    photographs(tmp_path / "c", [3, 2])
    listing = readers.ImageFolder(tmp_path / "c", loader=readers.partial(readers._decode, size=8))
    first = readers._cached(tmp_path / "kept.safetensors", listing, 8)
    assert first.shape == (5, 3, 8, 8) and not (tmp_path / "kept.safetensors").exists()  # few: not worth a file
    (tmp_path / "kept.safetensors").write_bytes(b"damaged")
    assert torch.equal(readers._cached(tmp_path / "kept.safetensors", listing, 8), first)


@pytest.mark.parametrize(("name", "train", "test"), [("svhn-stand-in", 4000, 1000), ("caltech101-sample", 400, 100)])
def test_stand_ins_are_bundled_marked_and_balanced_enough(name, train, test):
    splits = data.load(name, 32, root="/nowhere")
    assert (DATASETS[name].train, DATASETS[name].test) == (train, test)
    assert (len(splits.train) + len(splits.held_out), len(splits.test)) == (train, test)
    assert splits.test.labels.bincount(minlength=10).min() >= test // 15
    assert DATASETS[name].stand_in and "stand-in" in DATASETS[name].description
    assert not any(DATASETS[other].stand_in for other in ("mnist", "mnist-sample", "svhn", "caltech101", "caltech256"))
    spread = splits.test.pixels.float().std((0, 2, 3))
    assert (spread > 20).all()  # coloured


def test_damaged_stand_ins_are_named(tmp_path, monkeypatch):
    import shutil

    shutil.copytree(datasets.SAMPLES / "svhn-stand-in", tmp_path / "svhn-stand-in")
    monkeypatch.setattr(readers, "SAMPLES", tmp_path)
    path = tmp_path / "svhn-stand-in" / "train_32x32.mat"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(FPDError, match=r"train_32x32\.mat is truncated or corrupted.*git checkout"):
        data.load("svhn-stand-in", 32)


def test_samples_have_their_licences():
    assert "CC BY 4.0" in (datasets.SAMPLES / "caltech101-sample" / "README.md").read_text()
    assert "Share Alike" in (datasets.SAMPLES / "svhn-stand-in" / "README.md").read_text()
