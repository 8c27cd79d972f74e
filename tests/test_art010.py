"""The `published` attacks against what ART 0.10 itself gave on a fixed network (with `np.int` restored, float32, CPU).

`data/art010.safetensors` holds the network, 60 images, their labels and ART 0.10's adversarial images per attack.
"""

from pathlib import Path

import pytest
import torch
from fixed import Fixed
from safetensors.torch import load_file

from fpdlib.attacks import art010
from fpdlib.attacks.views import View
from fpdlib.paper import suites

STORED = load_file(Path(__file__).parent / "data" / "art010.safetensors")
X, Y = STORED["x"], STORED["y"]


@pytest.fixture(scope="module")
def network():
    net = Fixed()
    net.load_state_dict({k.removeprefix("weights/"): v for k, v in STORED.items() if k.startswith("weights/")})
    return net.eval().requires_grad_(False)


@pytest.mark.parametrize(
    ("column", "eps", "exact"),
    [
        ("linf-fgsm", 0.3, 1.0), ("linf-pgd-coarse", 0.3, 0.98), ("l2-fgsm", 1.0, 0.98), ("l2-pgd", 1.0, 0.95),
        ("linf-cw", 0.3, 0.9), ("l2-cw", None, 0.95), ("l2-deepfool", None, 0.95),
    ],
)  # fmt: skip
def test_the_published_attacks_are_those_of_art_010(network, column, eps, exact):
    """At least `exact` of the images are ART 0.10's to 1e-3, and the accuracies agree within two of 60 images; not those of DeepFool,
    whose images lie on the border itself without overshoot, where the last bit of a processor decides."""
    method = suites.PUBLISHED[column.removesuffix("-coarse")]
    view = View(network, method.sees("published"))
    ((_, attempt),) = method.attempts(eps or float("inf"))
    ours = attempt(view, X, Y, seed=0, classes=10)
    theirs = STORED[f"art010/{column}"]
    same = (ours - theirs).abs().flatten(1).amax(1) < 1e-3
    ours_right, theirs_right = (int((network(images).argmax(1) == Y).sum()) for images in (ours, theirs))
    assert same.float().mean() >= exact, (float(same.float().mean()), ours_right, theirs_right)
    assert column == "l2-deepfool" or abs(ours_right - theirs_right) <= 2


def test_what_carlini_linf_cannot_break_it_gives_back(network):
    view = View(network, "deployed")
    weak = art010.carlini_linf(view, X, Y, 0, 10, eps=0.02)
    still = network(weak).argmax(1) == Y
    assert still.any() and torch.equal(weak[still], X[still])
    assert 0.01 < (weak - X).abs().max() <= 0.02 + 1e-6 and weak.min() >= 0 and weak.max() <= 1


def test_todays_art_is_another_attack(network):
    """Why the published columns need adapters: today's C&W-Linf leaves most of what 0.10 broke, DeepFool breaks more."""

    def right(column, eps):
        method = suites.CURRENT[column]
        ((_, attempt),) = method.attempts(eps)
        adversarial = attempt(View(network, method.sees("current")), X, Y, seed=0, classes=10)
        return int((network(adversarial).argmax(1) == Y).sum())

    def right_then(column):
        return int((network(STORED[f"art010/{column}"]).argmax(1) == Y).sum())

    assert right("linf-cw", 0.3) > right_then("linf-cw") + 20
    assert right("l2-deepfool", float("inf")) < right_then("l2-deepfool")
