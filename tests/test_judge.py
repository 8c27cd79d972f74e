"""A network of one's own, judged: known answers with the flags they have to raise, bad input, budget, the command line."""

import argparse
import functools
import json
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

import fpdlib
from fpdlib import __main__, data
from fpdlib.attacks.methods import PGD
from fpdlib.errors import BudgetExhausted, FPDError
from fpdlib.judgement import against, judge, loading, subject
from fpdlib.judgement.judge import Judgement, doubts, write
from fpdlib.judgement.subject import Squeezed, Subject, optimises

QUICK = {"few": 30, "steps": 10, "queries": 100}
COUNT = 30


class Linear(nn.Module):
    """Two classes by the mean of all pixels: an image falls exactly where its mean crosses a half."""

    def __init__(self, scale=10.0):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(scale))

    def forward(self, x):
        u = self.scale * (x.flatten(1).mean(1) - 0.5)
        return torch.stack([-u, u], 1)


class Wrapped(nn.Module):
    def __init__(self, inner, change):
        super().__init__()
        self.inner, self.change = inner, change

    def forward(self, x):
        return self.change(self.inner(x))


class Saturated(Wrapped):
    """Tanh of logits far beyond 9: the deployed gradient is exactly zero."""

    def pre_squeeze(self, x):
        return self.inner(x)


class Optimising(Linear):
    def forward(self, x):
        with torch.enable_grad():
            z = x.detach().requires_grad_()
            torch.autograd.grad(super().forward(z).sum(), z)
        return super().forward(x)


class Random(Linear):
    def forward(self, x):
        return super().forward(x + 0.2 * torch.randn_like(x))


class InPlace(Linear):
    def forward(self, x):
        return super().forward(x.sub_(0.01))


class Behind(Saturated):
    """Saturated, without its method: the same outputs, and no gradient of either."""

    pre_squeeze = None


def half_trained(inner):
    """Evaluation mode, but for one module."""
    model = nn.Sequential(inner, nn.Dropout()).eval()
    model[1].train()
    return model


@pytest.fixture
def grey():
    """Images of one grey each, 0.2 to 0.8 without the middle: their distance from the border is known."""
    level = torch.cat([torch.linspace(0.2, 0.4, COUNT // 2), torch.linspace(0.6, 0.8, COUNT // 2)])
    return level[:, None, None, None].expand(-1, 3, 8, 8).contiguous(), (level > 0.5).long()


def test_a_linear_model_falls_exactly_where_it_has_to(grey, tmp_path):
    x, y = grey
    found = judge(Linear().eval(), x, y, eps=0.21, store=tmp_path, **(QUICK | {"steps": 100}))
    distance = (x[:, 0, 0, 0] - 0.5).abs()
    assert found.complete and not found.flags and found.clean.value == 1
    assert found.worst.n == COUNT and found.worst.value == pytest.approx(float((distance > 0.21).float().mean()))
    index = found.radius.index.to_numpy()
    assert np.abs(found.radius.to_numpy() - distance[index].numpy()).max() < 0.007
    wide = judge(Linear().eval(), x, y, norm="l2", eps=0.21 * np.sqrt(192), store=tmp_path, **QUICK)
    assert wide.worst.value == pytest.approx(found.worst.value) and not len(wide.radius)


def test_adversarial_training_raises_no_flag(tmp_path):
    """Known answer: a committed CNN with fast adversarial training, 82.93 % in the literature. An attack that finds a little more
    than plain PGD does not make its accuracy less real."""
    trained = fpdlib.load_network("CNN (fast AT, 30 epochs)", setting="anchor", device="cpu")
    found = judge(trained, *loading.test_images("mnist-sample", COUNT, 28), store=tmp_path, **QUICK)
    assert not found.flags and found.worst.low <= 0.88 and found.worst.high >= 0.75


@pytest.mark.parametrize(("squeezed", "flags"), [(False, set()), (True, {"masked"})])
def test_weak_steps_are_not_masking(squeezed, flags):
    """Of 100 images 95 stand under plain PGD and 80 under stronger gradients: masked only if those saw more than the output."""

    def left(standing):
        index = np.arange(100)
        told = {"index": index, "label": 0, "clean_prediction": 0, "adversarial_prediction": 0, "gradient_is_zero": False}
        return pd.DataFrame(told | {"broken": index >= standing})

    outcomes = {"published": left(95), "current": left(95), "gradients": left(80), "square": left(80), "eps 1": left(0)}
    found = Judgement("linf", 0.3, outcomes, {}, {})
    subject = (Squeezed if squeezed else Subject)(nn.Identity(), 10, False)
    assert set(dict(doubts(subject, found))) == flags


@pytest.mark.parametrize(("scale", "rounded"), [(60.0, True), (6000.0, False)], ids=["12 before tanh", "1200"])
def test_a_gradient_that_float64_has_is_said_to_be_rounded_away(scale, rounded, tmp_path):
    x = torch.stack([torch.full((1, 4, 4), 0.3 + 0.4 * (number % 2)) for number in range(10)])
    found = judge(Wrapped(Linear(scale), torch.tanh).eval(), x, torch.arange(10) % 2, store=tmp_path, **QUICK)
    assert found.stands("published").all() and ("In float64 it has one on 10 of 10" in found.flags["zero gradients"]) == rounded


def test_saturated_logits_keep_their_accuracy_as_published_alone(sample, tmp_path):
    """Known answer: at least 90 % through tanh, at most 25 % in the worst case; flagged for it."""
    x, y = sample.test.batch(slice(0, COUNT)), sample.test.labels[:COUNT]
    plain = fpdlib.load_network("ReLU", device="cpu")
    honest = judge(plain, x, y, store=tmp_path, **QUICK)
    assert honest.worst.value == 0 and not honest.flags

    loud = Wrapped(plain, lambda out: 1e3 * (out - out.topk(2).values.mean(1, keepdim=True)))  # the winner above 0, the others below
    found = judge(Saturated(loud, torch.tanh).eval(), x, y, store=tmp_path, **QUICK)
    told = found.summary()["accuracy"]
    assert told["published"]["value"] >= 0.9 and told["worst case"]["value"] <= 0.25
    assert set(found.flags) == {"zero gradients", "masked"}
    assert str(found).startswith("NOT ROBUSTNESS, flagged: zero gradients, masked")
    assert "What stands below is not robustness" in found.page.read_text() and "No flag was raised" in honest.page.read_text()
    assert re.match(r"-?\+?\d+\.\d points \[.*n = 30; of these two networks", against(honest, found))


def test_what_is_noticed_by_looking(grey, tmp_path):
    x, y = grey
    torch.manual_seed(0)
    assert "random" in judge(Random().eval(), x, y, store=tmp_path, **QUICK).flags
    assert "random" not in judge(Random().eval(), x, y, eot=2, store=tmp_path, **QUICK).flags  # averaged, no answer changes
    noise = Wrapped(Linear(), lambda out: out + 20 * torch.randn_like(out)).eval()
    assert "a break may be chance" in judge(noise, x, y, eot=2, store=tmp_path, **QUICK).flags["random"]
    soft = judge(Wrapped(Linear(), lambda out: out.softmax(1)).eval(), x, y, eps=0.2, store=tmp_path, **QUICK)
    assert (
        set(soft.flags) == {"probabilities"}
        and soft.worst.value == judge(Linear().eval(), x, y, eps=0.2, store=tmp_path, **QUICK).worst.value
    )
    assert optimises(Optimising(), x) and not optimises(Linear(), x)
    assert "optimises" in judge(Optimising().eval(), x, y, store=tmp_path, **QUICK).flags
    assert "chance" in judge(Linear().eval(), x, 1 - y, store=tmp_path, **QUICK).flags


class Stairs(Linear):
    """Piecewise constant: no gradient anywhere, and nothing that a gradient attack could follow."""

    def forward(self, x):
        return super().forward((x * 50).round() / 50)


def test_what_only_an_attack_without_gradients_finds(grey, tmp_path):
    x, y = grey
    found = judge(Stairs().eval(), x, y, eps=0.28, store=tmp_path, **QUICK)
    assert {"zero gradients", "black box"} <= set(found.flags)
    assert found.summary()["accuracy"]["square"]["value"] < 0.7


def test_another_model_of_the_same_weights_is_judged_anew(grey, tmp_path):
    """What is stored is about code, attributes and answers, not about weights alone; and an attack of one's own may have changed."""
    x, y = grey
    fine, coarse = (Wrapped(Linear(), lambda out, levels=levels: (out * levels).round() / levels).eval() for levels in (100, 1))
    assert judge(fine, x, y, store=tmp_path, **QUICK).page != judge(coarse, x, y, store=tmp_path, **QUICK).page
    still = judge(Linear().eval(), x, y, eps=0.15, attack=lambda model, x, y, eps: x, store=tmp_path, **QUICK)
    moved = judge(Linear().eval(), x, y, eps=0.15, attack=lambda model, x, y, eps: x + eps * (1 - 2 * y)[:, None, None, None],
                  store=tmp_path, **QUICK)  # fmt: skip
    assert still.stands("own").mean() == 1 > moved.stands("own").mean() and still.counts["gradients"] == moved.counts["gradients"]


class Noisy(nn.Module):
    """Noise on the answers, of a size that neither name nor weights say."""

    def __init__(self, size, generator=None):
        super().__init__()
        self._size, self.inner, self.generator = size, Linear(), generator

    def forward(self, x):
        out = self.inner(x)
        return out + self._size * torch.randn(out.shape, generator=self.generator)


def test_a_random_model_is_told_from_another_by_its_attributes(grey, tmp_path):
    """With torch's own generator by its answers too; with one of its own by the attributes alone."""
    x, y = grey
    for generator in (None, torch.Generator().manual_seed(0)):
        quiet, loud = (judge(Noisy(size, generator).eval(), x, y, eot=4, store=tmp_path, **QUICK) for size in (0.1, 5.0))
        assert quiet.page != loud.page and loud.clean.value < quiet.clean.value == 1
        told = []
        again = judge(Noisy(0.1, generator).eval(), x, y, eot=4, store=tmp_path, say=told.append, **QUICK)
        assert again.page == quiet.page and all("from the store" in words for words in told)
        assert "4 runs are averaged" in str(again) and again.summary()["settings"]["eot"] == 4
    assert "averaging 3 runs changes nothing" in str(judge(Linear().eval(), x, y, eot=3, store=tmp_path, **QUICK))


class Pulled(Linear):
    """Its answer flips where a pixel is above `high`, which is no plain value."""

    def __init__(self, high):
        super().__init__()
        self.high = high

    def forward(self, x):
        return super().forward(x) * torch.where(x.flatten(1).amax(1, keepdim=True) > float(self.limit()), -1, 1)

    def limit(self):
        return getattr(self.high, "high", self.high)


@pytest.mark.parametrize("kind", [torch.tensor, np.float32, np.asarray, lambda high: SimpleNamespace(high=high)])
def test_attributes_that_are_no_plain_values_are_part_of_what_is_judged(grey, tmp_path, kind):
    """On the images themselves both answer alike."""
    far, near = (judge(Pulled(kind(high)).eval(), *grey, eps=0.1, store=tmp_path, **QUICK) for high in (5.0, 0.81))
    assert far.page != near.page and near.worst.value < far.worst.value


def test_noise_of_another_library_is_seeded_for_what_is_judged(grey, tmp_path):
    class Elsewhere(Noisy):
        def forward(self, x):
            return self.inner(x) + torch.from_numpy(self._size * np.random.randn(len(x), 2).astype("float32"))

    pages = [judge(Elsewhere(np.float32(size)).eval(), *grey, eot=2, store=tmp_path, **QUICK).page for size in (0.01, 9.0, 0.01)]
    assert pages[0] == pages[2] != pages[1]
    before = np.random.get_state()[1].copy(), torch.random.get_rng_state()
    with subject.seeded(3):
        first = np.random.rand(), float(torch.rand(()))
    with subject.seeded(3):
        assert (np.random.rand(), float(torch.rand(()))) == first
    assert (np.random.get_state()[1] == before[0]).all() and torch.equal(torch.random.get_rng_state(), before[1])


def test_a_closure_whose_variable_comes_later_is_described():
    def calls():
        return later

    early = subject.described(calls)
    later = 1
    assert calls() == later and early != subject.described(calls)


def test_what_a_forward_pass_changes_is_not_part_of_what_is_judged(grey, tmp_path):
    class Counting(Linear):
        def __init__(self):
            super().__init__()
            self.calls, self.sizes = 0, {}
            self.register_buffer("seen", torch.zeros(()))

        def forward(self, x):
            self.calls += 1
            self.seen += 1
            self.sizes[len(x)] = self.calls
            return super().forward(x)

    model = Counting().eval()
    assert judge(model, *grey, store=tmp_path, **QUICK).page == judge(model, *grey, store=tmp_path, **QUICK).page


def test_pre_squeeze_is_part_of_what_is_judged(grey, tmp_path):
    """An attribute of the model, with and without its gradient."""
    x, y = grey
    pages = []
    for change in (torch.Tensor.detach, lambda out: out):
        model = Behind(Linear(), lambda out: (1000 * out).tanh()).eval()
        model.pre_squeeze = lambda x, model=model, change=change: change(model.inner(x))
        pages.append(judge(model, x, y, eps=0.2, store=tmp_path, **QUICK))
    assert pages[0].page != pages[1].page and pages[1].worst.value < pages[0].worst.value


def test_complex_weights_are_left_as_they_are(grey, tmp_path):
    class Fourier(Linear):
        def __init__(self):
            super().__init__()
            self.filter = nn.Parameter(torch.ones(8, 5, dtype=torch.cfloat))

        def forward(self, x):
            return super().forward(torch.fft.irfft2(torch.fft.rfft2(x) * self.filter, s=(8, 8)))

    model = Fourier().eval()
    found = judge(model, *grey, eps=0.2, store=tmp_path, **QUICK)
    assert found.clean.value == 1 and model.filter.dtype == torch.cfloat and model.scale.dtype == torch.float32


def test_what_cannot_be_compared_is_one_error(grey, tmp_path):
    x, y = grey
    one = judge(Linear().eval(), x, y, eps=0.2, store=tmp_path, **QUICK)
    for other, words in (
        (judge(Linear().eval(), x, y, eps=0.1, store=tmp_path, **QUICK), "with eps 0.2, the second with 0.1"),
        (judge(Linear().eval(), x.flip(0), y.flip(0), eps=0.2, store=tmp_path, **QUICK), "judged on other images"),
        (judge(Linear().eval(), x, y, eps=0.2, store=tmp_path, **QUICK | {"few": 1}), "1 image that both networks were attacked on"),
    ):
        with pytest.raises(FPDError, match=words):
            against(one, other)


def test_where_nothing_falls_no_radius_is_told(grey, tmp_path):
    x, y = grey
    always = Wrapped(Linear(), lambda out: 0 * out + torch.tensor([0.0, 1.0])).eval()
    found = judge(always, x[15:18], y[15:18], store=tmp_path, **QUICK)
    assert not found.fell_first and "of half of 3 images no attack found where they fall" in str(found)
    assert "chance" not in found.flags  # three of three right


@pytest.mark.parametrize(
    ("before", "words"),
    [
        (lambda self, x: self.nothing, "the model's pre_squeeze failed: AttributeError"),
        (
            lambda self, x: self.inner(x)[:, :1],
            r"pre_squeeze gives \(20, 1\) torch.float32; accepted: logits as the output, \(20, 2\)",
        ),
        (lambda self, x: -self.inner(x), "ranks another class first than its output on 20 of 20 images"),
        (lambda self, x: 0 * self.inner(x), r"ranks another class first than its output on \d+ of 20 images"),
        (lambda self, x: None, "pre_squeeze gives NoneType"),
    ],
)
def test_logits_before_squeezing_that_are_none_are_one_error(grey, tmp_path, before, words):
    model = type("Odd", (Wrapped,), {"pre_squeeze": before})(Linear(), torch.tanh).eval()
    x, y = (part.flip(0) for part in grey)
    with pytest.raises(FPDError, match=words):
        judge(model, x, y, store=tmp_path, **QUICK)


def test_scaled_logits_hide_nothing_from_other_losses(grey, tmp_path):
    """A softmax of huge logits has no gradient, their margin has: flagged, and the radii stand."""
    x, y = grey
    four = Wrapped(Linear(1e4), lambda out: torch.cat([out, torch.full_like(out, -5e4)], 1)).eval()
    found = judge(four, x, y, eps=0.31, store=tmp_path, **QUICK | {"steps": 100})
    assert set(found.flags) == {"zero gradients", "eps 1"} and "; other losses have" in found.flags["zero gradients"]
    assert found.worst.value == 0 and found.searchable and "<svg" in found.page.read_text()
    distance = (x[:, 0, 0, 0] - 0.5).abs()
    assert np.abs(found.radius.to_numpy() - distance[found.radius.index.to_numpy()].numpy()).max() < 0.01
    two = judge(Linear(1e4).eval(), x, y, eps=0.31, store=tmp_path, **QUICK)
    assert two.worst.value == 0 and not two.searchable  # of two classes there is no targeted loss that is free of the scale
    near = judge(four, x, y, eps=0.15, store=tmp_path, **QUICK | {"steps": 100})
    assert 0 < near.worst.value < 1 and near.searchable  # what stands within eps was found beyond


def test_one_answer_for_every_image_is_flagged(grey, tmp_path):
    x, y = grey
    most = torch.cat([torch.arange(5), torch.arange(15, 30)])  # 15 of 20 images are of one class
    always = Wrapped(Linear(), lambda out: out + torch.tensor([0.0, 100.0])).eval()
    found = judge(always, x[most], y[most], store=tmp_path, **QUICK)
    assert "every image gets class 1, 75 % of clean images right: are the weights not loaded" in found.flags["chance"]


def test_the_worst_case_rests_on_what_all_attacks_saw(grey, tmp_path):
    """An image that Square never saw does not stand because of it."""
    x, y = grey
    found = judge(Stairs().eval(), x, y, eps=0.28, store=tmp_path, **QUICK | {"few": 10})
    square = found.summary()["accuracy"]["square"]
    assert found.worst.n == square["n"] == 10 and found.worst.value <= square["value"]
    assert not found.searchable and "no attack found where they fall" in str(found)


def test_the_class_is_part_of_what_is_judged(grey, tmp_path):
    """Two classes of one file with the same answers and no gradient: only one lets an attacker look before the tanh."""
    x, y = grey
    huge = lambda out: (1000 * out).tanh()  # noqa: E731
    told = [judge(kind(Linear(), huge).eval(), x, y, store=tmp_path, **QUICK) for kind in (Behind, Saturated)]
    assert told[0].page != told[1].page and "pre_squeeze" in told[0].flags["zero gradients"]
    assert told[1].worst.value < told[0].worst.value and "masked" in told[1].flags


def test_a_model_that_runs_in_float32_alone_is_judged(grey, tmp_path):
    """Parts that are not registered, or a cast in forward: only an overflow would need double precision."""
    x, y = grey
    alone = Wrapped(Linear(), lambda out: out @ torch.eye(2)).eval()
    found = judge(alone, x, y, eps=0.2, store=tmp_path, **QUICK)
    assert found.worst.value == judge(Linear().eval(), x, y, eps=0.2, store=tmp_path, **QUICK).worst.value
    nothing = Wrapped(Linear(), lambda out: torch.where(out.amax(1, keepdim=True) > 2.9, out @ torch.eye(2) * torch.nan, out)).eval()
    assert judge(nothing, x, y, eps=0.2, store=tmp_path, **QUICK).clean.value < 1  # not a number counts as wrong


def test_the_logits_before_squeezing_are_averaged_and_need_no_graph(grey):
    x = grey[0].clone().requires_grad_()
    asked = []

    class Counting(Linear):
        def pre_squeeze(self, x):
            asked.append(len(x))
            return self(x).detach()

    out = Squeezed(Counting().eval(), 2, False, eot=3).pre_squeeze(x)
    assert len(asked) == 3 and torch.equal(torch.autograd.grad(out.sum(), x)[0], torch.zeros_like(x))


def test_what_the_search_for_radii_finds_within_epsilon_does_not_stand(grey, tmp_path):
    found = judge(Linear().eval(), *grey, eps=0.2, store=tmp_path, **QUICK)
    before, radius = found.worst.value, found.outcomes["radius"]
    standing = found.left[found.left].index[0]
    row = radius["index"] == standing
    radius.loc[row, "linf"], radius.loc[row, "broken"] = 0.1, True
    assert found.worst.value == pytest.approx(before - 1 / COUNT)


def test_unfinished_judgements_are_compared_over_what_both_have(grey, tmp_path):
    x, y = grey
    whole = judge(Linear().eval(), x, y, store=tmp_path, **QUICK)
    part = judge(Stairs().eval(), x, y, store=tmp_path, **QUICK)
    part.outcomes = {"published": part.outcomes["published"]}
    part.complete = False
    assert "over published alone: no worst case" in against(whole, part) and "the second flagged" in part.compared


def test_code_beside_the_class_is_part_of_what_is_judged(grey, tmp_path, monkeypatch):
    """A defence is repaired in a function that its class calls: the answers stay, the gradients come back."""
    x, y = grey
    code = """
import torch

def rounded(x):
    return {}

class Levels(torch.nn.Module):
    def forward(self, x):
        u = 10 * (rounded(x).flatten(1).mean(1) - 0.5)
        return torch.stack([-u, u], 1)
"""
    monkeypatch.syspath_prepend(str(tmp_path))
    found = []
    for number, body in enumerate(("(x * 50).round() / 50", "x + ((x * 50).round() / 50 - x).detach()")):
        (tmp_path / "levels.py").write_text(code.format(body) + "\n" * number)
        sys.modules.pop("levels", None)
        found.append(judge(loading.model_of("levels:Levels", None), x, y, eps=0.28, store=tmp_path / "store", **QUICK))
    assert "zero gradients" in found[0].flags and not found[1].flags
    assert found[0].worst.value > found[1].worst.value


def test_a_model_without_any_gradient_is_judged_without(grey, tmp_path):
    """A defence through numpy, as real JPEG is: what counts is Square and an attack of one's own."""
    x, y = grey

    class Numpy(Linear):
        def forward(self, x):
            return super().forward(torch.from_numpy(x.detach().cpu().numpy().round(3)))

    def toward(model, x, y, eps):
        return x + eps * (1 - 2 * y)[:, None, None, None]

    found = judge(Numpy().eval(), x, y, eps=0.2, attack=toward, store=tmp_path, **QUICK)
    assert {"no gradient", "zero gradients"} <= set(found.flags)
    assert found.worst.value == pytest.approx(float(((x[:, 0, 0, 0] - 0.5).abs() > 0.2).float().mean()), abs=0.07)


def test_a_find_on_the_border_lies_within_it(grey, tmp_path):
    """In float32 it may lie beyond by the last bit: the curve of radii ends where the worst case does."""
    x, y = grey
    found = judge(Stairs().eval(), x, y, eps=0.33, attack=lambda model, x, y, eps: x + eps * (1 - 2 * y)[:, None, None, None],
                  store=tmp_path, **QUICK)  # fmt: skip
    assert found.worst.value == 0 and (found.radius > 0.33).any()  # by the last bit
    assert "at most 0.33" in str(found) and "no curve to draw" in found.page.read_text()  # nothing led an attack
    found.flags.clear()
    write(found)
    assert re.search(r'd="M40\.0 [\d.]+.* L600\.0 210\.0"', found.page.read_text())


def test_an_attack_of_ones_own_joins_the_worst_case(grey, tmp_path):
    x, y = grey

    def darker_or_lighter(model, x, y, eps):
        return x + torch.where(y == 1, -2 * eps, 2 * eps)[:, None, None, None]  # too far: projected back

    found = judge(Stairs().eval(), x, y, eps=0.2, attack=darker_or_lighter, store=tmp_path, **QUICK)
    distance = (x[:, 0, 0, 0] - 0.5).abs()
    assert found.summary()["accuracy"]["own"]["value"] == pytest.approx(float((distance > 0.2).float().mean()), abs=0.07)
    assert found.worst.value <= found.summary()["accuracy"]["own"]["value"]
    told = found.page.read_text()
    same = judge(Stairs().eval(), x, y, eps=0.2, attack=type("", (), {"__call__": lambda self, model, x, y, eps: x.double(),
                 "__name__": "darker_or_lighter"})(), store=tmp_path, **QUICK)  # fmt: skip
    assert same.page != found.page and same.stands("own").mean() == 1  # another of the same name, and of another type
    assert "they are projected back" in str(found) and "projected back" in told and "attack darker_or_lighter" in told
    still = judge(Stairs().eval(), x, y, eps=0.2, attack=lambda model, x, y, eps: x, names=[f"i{n}" for n in range(COUNT)],
                  store=tmp_path, **QUICK)  # fmt: skip
    assert still.page.parent == found.page.parent and still.page != found.page and found.page.read_text() == told
    assert not still.notes and all(name.startswith("i") for name, _ in still.fell_first)
    assert found.summary()["broken by"]["own"]["own"] > 0 == still.summary()["broken by"]["own"]["own"]


@pytest.mark.parametrize(
    ("attack", "words"),
    [
        (lambda *_: torch.zeros(3), r"the attack gave Tensor \(3,\); accepted: a Tensor \(2, 3, 8, 8\)"),
        (lambda model, x, y, eps: x.numpy(), r"the attack gave ndarray \(2, 3, 8, 8\); accepted: a Tensor"),
        (lambda model, x, y, eps: x * float("nan"), "pixels that are not numbers"),
        (lambda model, x: x, r"the attack failed: TypeError: .* called as attack\(model, x, y, eps\)"),
        (lambda model, x, y, eps: model.nothing, "the attack failed: AttributeError: 'Linear' object has no attribute 'nothing'"),
        ("mine:attack", r"attack is 'mine:attack'; accepted: a function"),
    ],
)
def test_a_bad_attack_is_one_error_before_anything_is_made(grey, tmp_path, attack, words):
    with pytest.raises(FPDError, match=words):
        judge(Linear().eval(), *grey, eps=0.2, attack=attack, store=tmp_path, **QUICK)
    assert not list(tmp_path.iterdir())


def test_a_spent_budget_is_an_upper_bound_and_goes_on(grey, tmp_path):
    x, y = grey
    with pytest.raises(BudgetExhausted):
        judge(Linear().eval(), x, y, budget=1e-9, store=tmp_path, **QUICK)
    steps = iter(range(100))

    def slow(words):
        if next(steps) == 3:  # behind the first two attacks
            import time

            time.sleep(2)

    part = judge(Linear().eval(), x, y, budget=2.0, store=tmp_path, say=slow, **QUICK)
    assert not part.complete and set(part.outcomes) == {"published", "current"}
    assert "ended first, in gradients: the worst case is an upper bound" in str(part) and "\nat most" in str(part)
    assert "<h1>At most" in part.page.read_text()

    def own(model, x, y, eps):
        nonlocal made
        made += len(x)
        return x

    made = 0
    with pytest.raises(FPDError, match="29 names for 30 images"):
        judge(Linear().eval(), x, y, names=list(range(29)), store=tmp_path, **QUICK)
    while not judge(Linear().eval(), x, y, attack=own, budget=0.5, store=tmp_path / "own", **QUICK).complete:
        assert made < 500  # an attack that is longer than the budget goes on, too
    whole = judge(Linear().eval(), x, y, store=tmp_path, **QUICK)
    assert whole.complete and whole.worst.value <= part.worst.value
    assert judge(Linear().eval(), x, y, store=tmp_path, **QUICK).counts == whole.counts  # read, not made again
    assert judge(Linear(11.0).eval(), x, y, store=tmp_path, **QUICK).counts != whole.counts  # other weights


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda m, x, y: (m.train(), x, y), "training mode"),
        (lambda m, x, y: (m.half(), x, y), r"float16; accepted: float32"),
        (lambda m, x, y: (lambda x: x, x, y), "the model is a function"),
        (lambda m, x, y: (Wrapped(m, lambda out: out[:, 0]).eval(), x, y), r"gives \(20,\) for 20 images; accepted: logits"),
        (lambda m, x, y: (nn.Linear(4, 2).eval(), x, y), r"does not take images of shape \(20, 3, 8, 8\)"),
        (
            lambda m, x, y: (Wrapped(m, lambda out: out.bfloat16()).eval(), x, y),
            r"outputs are torch.bfloat16; accepted: torch.float32",
        ),
        (lambda m, x, y: (Wrapped(m, torch.squeeze).eval(), x, y), r"gives \(2,\) for one image; accepted: \(1, 2\)"),
        (lambda m, x, y: (Wrapped(m, lambda out: out.sigmoid().mul_(2)).eval(), x, y), "the model cannot be differentiated: Runtime"),
        (lambda m, x, y: (nn.Sequential(nn.Flatten(), nn.LazyLinear(2)).eval(), x, y), "lazy modules without weights"),
        (lambda m, x, y: (Linear(float("nan")).eval(), x, y), "scale of the model's weights: not a number somewhere"),
        (lambda m, x, y: (half_trained(m), x, y), r"^1 of the model: in training mode; call model.eval"),
        (lambda m, x, y: (Wrapped(m, lambda out: out).eval(), x.permute(0, 2, 3, 1), y), r"channels first. Transpose"),
        (lambda m, x, y: (InPlace().eval(), x, y), "the model changes the images that it is given"),
        (lambda m, x, y: (m, [x[0], x[1]], y), "images or labels are no tensors or arrays"),
        (lambda m, x, y: (m, (x - 0.13) / 0.1, y), r"put the normalisation into the model"),
        (lambda m, x, y: (m, x * 255, y), r"pixels lie in \[51, 204\]; accepted: \[0, 1\]: divide by 255"),
        (lambda m, x, y: (m, (x - 0.5) / 0.5, y), r"put the normalisation into the model"),
        (lambda m, x, y: (m, x.log() * float("nan"), y), "30 of 30 images have a pixel that is not a number"),
        (lambda m, x, y: (m, x[0], y), r"images have shape \(3, 8, 8\)"),
        (lambda m, x, y: (m, x.int(), y), r"images are torch.int32; accepted: floats in \[0, 1\], or uint8"),
        (lambda m, x, y: (m, x, y[:-1]), r"labels have shape \(29,\)"),
        (lambda m, x, y: (m, x, y.float()), "type torch.float32; accepted: one integer an image"),
        (lambda m, x, y: (m, x, y + 1), r"labels lie in 1 to 2; the model has 2 outputs: accepted 0 to 1"),
    ],
)
def test_bad_input_is_one_error(grey, tmp_path, change, words):
    with pytest.raises(FPDError, match=words):
        judge(*change(Linear().eval(), *grey), store=tmp_path, **QUICK)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"norm": "l1"}, "norm is 'l1'"),
        ({"eps": 0}, "eps is 0"),
        ({"eps": 2}, r"eps is 2; accepted for linf: up to 1, in pixel units \(is it 2/255"),
        ({"eot": 0}, "eot is 0"),
        ({"eps": "0.3"}, "eps is '0.3'; accepted: a number above 0, such as 8/255"),
        ({"budget": "3m"}, "budget is '3m'; accepted: a number above 0 of seconds"),
        ({"steps": 0}, "steps is 0"),
        ({"budget": float("nan")}, "budget is nan"),
        ({"norm": "l2"}, "eps is not given; for l2 name one: the paper's 1.5 at 64 pixels is 0.19 at your 8"),
        ({"norm": "l2", "eps": float("inf")}, "eps is inf"),
        ({"say": "x"}, "say is 'x'"),
    ],
)
def test_bad_options_are_one_error(grey, tmp_path, options, words):
    with pytest.raises(FPDError, match=words):
        judge(Linear().eval(), *grey, store=tmp_path, **options)


def test_the_model_is_left_as_it_was(grey, tmp_path):
    model = Linear().eval()
    judge(model, *grey, store=tmp_path, **QUICK)
    assert model.scale.requires_grad and model.scale.dtype == torch.float32 and not model.training


@pytest.fixture
def command(tmp_path, monkeypatch, capsys, grey):
    """The command line in a folder with a module `mine`, weights and images: command(options) -> status, stdout, stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "mine", None)
    del sys.modules["mine"]
    (tmp_path / "mine.py").write_text(
        "from test_judge import Linear, Stairs\n\nnumber = 3\n\n\ndef broken():\n    return 3\n"
        "\n\ndef asks(width):\n    return Linear()\n"
        "\n\nclass Talks(Linear):\n    def forward(self, x):\n        print('hello')\n        return super().forward(x)\n"
    )
    (tmp_path / "typo.py").write_text("def build(:\n")
    save_file({"scale": torch.tensor(10.0)}, tmp_path / "w.safetensors")
    save_file({"other": torch.tensor(10.0)}, tmp_path / "bad.safetensors")
    save_file({"module.scale": torch.tensor(10.0)}, tmp_path / "wrapped.safetensors")
    (tmp_path / "w.pt").write_bytes(b"PK" * 20)
    x, y = grey
    np.savez(tmp_path / "grey.npz", images=x.numpy(), labels=y.numpy())
    np.savez(tmp_path / "empty.npz", pixels=x.numpy())
    (tmp_path / "cut.npz").write_bytes((tmp_path / "grey.npz").read_bytes()[:500])
    np.savez(tmp_path / "words.npz", images=x.numpy(), labels=np.array(["a"] * len(y)))
    np.savez(tmp_path / "few.npz", images=x.numpy(), labels=y.numpy()[:5])

    def run(*options):
        monkeypatch.setattr("sys.argv", ["fpdlib", "judge", "--store", str(tmp_path / "store"), *options])
        status = __main__.main()
        return status, *capsys.readouterr()

    return run


def test_the_command_judges_and_compares(command):
    common = ("--data", "grey.npz", "--images", "20", "--eps", "0.2")
    status, said, _ = command("--model", "mine.py:Linear", *common[:2], "--eps", "0.2")
    assert status == 0 and "mine.py:Linear on 30 images of grey.npz" in said  # all that there are
    status, said, _ = command("--model", "mine:Linear", "--weights", "w.safetensors", *common)
    assert status == 0 and "less where images fall early" in said and "worst case" in said and "judgement.html" in said
    status, said, _ = command("--model", "mine:Linear", "--model", "mine:Stairs", *common)
    assert (
        status == 0 and "grey.npz against mine:Stairs on 20" in said and "n = 20; of these two networks; the second flagged" in said
    )
    assert "mine:Stairs on 20 images of grey.npz" in said
    pages = re.findall(r"^(/.*judgement\.html)$", said, re.M)
    assert len(pages) == 2
    for page in pages:  # each has the comparison
        assert "grey.npz against mine:Stairs on 20 images" in Path(page).read_text()
    both = ("--model", "mine:Linear", "--weights", "w.safetensors", "--model", "mine:Stairs", "--weights", "-")
    status, said, _ = command(*both, "--json", *common[:-1], "1/5")
    first, second = json.loads(said)
    assert status == 0 and first["title"] == "mine:Linear (w.safetensors) on 20 images of grey.npz"
    assert re.search(r"against mine:Stairs .*: [+-]\d+\.\d points", second["compared"]) and second["eps"] == 0.2
    assert second["comparison"]["n"] == 20 and second["comparison"]["low"] <= second["comparison"]["effect"]
    numbers = np.load("grey.npz")["images"][:, 0, 0, 0]
    name, radius = first["fell first"][0]  # the number of the image in the file
    assert radius == pytest.approx(abs(numbers[int(name)] - 0.5), abs=0.01)
    status, said, wrong = command("--model", "mine:Linear", "--model", "mine:Stairs", "--few", "1", *common)
    assert status == 2 and said.count("worst case") == 2 and "1 image that both networks were attacked on" in wrong
    status, said, _ = command("--model", "mine:Talks", "--json", *common)
    (told,) = json.loads(said)
    assert (
        Path(told["page"]).name == "judgement.html" and status == 0 and told["complete"] and told["accuracy"]["worst case"]["n"] == 20
    )
    status, said, _ = command("--model", "mine:Linear", "--json", "--budget", "0.000001s", "--few", "7", *common)
    assert status == 3 and not any(one["complete"] for one in json.loads(said))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--model", "mine"), "accepted: package.module:name"),
        (("--model", "nothere:build"), "It was looked for in /"),
        (("--model", "typo:build"), "typo cannot be imported: SyntaxError"),
        (("--model", "mine:asks"), "model is 'mine:asks', which failed: TypeError"),
        (("--model", "mine:Linear", "--data", "few.npz"), "has 30 images and labels of shape (5,)"),
        (("--model", "mine:nothing"), "mine has no 'nothing'; it has broken, asks, Talks"),
        (("--model", "mine:broken"), "gives a int"),
        (("--model", "mine:number"), "gives a int"),
        (("--model", "mine:Linear", "--weights", "bad.safetensors"), "do not fit mine:Linear"),
        (("--model", "mine:Linear", "--weights", "none.safetensors"), "cannot be read (FileNotFoundError"),
        (("--model", "mine:Linear", "--weights", "w.pt"), "accepted: a file of `safetensors.torch.save_file`."),
        (("--model", "mine:Linear", "--weights", "wrapped.safetensors"), "prefix of a wrapper"),
        (("--model", "mine:Linear", "--data", "grey.npz", "--size", "8"), "--size and --channels are for data sets and folders"),
        (("--model", "mine:Linear", "--data", "nothere"), "data is 'nothere' (there is no such file or folder); accepted: "),
        (("--model", "mine:Linear", "--data", "empty.npz"), "has pixels; accepted: `images` and `labels`"),
        (("--model", "mine:Linear", "--data", "grey.npz", "--images", "31"), "31 images were asked for; grey.npz has 30"),
        (("--model", "mine:Linear", "--data", "."), "has no images"),
        (("--model", "mine:Linear", "--data", "cut.npz"), "cut.npz' cannot be read"),
        (("--model", "mine:Linear", "--data", "words.npz"), "words.npz' cannot be read"),
        (("--model", "mine:Linear", "--data", "grey.npz", "--images", "0"), "images is 0; accepted: an integer from 1"),
        (("--model", "mine:Linear", "--data", "mnist-sample", "--size", "0"), "size is 0; accepted: an integer from 1"),
        (("--model", "mine:Linear", "--norm", "l2"), "eps is not given"),
        (("--model", "mine:Linear", "--model", "mine:broken"), "gives a int"),
        (("--model", "mine:Linear", "--attack", "mine:none"), "mine has no 'none'"),
        (("--model", "mine:Linear", "--model", "mine:Linear", "--weights", "w.safetensors"), "2 models and 1 weights"),
    ],
)
def test_a_bad_command_is_one_line(command, options, words):
    options = options if "--data" in options else (*options, "--data", "grey.npz", "--images", "20")
    status, _, said = command(*options)
    assert status == 2 and words in said and said.startswith("error: ") and len(said.splitlines()) == 1


def test_an_epsilon_may_be_a_fraction():
    assert __main__.fraction("8/255") == 8 / 255 and __main__.fraction("0.3") == 0.3 and __main__.fraction("1e-2") == 0.01
    for text in ("8/0", "many", ""):
        with pytest.raises((ValueError, argparse.ArgumentTypeError)):
            __main__.fraction(text)


def test_a_folder_of_images_is_read_in_a_fixed_order(tmp_path):
    from torchvision.transforms.v2.functional import to_pil_image

    from fpdlib.judgement.loading import test_images as images_of

    for label, level in enumerate((0.2, 0.8)):
        (tmp_path / f"class{label}").mkdir()
        for number in range(4):
            to_pil_image(torch.full((3, 12, 12), level)).save(tmp_path / f"class{label}" / f"{number}.png")
    x, y = images_of(str(tmp_path), 8, 8)
    assert x.shape == (8, 3, 8, 8) and torch.allclose(x[:, 0, 0, 0], torch.where(y == 1, 0.8, 0.2), atol=0.01)
    assert len(data.load("mnist-sample", 32).test) > 100 and images_of("mnist-sample", 5, 32)[0].shape == (5, 3, 32, 32)


def test_hidden_folders_are_no_class_and_grey_images_of_16_bits_keep_their_shades(tmp_path):
    for name, level in (("a", 8000), ("b", 40000)):
        (tmp_path / name).mkdir()
        Image.fromarray(np.full((12, 12), level, dtype=np.uint16)).save(tmp_path / name / "0.png")
    (tmp_path / ".ipynb_checkpoints").mkdir()
    x, y, names = loading.read(str(tmp_path), 2, 8)
    assert dict(zip(names, y.tolist(), strict=True)) == {"a/0.png": 0, "b/0.png": 1}
    assert sorted(round(float(image.mean()), 2) for image in x) == [
        pytest.approx(8000 / 65536, abs=0.01),
        pytest.approx(0.61, abs=0.01),
    ]


class Weighted(Linear):
    """Flips its answer where a pixel is above what its class says."""

    limit = 5.0

    def forward(self, x):
        return super().forward(x) * torch.where(x.flatten(1).amax(1, keepdim=True) > self.limit, -1, 1)


BOUND = 5.0


class Global(Weighted):
    @property
    def limit(self):
        return BOUND


class Partial(Weighted):
    def __init__(self, limit):
        super().__init__()
        self.call = functools.partial(max, limit)

    @property
    def limit(self):
        return self.call(0.0)


def test_what_a_class_a_module_and_a_partial_hold_is_part_of_what_is_judged(grey, tmp_path, monkeypatch):
    """On the images themselves all answer alike."""

    def page(build):
        return judge(build().eval(), *grey, eps=0.1, store=tmp_path, **QUICK).page

    first = page(Weighted), page(Global), page(lambda: Partial(5.0))
    assert (page(Weighted), page(Global), page(lambda: Partial(5.0))) == first
    monkeypatch.setattr(Weighted, "limit", 0.81)
    monkeypatch.setattr(sys.modules[__name__], "BOUND", 0.81)
    assert page(Weighted) != first[0] and page(Global) != first[1] and page(lambda: Partial(0.81)) != first[2]


def test_a_new_version_of_an_attack_is_made_anew(grey, tmp_path, monkeypatch):
    before = judge(Linear().eval(), *grey, store=tmp_path, **QUICK).page
    monkeypatch.setattr(PGD, "version", PGD.version + 1)
    assert judge(Linear().eval(), *grey, store=tmp_path, **QUICK).page != before


def test_the_caller_s_torch_is_left_as_it_was(grey, tmp_path):
    """Random numbers, gradients, default type and modes; and none of them changes what is found."""
    model, (x, y) = Linear().eval(), grey
    plain = judge(model, x, y, store=tmp_path / "plain", **QUICK)
    model(x).sum().backward()
    gradient, drawn = model.scale.grad.clone(), torch.random.get_rng_state()
    torch.set_default_dtype(torch.float64)
    try:
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            other = judge(model, x, y, store=tmp_path / "other", **QUICK)
            assert torch.is_autocast_enabled("cpu") and not torch.is_grad_enabled()
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)
    assert torch.equal(model.scale.grad, gradient) and torch.equal(torch.random.get_rng_state(), drawn)
    pd.testing.assert_series_equal(plain.radius, other.radius)
    assert plain.summary()["accuracy"] == other.summary()["accuracy"]


def test_an_attack_that_changes_the_model_is_an_error_and_the_model_is_as_it_was(grey, tmp_path):
    model = nn.Sequential(nn.BatchNorm2d(3), Linear()).eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}

    def steps(model, x, y, eps):
        with torch.no_grad():
            model[1].scale += 1
        return x

    def trains(model, x, y, eps):
        model.train()(x)
        return x

    for attack, words in ((steps, r"changed the model \(1\.scale\)"), (trains, r"changed the model \(0\.running_mean")):
        with pytest.raises(FPDError, match=words):
            judge(model, *grey, attack=attack, store=tmp_path, **QUICK)
        assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    quiet = judge(Linear().eval(), *grey, attack=lambda model, x, y, eps: model.train() and x, store=tmp_path, **QUICK)
    assert quiet.complete and not any(module.training for module in model.modules())


def test_answers_that_depend_on_the_batch_are_flagged(grey, tmp_path):
    model = nn.Sequential(nn.BatchNorm2d(3, track_running_stats=False), Linear()).eval()
    assert "those beside it" in judge(model, *grey, eps=0.1, store=tmp_path, **QUICK).flags["batch"]


def test_images_of_any_strides_and_sizes_are_attacked(grey, tmp_path):
    x, y = grey
    turned = x.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
    assert not turned.is_contiguous() and judge(Linear().eval(), turned, y, store=tmp_path, **QUICK).complete
    small = x[:, :1, :2, :2]
    assert judge(Linear().eval(), small, y, norm="l2", eps=0.1, store=tmp_path, **QUICK).complete  # Square has no room for a stripe


def test_a_damaged_judgement_is_one_error(grey, tmp_path):
    page = judge(Linear().eval(), *grey, store=tmp_path, **QUICK).page
    for name, content in (("square.json", b"{}"), ("published.json", b"{"), ("current.parquet", b"PAR1")):
        path = page.with_name(name)
        whole = path.read_bytes()
        path.write_bytes(content)
        with pytest.raises(FPDError, match=rf"{name} is damaged.*Delete"):
            judge(Linear().eval(), *grey, store=tmp_path, **QUICK)
        path.write_bytes(whole)


def test_another_attack_of_one_s_own_leaves_the_first_one_s_progress(grey, tmp_path):
    folder = judge(Linear().eval(), *grey, store=tmp_path, **QUICK).page.parent
    (folder / "own-123456.partial").write_bytes(b"half")
    judge(Linear().eval(), *grey, attack=lambda model, x, y, eps: x, store=tmp_path, **QUICK)
    assert (folder / "own-123456.partial").exists()


@pytest.mark.parametrize("change", [{"store": 3}, {"names": 5}])
def test_a_store_and_names_of_another_type_are_one_error(grey, change):
    with pytest.raises(FPDError, match="accepted: a folder, and one name an image"):
        judge(Linear().eval(), *grey, **(QUICK | change))


class Late:
    bound = 5.0


class Mixed(Linear, Late):
    pass


def test_what_a_base_behind_the_module_holds_is_part_of_a_model(monkeypatch):
    before = subject.state(Mixed())
    assert before[": class bound"] == "5.0"
    monkeypatch.setattr(Late, "bound", 4.0)
    assert subject.state(Mixed()) != before
