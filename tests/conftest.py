import pytest
import tiny
import torch

from fpdlib import data
from fpdlib.paper.profiles import PROFILES

torch.set_num_threads(1)  # two collapse beside a busy neighbour


@pytest.fixture(scope="session")
def sample():
    """The bundled MNIST images at 32 pixels."""
    return data.load("mnist-sample", 32)


@pytest.fixture(scope="session")
def small(sample):
    """A few hundred of them, for training runs of seconds."""
    first = torch.arange(400)
    return data.Splits("mnist-sample", sample.train.subset(first), sample.held_out.subset(first[:100]),
                       sample.test.subset(first[:200]))  # fmt: skip


@pytest.fixture
def profiles(monkeypatch):
    """Adds the profile `tiny`: 12 steps of training on 900 images, 20 attacked images, one epoch of surrogates."""
    monkeypatch.setitem(PROFILES, "tiny", tiny.TINY)
    monkeypatch.setattr(data, "load", tiny.few_images)


@pytest.fixture
def few(monkeypatch):
    """A tenth of the images, as `tiny` has them."""
    monkeypatch.setattr(data, "load", tiny.few_images)


@pytest.fixture(autouse=True)
def computing(monkeypatch):
    """Notebooks are tested on what is there; the library's own tests compute."""
    monkeypatch.delenv("FPD_COMPUTE", raising=False)
