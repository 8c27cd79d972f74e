"""Adversarial training: the inner attack, its losses, and training with it."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from test_training import PLAIN, QUICK

from fpdlib.errors import FPDError
from fpdlib.network.fpd import build
from fpdlib.paper.profiles import PROFILES
from fpdlib.paper.variants import VARIANTS
from fpdlib.training import Recipe, adversarial, algorithm1, passes, run, train
from fpdlib.training.adversarial import PAPER_FGSM, PAPER_PGD, PAPER_PGD_SVHN, Adversary, craft

PGD = Adversary("pgd", 0.1, 5, 0.03)


def batch(small, count=20):
    return small.train.batch(slice(0, count)), small.train.labels[:count]


def draws(seed=0):
    return torch.Generator().manual_seed(seed)


def test_the_papers_parameters():
    assert (PAPER_FGSM.eps, PAPER_FGSM.steps, PAPER_FGSM.random_start) == (0.3, 1, False)
    assert (PAPER_PGD.eps, PAPER_PGD.steps, PAPER_PGD.step_size) == (0.3, 100, 0.01)
    assert (PAPER_PGD_SVHN.eps, PAPER_PGD_SVHN.steps, PAPER_PGD_SVHN.step_size) == (8 / 256, 40, 2 / 256)
    assert VARIANTS["F_PGD"].recipe(PROFILES["paper"]).adversary == PAPER_PGD
    assert VARIANTS["F_PGD"].begin == "F" and VARIANTS["O_PGD"].begin == "ReLU"


def test_fgsm_is_one_step_along_the_sign(small):
    model = build(PLAIN, 0).eval()
    x, y = batch(small)
    made = craft(model, x, y, replace(PAPER_FGSM, eps=0.1, step_size=0.1), draws())
    leaf = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(F.cross_entropy(model(leaf), y), leaf)
    assert torch.allclose(made, (x + 0.1 * gradient.sign()).clamp(0, 1), atol=1e-6)


def test_crafting_stays_in_the_ball_and_leaves_the_network_alone(small):
    model = build(VARIANTS["F"].spec(PROFILES["smoke"]), 0).train()
    x, y = batch(small)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    made = craft(model, x, y, PGD, draws())
    assert (made - x).abs().max() <= 0.1 + 1e-6 and made.min() >= 0 and made.max() <= 1 and not made.requires_grad
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items()) and model.training
    assert all(p.requires_grad and p.grad is None for p in model.parameters())
    plain = build(PLAIN, 0).eval()
    made = craft(plain, x, y, PGD, draws())
    assert F.cross_entropy(plain(made), y) > F.cross_entropy(plain(x), y)
    assert (craft(model, x, y, PGD, draws(), scale=0.5) - x).abs().max() <= 0.05 + 1e-6


def test_starts_labels_and_noise(small):
    model = build(PLAIN, 0).eval()
    x, y = batch(small)
    still = replace(PGD, steps=1, step_size=1e-9)
    grey = craft(model, x, y, replace(still, grey=True), draws()) - x
    assert torch.allclose(grey[:, 0], grey[:, 2], atol=1e-7)
    coloured = craft(model, x, y, still, draws()) - x
    assert not torch.allclose(coloured[:, 0], coloured[:, 2], atol=1e-3)
    answers = model(x).argmax(1)
    by_prediction = craft(model, x, y, replace(PGD, labels="predicted"), draws())
    assert torch.equal(by_prediction, craft(model, x, answers, PGD, draws()))


def test_the_loss_is_half_clean_half_adversarial(small):
    model = build(PLAIN, 0).eval()
    x, y = batch(small)
    made = craft(model, x, y, PGD, draws())
    for weight in (0.5, 0.0):
        recipe = Recipe(adversary=replace(PGD, clean_weight=weight))
        result = adversarial.adversarial_step(model, recipe, x, y, torch.zeros_like(x), made)
        parts = F.cross_entropy(model(x), y), F.cross_entropy(model(made), y)
        assert result["loss"].item() == pytest.approx((weight * parts[0] + (1 - weight) * parts[1]).item(), rel=1e-5)


def test_restoration_aims_at_the_clean_image(small):
    model = build(VARIANTS["F"].spec(PROFILES["smoke"]), 0).eval()
    x, y = batch(small, 4)
    made = craft(model, x, y, PGD, draws())
    _, l2, _ = adversarial.losses(model, made, x, y)
    assert l2.item() == pytest.approx(F.mse_loss(model.front(made).restored, x).item(), rel=1e-5)


def test_training_against_an_adversary_helps_against_it(small):
    plain, hard = build(PLAIN, 0), build(PLAIN, 0)
    recipe = replace(QUICK, epochs=6, batch_size=20)
    train(plain, recipe, small, 0)
    log = train(hard, replace(recipe, adversary=PGD), small, 0)
    assert run.resist(hard, PGD, small.test, 0) > run.resist(plain, PGD, small.test, 0) + 0.1
    assert log[-1]["adversarial_accuracy"] > 0 and "held_out_adversarial" in log[-1]


def test_delay_trains_as_algorithm_1_first(small):
    recipe = replace(QUICK, epochs=2, batch_size=50)
    plain = train(build(PLAIN, 0), recipe, small, 0)
    late = train(build(PLAIN, 0), replace(recipe, adversary=replace(PGD, delay=1)), small, 0)
    assert late[0]["loss"] == plain[0]["loss"] and late[0]["ce_adversarial"] == 0 < late[1]["ce_adversarial"]


def test_a_stopped_adversarial_run_ends_with_the_same_bits(small, tmp_path):
    from fpdlib.errors import BudgetExhausted
    from fpdlib.runtime import Budget

    recipe = replace(QUICK, epochs=2, batch_size=100, adversary=replace(PGD, warmup=0.5))
    whole, stopped = build(PLAIN, 0), build(PLAIN, 0)
    train(whole, recipe, small, 0)
    for _ in range(30):
        try:
            train(stopped, recipe, small, 0, tmp_path / "state.safetensors", Budget(0.0))
            break
        except BudgetExhausted:
            stopped = build(PLAIN, 1)
    assert all(torch.equal(a, b) for a, b in zip(whole.state_dict().values(), stopped.state_dict().values(), strict=True))


def test_passes_and_strength():
    assert passes(Recipe(phases=2)) == {"forward": 2.0, "backward": 2.0, "pixel": 0.0}
    assert passes(Recipe(adversary=PAPER_PGD)) == {"forward": 102.0, "backward": 2.0, "pixel": 100.0}
    warm = Recipe(adversary=replace(PGD, warmup=0.5))
    assert [algorithm1.strength(warm, p) for p in (0.0, 0.25, 0.5, 1.0)] == [0, 0.5, 1, 1]


@pytest.mark.parametrize("change", [{"eps": 0}, {"eps": 8}, {"steps": 0}, {"labels": "target"}, {"warmup": 2}, {"clean_weight": -1}])
def test_bad_adversaries_are_named(change):
    with pytest.raises(FPDError, match=r"accepted|must be"):
        replace(PGD, **change)
