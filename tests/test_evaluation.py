"""Attacks against models whose answer is known, protocols, ladders, resumption, statistics."""

from dataclasses import replace
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
from torch import nn

from fpdlib import attacks, evaluation
from fpdlib.attacks import adapters, methods
from fpdlib.attacks.methods import PGD
from fpdlib.attacks.spec import AttackSpec
from fpdlib.attacks.views import View
from fpdlib.data.images import Images, NativeInput, Splits
from fpdlib.errors import BudgetExhausted, FPDError
from fpdlib.evaluation.outcomes import evaluate, rate
from fpdlib.paper.suites import TABLE1_PGD
from fpdlib.report.verdicts import paired
from fpdlib.runtime import Budget

SOUND = AttackSpec("sound", "sound", PGD(((20, None, 1),)), images=100, batch_size=40)


class Linear(nn.Module):
    """Two classes, logits +-(w.x + b): the smallest L-inf perturbation that flips x is |w.x + b| / |w|_1.

    squeeze: None or a gain g, for the deployed logits tanh(g * logit)."""

    def __init__(self, gain=None):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3 * 8 * 8, generator=torch.Generator().manual_seed(0)) / 10)
        self.bias = nn.Parameter(-self.weight.detach().sum() / 2)  # an all-grey image is undecided
        self.gain = gain
        self.spec = type("Spec", (), {"num_classes": 2, "image_size": 8})()

    def pre_squeeze(self, x):
        u = (self.gain or 1) * (x.flatten(1) @ self.weight + self.bias)
        return torch.stack([u, -u], 1)

    def forward(self, x):
        u = self.pre_squeeze(x)
        return u if self.gain is None else u.tanh()


def images_for(model, count=100):
    """Grey-ish images (so that clipping to [0, 1] never helps the defence), labelled as the model sees them."""
    pixels = torch.randint(108, 148, (count, 3, 8, 8), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    x = pixels.float() / 255
    labels = model(x).argmax(1).detach()
    margin = (model.pre_squeeze(x)[:, 0] / (model.gain or 1)).detach().abs() / model.weight.detach().abs().sum()
    test = Images(pixels, labels, pixels)
    return Splits("test", test, test, test), margin


def test_pgd_breaks_a_linear_model_exactly_where_it_can_be_broken():
    model = Linear()
    splits, margin = images_for(model)
    order = evaluation.test_order(100)
    eps = (0.001, 0.003, 0.01, 0.03)
    frame, _ = evaluate(model, splits, AttackSpec("a", "sound", PGD(((20, None, 0),)), eps=eps, images=100), 0)
    hits = evaluation.robust(frame)
    for radius, column in zip(eps, hits, strict=True):
        assert (hits[column].loc[order.numpy()].to_numpy() == (margin[order] > radius).numpy()).mean() >= 0.99
    assert 0.05 < hits.iloc[:, 1].mean() < 0.95  # the test decides something
    assert (hits.astype(int).diff(axis=1).iloc[:, 1:] <= 0).all().all()  # a ladder never climbs


@pytest.mark.parametrize("space", ["network", "native"])
def test_perturbations_stay_within_epsilon_and_pixel_range(space):
    model = Linear()
    splits, _ = images_for(model)
    frame, _ = evaluate(model, splits, AttackSpec("a", "published", TABLE1_PGD, space=space, images=30), 0)
    assert (frame["linf"] <= 0.3 + 1e-6).all() and frame["linf"].max() > 0.29
    view, x = View(model, "deployed"), torch.zeros(4, 3, 8, 8)
    adversarial = adapters.pgd(view, x, torch.zeros(4, dtype=torch.long), 0.3, 5, 0.1, True, 0, 2)
    assert adversarial.min() >= 0 and adversarial.max() <= 0.3


def test_saturated_tanh_hides_gradients_from_published_and_not_from_sound():
    """Findings D: exactly zero gradients in float32 beyond |u| = 9.011; removing tanh is exact since it is monotone."""
    model = Linear(gain=3000.0)
    splits, _ = images_for(model)
    point = {"eps": (0.1,), "images": 100}
    hidden, _ = evaluate(model, splits, AttackSpec("p", "published", PGD(((40, 0.01, 0),)), **point), 0)
    sound, _ = evaluate(model, splits, AttackSpec("s", "sound", PGD(((40, 0.01, 0),)), **point), 0)
    assert hidden["gradient_is_zero"].mean() > 0.9 and not sound["gradient_is_zero"].any()
    assert evaluation.robust(hidden).mean().item() > 0.9 and evaluation.robust(sound).mean().item() == 0
    assert (hidden.loc[hidden["gradient_is_zero"], "linf"] == 0).all()


def test_the_published_protocol_is_a_double_softmax():
    model, x = Linear(gain=0.5), torch.rand(6, 3, 8, 8)
    y = torch.zeros(6, dtype=torch.long)
    logits = model(x)
    losses = {name: attacks.loss_gradient(View(model, out), x, y)[0] for name, out in methods.PROTOCOLS.items()}
    assert torch.allclose(losses["published"], -logits.softmax(1).softmax(1)[:, 0].log())
    assert torch.allclose(losses["current"], -logits.softmax(1)[:, 0].log())
    assert torch.allclose(losses["sound"], -model.pre_squeeze(x).softmax(1)[:, 0].log())


def test_bounded_margins_keep_the_ranking_and_small_logits():
    logits = torch.tensor([[3.0, 1.0, 0.0], [5000.0, 100.0, -7.0]])
    bounded = attacks.bounded_margin(logits)
    assert torch.equal(bounded[0], logits[0])
    assert bounded[1, 0] - bounded[1, 1] == pytest.approx(10)
    assert torch.equal(bounded.argsort(1), logits.argsort(1))


def test_only_survivors_are_attacked_and_every_pass_is_counted():
    model = Linear()
    splits, margin = images_for(model)
    one = AttackSpec("a", "sound", PGD(((5, None, 0),)), eps=(0.003,), images=100)
    _, counts = evaluate(model, splits, one, 0)
    assert counts["backwards"] == 5 * 100  # five steps; the zero-gradient check is no pass of the attack
    both = AttackSpec("a", "sound", PGD(((5, None, 0), (7, None, 2))), eps=(0.003,), images=100)
    frame, counts = evaluate(model, splits, both, 0)
    standing = int((margin > 0.003).sum())
    assert counts["backwards"] == pytest.approx(500 + 14 * standing, abs=40)
    assert evaluation.robust(frame).sum().item() == pytest.approx(standing, abs=1)


class Stops(Budget):
    def __init__(self, looks):
        self.left = looks

    def expired(self):
        self.left -= 1
        return self.left < 0


def test_a_stopped_evaluation_continues_behind_its_finished_batches(tmp_path):
    model = Linear()
    splits, _ = images_for(model)
    whole, counts = evaluate(model, splits, SOUND, 3)
    partial = tmp_path / "partial.parquet"
    with pytest.raises(BudgetExhausted):
        evaluate(model, splits, SOUND, 3, partial, Stops(1))
    assert len(pd.read_parquet(partial)) == 80
    again, counts_again = evaluate(model, splits, SOUND, 3, partial)
    pd.testing.assert_frame_equal(whole, again)
    assert counts_again["backwards"] == counts["backwards"]
    partial.write_bytes(partial.read_bytes()[:200])
    with pytest.raises(FPDError, match=r"is damaged.*Delete it"):
        evaluate(model, splits, SOUND, 3, partial)


def test_misclassified_images_are_left_alone():
    model = Linear()
    splits, _ = images_for(model)
    wrong = Splits("t", splits.train, splits.train, Images(splits.test.pixels, 1 - splits.test.labels, splits.test.native))
    frame, _ = evaluate(model, wrong, SOUND, 0)
    assert not evaluation.robust(frame).any().any() and (frame["linf"] == 0).all()


def test_the_surrogate_learns_the_targets_answers_or_the_true_labels(sample):
    splits = Splits("s", sample.train, sample.held_out, sample.test)

    class Odd(nn.Module):  # answers by brightness of the upper half, not by digit
        spec = type("Spec", (), {"num_classes": 10, "image_size": 32})()

        def forward(self, x):
            level = (x[:, :, :16].mean((1, 2, 3)) * 40).clamp(0, 9).long()
            return nn.functional.one_hot(level, 10).float()

    attack = AttackSpec("t", "published", PGD(((1, None, 0),)), surrogate="oracle")
    oracle, oracle_accuracy = evaluation.train_surrogate(Odd(), splits, attack, 0)
    true, true_accuracy = evaluation.train_surrogate(Odd(), splits, replace(attack, surrogate="true"), 0)
    narrow, _ = evaluation.train_surrogate(Odd(), splits, replace(attack, surrogate_width=50, surrogate_epochs=1), 0)
    assert (oracle[1].out_features, narrow[1].out_features) == (200, 50)
    assert evaluation.agreement(oracle, Odd(), sample.test) > 0.6 > evaluation.agreement(true, Odd(), sample.test)
    asked = []

    class Counts(Odd):
        def forward(self, x):
            asked.append(len(x))
            return super().forward(x)

    evaluation.train_surrogate(Counts(), splits, replace(attack, surrogate_images=60, surrogate_epochs=1), 0)
    evaluation.agreement(oracle, Counts(), sample.test, 40)
    assert asked == [60, 40]  # answers are asked for no more images than it is trained on
    assert true_accuracy > 0.9 > 0.3 > oracle_accuracy
    assert sum(isinstance(m, nn.Linear) for m in oracle.modules()) == 3


def test_transfer_attacks_the_surrogate_and_judges_the_target():
    target, other = Linear(), Linear(gain=None)
    with torch.no_grad():
        other.weight.copy_(torch.randn(192, generator=torch.Generator().manual_seed(9)))
        other.bias.copy_(-other.weight.sum() / 2)
    splits, _ = images_for(target)
    surrogate = attacks.surrogate(192, 2)
    with torch.no_grad():
        for p in surrogate.parameters():
            p.zero_()  # no gradient: nothing transfers
    spec = AttackSpec("t", "published", PGD(((5, 0.02, 0),)), eps=(0.1,), surrogate="oracle", images=50)
    frame, _ = evaluate(target, splits, spec, 0, surrogate=surrogate)
    assert evaluation.robust(frame).all().all() and frame["gradient_is_zero"].all()
    frame, _ = evaluate(target, splits, spec, 0, surrogate=target)  # the perfect substitute
    assert not evaluation.robust(frame).any().any()
    with pytest.raises(FPDError, match="surrogate"):
        evaluate(target, splits, spec, 0)


def test_native_space_lifts_pixels_inside_the_model(sample):
    network = nn.Flatten()
    lifted = NativeInput(network, 32)(sample.test.native_batch(slice(0, 5))).view(5, 3, 32, 32)
    assert (lifted - sample.test.batch(slice(0, 5))).abs().max() < 0.01  # only rounding to 8 bits differs


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"protocol": "strong"}, "protocol is 'strong'"),
        ({"eps": (0.3, 0.1)}, "ascending"),
        ({"eps": (8.0,)}, "pixel units"),
        ({"images": 0}, "an integer from 1"),
        ({"surrogate": "mlp"}, "surrogate is 'mlp'"),
    ],
)
def test_bad_attacks_are_named(change, words):
    with pytest.raises(FPDError, match=words):
        AttackSpec(**{"name": "a", "protocol": "published", "method": TABLE1_PGD, **change})


def test_more_images_than_there_are_is_an_error():
    model = Linear()
    splits, _ = images_for(model)
    with pytest.raises(FPDError, match=r"asks for 101 images; test has 100"):
        evaluate(model, splits, AttackSpec("a", "published", TABLE1_PGD, images=101), 0)


def test_wilson_intervals_are_those_of_the_literature():
    for hits, n, low, high in ((44, 100, 34.7, 53.8), (40, 50, 67.0, 88.8), (12, 24, 31.4, 68.6)):
        r = rate([True] * hits + [False] * (n - hits))
        assert (r.value, r.n) == (hits / n, n)
        assert (round(100 * r.low, 1), round(100 * r.high, 1)) == (low, high)
    assert rate([False] * 100).low == 0 and rate([False] * 100).high == pytest.approx(0.037, abs=1e-3)


def test_paired_tests():
    index = pd.Index(range(100))
    a = pd.Series([1.0] * 60 + [0.0] * 40, index)
    b = pd.Series([1.0] * 50 + [0.0] * 50, index)
    result = paired(a, b, "points")
    assert result.effect == pytest.approx(0.1) and 0 < result.low < 0.1 < result.high and result.verdict == "holds"
    assert paired(b, a, "points").verdict == "does not hold" and paired(a, a, "points").verdict == "not decided"
    assert (result.n, result.seeds, result.unit) == (100, 1, "points")


def test_an_attack_leaves_the_network_as_it_was():
    """In training mode, with one parameter frozen and one part in evaluation mode: also when the attack fails."""
    model = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(192), nn.Linear(192, 10)).train()
    model.spec = SimpleNamespace(image_size=8, num_classes=10)
    model[0].eval()
    model[2].bias.requires_grad_(False)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    pixels = torch.randint(0, 255, (10, 3, 8, 8), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    test = Images(pixels, torch.arange(10), pixels)
    splits, seen = Splits("test", test, test, test), []
    model.register_forward_hook(lambda module, *_: seen.append((module.training, any(p.requires_grad for p in module.parameters()))))
    spec = AttackSpec("a", "sound", PGD(((2, None, 0),)), images=10)
    evaluate(model, splits, spec, 0)
    with pytest.raises(RuntimeError):
        evaluate(model, replace(splits, test=Images(pixels[:, :, :4], test.labels, pixels)), spec, 0)
    assert set(seen) == {(False, False)}
    assert [m.training for m in model] == [False, True, True] and model.training
    assert [p.requires_grad for p in model.parameters()] == [True, True, True, False]
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_the_finished_batches_of_another_attack_are_not_taken(tmp_path):
    model = Linear()
    splits, _ = images_for(model)
    attack = AttackSpec("a", "current", PGD(((1, 0.1, 0),)), (0.1,), images=20, batch_size=10)
    with pytest.raises(BudgetExhausted):
        evaluate(model, splits, attack, 0, partial=tmp_path / "p", budget=Budget(0.0))
    for other, seed in ((replace(attack, eps=(0.3,)), 0), (attack, 1)):
        with pytest.raises(FPDError, match=r"is of current a, eps \(0.1,\), 20 images by 10, seed 0, not of"):
            evaluate(model, splits, other, seed, partial=tmp_path / "p")
    assert len(evaluate(model, splits, attack, 0, partial=tmp_path / "p")[0]) == 20


@pytest.mark.parametrize(("model", "classes"), [(nn.Flatten(), 0), (Linear(), 2)])
def test_a_network_of_other_classes_is_named(model, classes):
    test = Images(torch.zeros(4, 3, 8, 8, dtype=torch.uint8), torch.arange(4), torch.zeros(4, 3, 8, 8, dtype=torch.uint8))
    attack = AttackSpec("a", "current", PGD(((1, 0.1, 0),)), images=4)
    with pytest.raises(FPDError, match=f"the model has {classes} classes by its `spec`, test 4; accepted: a network of this kit"):
        evaluate(model, Splits("test", test, test, test), attack, 0)
