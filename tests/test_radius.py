"""The radius of an image: exact on linear models, also where pixels clip; monotone in budget; never above AutoAttack."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from fpdlib import evaluation, training
from fpdlib.attacks.methods import AutoAttack
from fpdlib.attacks.radius import Radius, Search
from fpdlib.attacks.spec import AttackSpec
from fpdlib.attacks.views import View
from fpdlib.errors import FPDError
from fpdlib.network.fpd import build
from fpdlib.paper.profiles import PROFILES
from fpdlib.paper.variants import VARIANTS

SMALL = Radius(fmn_steps=100, rounds=((0.9, 30), (0.97, 50)))


class Linear(nn.Module):
    """Two classes; u_1 - u_0 = w.x + b. tanh saturates it where gain is large."""

    def __init__(self, gain=1.0, size=6):
        super().__init__()
        draws = torch.Generator().manual_seed(0)
        self.weight = nn.Parameter(torch.randn(3 * size * size, generator=draws) * 0.3)
        self.bias, self.gain = nn.Parameter(-self.weight.detach().sum() / 2), gain
        self.spec = type("Spec", (), {"num_classes": 2, "image_size": size})()

    def pre_squeeze(self, x):
        u = (x.flatten(1) @ self.weight + self.bias) * self.gain
        return torch.stack([-u, u], 1)

    def forward(self, x):
        logits = self.pre_squeeze(x)
        return logits.tanh() if self.gain > 1 else logits


def exact(model, x):
    """The smallest L-inf perturbation within [0, 1] that turns the sign of w.x + b, by bisection over its closed form."""
    w, u = model.weight.detach().double(), x.flatten(1).double() @ model.weight.detach().double() + model.bias.double()
    direction = -u.sign()[:, None] * w.sign()
    room = torch.where(direction > 0, 1 - x.flatten(1).double(), x.flatten(1).double())
    low, high = torch.zeros(len(x), dtype=torch.float64), torch.ones(len(x), dtype=torch.float64)
    for _ in range(50):
        middle = (low + high) / 2
        reach = (torch.minimum(room, middle[:, None]) * w.abs()).sum(1)
        low, high = torch.where(reach < u.abs(), middle, low), torch.where(reach < u.abs(), high, middle)
    return high


def images(count=24, edge=False):
    x = torch.rand(count, 3, 6, 6, generator=torch.Generator().manual_seed(1))
    return (x - 0.5).mul(3).add(0.5).clamp(0, 1) if edge else x


def search(model, method, x, y, seed=0, overflow="confirmed"):
    model.eval().requires_grad_(False)
    return method.search(model, View(model, "logits").eval(), x, y, seed, model.spec.num_classes, overflow)


@pytest.mark.parametrize("gain", [1.0, 1e4])
@pytest.mark.parametrize("edge", [False, True], ids=["inside", "at the edge"])
def test_a_linear_models_radius_is_found(gain, edge):
    """With gain, tanh is exactly +-1 and its gradient 0: only the logits before it lead anywhere."""
    model, x = Linear(gain), images(edge=edge)
    y = evaluation.predict(model, x)
    found = search(model, SMALL, x, y)
    true = exact(model, x).float()
    assert found.found.all() and (found.radius >= true - 1e-5).all()
    assert ((found.radius - true) / true).median() < 0.02 and ((found.radius - true) / true).max() < 0.1
    size = (found.images - x).flatten(1).abs().amax(1)
    assert torch.allclose(size, found.radius, atol=1e-6) and (evaluation.predict(model, found.images) != y).all()
    assert found.images.min() >= 0 and found.images.max() <= 1


def test_zero_if_misclassified_and_one_if_never_broken():
    model, x = Linear(), images()
    y = evaluation.predict(model, x)
    y[:5] = 1 - y[:5]
    found = search(model, SMALL, x, y)
    assert (found.radius[:5] == 0).all() and (found.radius[5:] > 0).all() and found.found.all()
    assert torch.equal(found.images[:5], x[:5])

    class Stubborn(Linear):
        def pre_squeeze(self, x):
            return super().pre_squeeze(x) * 0 + torch.tensor([1.0, 0.0])

    found = search(Stubborn(), SMALL, x, torch.zeros(len(x), dtype=torch.long))
    assert (found.radius == 1).all() and not found.found.any()


def test_more_budget_never_finds_less():
    model, x = Linear(), images(edge=True)
    y = evaluation.predict(model, x)
    weak = replace(SMALL, fmn_steps=5)
    rounds = ((0.85, 25), (0.95, 25), (0.97, 25))
    radii = [search(model, replace(weak, rounds=rounds[:count]), x, y).radius for count in range(4)]
    for less, more in pairwise(radii):
        assert (more <= less).all()
    assert radii[-1].mean() < radii[0].mean()


def test_a_find_counts_only_if_the_deployed_output_is_fooled_and_it_is_nearer():
    model, x = Linear(), images(4)
    y = evaluation.predict(model, x)
    state = Search(model, x, y, "confirmed")
    everyone = torch.arange(4)
    state.consider(everyone, torch.full_like(x, torch.nan))  # an attack that broke down
    state.consider(everyone, x)
    assert not state.found.any() and (state.radius == 1).all()
    far = (x - 0.9 * (model.weight.view(1, 3, 6, 6) * (2 * y - 1).view(-1, 1, 1, 1)).sign()).clamp(0, 1)
    state.consider(everyone, far)
    first = state.radius.clone()
    assert state.found.all() and (first < 0.9).all()  # pulled in
    state.consider(everyone, far)
    assert torch.equal(state.radius, first)


def test_the_outcome_of_a_radius():
    class Test:
        labels = torch.cat([evaluation.predict(Linear(), images()), torch.tensor([0, 1])])

        def __len__(self):
            return len(self.labels)

        def batch(self, index):
            return torch.cat([images(), images(2)])[index]

    splits = type("Splits", (), {"test": Test(), "name": "made-up"})()
    spec = AttackSpec("radius", "sound", SMALL, (1.0,), images=26, batch_size=13)
    frame, counts = evaluation.evaluate(Linear().eval(), splits, spec, 0)
    assert len(frame) == 26 and list(frame.columns) == list(evaluation.COLUMNS) and counts["broken"]["radius"] >= 24
    assert counts["forwards"] > 26 * 100 and counts["backwards"] > 26 * 100
    radii = evaluation.radii(frame)
    assert radii.between(0, 1).all() and len(radii) == 26
    by_index = frame.set_index("index").loc[range(24), "linf"].to_numpy()
    assert by_index == pytest.approx(exact(Linear(), images()).numpy(), rel=0.1, abs=1e-4)


def test_radii_of_a_ladder():
    rows = [
        (0, 0.1, 0.1, False),
        (0, 0.3, 0.28, True),
        (1, 0.1, 0.09, True),
        (1, 0.3, 0.09, True),
        (2, 0.1, 0.1, False),
        (2, 0.3, 0.3, False),
    ]
    frame = pd.DataFrame(rows, columns=["index", "eps", "linf", "broken"])
    assert evaluation.radii(frame).to_dict() == {0: 0.28, 1: 0.09, 2: np.inf}
    frame["l2"], frame["adversarial_prediction"] = 2 * frame["linf"], [0, -1, 1, 1, 0, 0]
    assert evaluation.radii(frame, "l2").to_dict() == {0: 0.56, 1: 0.18, 2: np.inf}
    assert evaluation.radii(frame, numbers_only=True).to_dict() == {0: np.inf, 1: 0.09, 2: np.inf}


@pytest.mark.parametrize("change", [{"norm": "l2"}, {"rounds": ((0.9, 0),)}, {"rounds": ((1.0, 5),)}, {"fmn_steps": -1}])
def test_wrong_radii_are_named(change):
    with pytest.raises(FPDError, match="accepted: norm 'linf'"):
        Radius(**change)


@pytest.mark.parametrize("name", ["ReLU", "Deep"])
def test_never_above_autoattack(name, sample):
    """At two radii, as many images stand as AutoAttack leaves, or fewer (one more is allowed); on networks of seconds (`benchmarks/
    radius_vs_autoattack.py` has trained ones)."""
    smoke = PROFILES["smoke"]
    model = build(VARIANTS[name].spec(smoke), 0)
    training.train(model, VARIANTS[name].recipe(replace(smoke, recipe=smoke.recipe | {"images": 4000})), sample, 0)
    spec = AttackSpec("r", "sound", Radius(fmn_steps=50, rounds=((0.9, 30), (0.97, 50))), (1.0,), images=30, batch_size=30)
    frame, _ = evaluation.evaluate(model, sample, spec, 0)
    radii = evaluation.radii(frame)
    standing = radii[radii > 0]
    assert len(standing) > 10
    for eps in np.quantile(standing, (0.3, 0.6)):
        strong = replace(spec, method=AutoAttack(("apgd-ce", "apgd-t"), iterations=20, targets=3), eps=(float(eps),))
        left = int(evaluation.robust(evaluation.evaluate(model, sample, strong, 0)[0]).iloc[:, -1].sum())
        assert int((radii > eps).sum()) <= left + 1
