"""Known answers for the diagnostics themselves: an honest network passes, a saturated one is found out."""

from dataclasses import replace

import pytest
import torch
from test_training import PLAIN, QUICK
from torch import nn

from fpdlib import evaluation
from fpdlib.attacks.methods import PGD, AutoAttack, MadeForFPD
from fpdlib.attacks.spec import AttackSpec
from fpdlib.errors import FPDError
from fpdlib.evaluation import diagnostics, studies
from fpdlib.evaluation.diagnostics import Bench, DiagnosisSpec, diagnose
from fpdlib.evaluation.outcomes import Rate, evaluate
from fpdlib.network.fpd import build
from fpdlib.paper.profiles import PROFILES
from fpdlib.paper.suites import SMOKE_SCALE, sound
from fpdlib.paper.variants import VARIANTS
from fpdlib.training import train

SPEC = DiagnosisSpec(eps=0.3, images=15, steps=20, restarts=2, draws=10, queries=50, planted=8, grid=7)


@pytest.fixture(scope="module")
def trained(sample):
    first = torch.arange(800)
    splits = type(sample)("s", sample.train.subset(first), sample.held_out.subset(first[:100]), sample.test.subset(first[:200]))
    model = build(PLAIN, 0)
    train(model, replace(QUICK, epochs=8, batch_size=20), splits, 0)
    return model.eval().requires_grad_(False), splits


class Saturated(nn.Module):
    """The same network with its logits times a thousand, squeezed: the same decisions and no gradient."""

    def __init__(self, network):
        super().__init__()
        self.network = network
        self.spec = replace(network.spec, squeeze="tanh")

    def pre_squeeze(self, x):
        return 1000 * self.network.pre_squeeze(x)

    def forward(self, x):
        return self.pre_squeeze(x).tanh()


@pytest.fixture(scope="module")
def found(trained):
    model, splits = trained
    honest, _ = diagnose(model, splits.test, SPEC, 0)
    masked, grid = diagnose(Saturated(model), splits.test, SPEC, 0, surrogate=model)
    return honest.set_index("check"), masked.set_index("check"), grid


def test_an_undefended_network_falls_to_nothing(trained):
    model, splits = trained
    from fpdlib.attacks.spec import AttackSpec
    from fpdlib.paper.suites import TABLE1_PGD

    for protocol, method in (("published", TABLE1_PGD), ("sound", sound("linf", 0.3, SMOKE_SCALE))):
        frame, _ = evaluate(model, splits, AttackSpec("a", protocol, method, (0.3,), images=40, batch_size=40), 0)
        assert (frame["clean_prediction"] == frame["label"]).mean() > 0.7
        assert evaluation.robust(frame).mean().item() == 0


def test_a_saturated_network_keeps_its_accuracy_only_when_attacked_through_its_squeeze(trained):
    model, splits = trained
    from fpdlib.attacks.spec import AttackSpec
    from fpdlib.paper.suites import TABLE1_PGD

    hidden = Saturated(model)
    rates = {}
    for protocol, method in (("published", TABLE1_PGD), ("sound", sound("linf", 0.3, SMOKE_SCALE))):
        frame, _ = evaluate(hidden, splits, AttackSpec("a", protocol, method, (0.3,), images=40, batch_size=40), 0)
        right = frame[frame["clean_prediction"] == frame["label"]]
        rates[protocol] = (right["adversarial_prediction"] == right["label"]).mean()
    assert rates["published"] >= 0.9 and rates["sound"] < 0.25


def test_the_saturated_network_is_found_out(found):
    honest, masked, _ = found
    for check in ("zero-gradient share, deployed", "unavailable gradients, deployed",
                  "transfer minus PGD, deployed", "unconstrained attack failure, deployed"):  # fmt: skip
        assert str(masked.loc[check, "passes"]) == "False", check
    assert masked.loc["zero-gradient share, deployed", "value"] > 0.9
    assert masked.loc["zero-gradient share, pre-squeeze", "value"] == 0
    assert honest.loc["zero-gradient share, deployed", "value"] == 0
    for check in ("Square minus PGD, deployed", "PGD, eps 1", "unavailable gradients, deployed", "silent success, pre-squeeze"):
        assert str(honest.loc[check, "passes"]) == "True", check


def test_every_image_is_within_reach_at_radius_one(found):
    for table in found[:2]:  # radii are swept before tanh
        assert table.loc["PGD, eps 1", "value"] == 0 and table.loc["PGD, eps 0.5", "value"] <= 0.2


def test_the_active_test_disqualifies_an_attack_through_saturation(found):
    honest, masked, _ = found
    assert masked.loc["planted examples found, pre-squeeze", "value"] >= 0.95
    assert masked.loc["planted examples found, deployed", "value"] < masked.loc["planted examples found, pre-squeeze", "value"]
    assert honest.loc["planted examples found, pre-squeeze", "n"] > 0


def test_the_landscape_is_flat_where_tanh_saturates(found):
    _, _, grid = found
    spread = grid.groupby("outputs")["margin"].std()
    assert len(grid) == 2 * SPEC.grid**2 and spread["deployed"] < spread["logits"]
    assert set(grid["outputs"]) == {"deployed", "logits"}


def test_the_trajectory_is_arts_pgd(trained):
    model, splits = trained
    from fpdlib.attacks import adapters
    from fpdlib.attacks.views import View

    index = evaluation.test_order(200)[:10]
    bench = Bench(model, splits.test.batch(index), splits.test.labels[index], SPEC, 0)
    view = View(model, "deployed").eval()
    losses, ever, last = diagnostics.trajectory(bench, view, 10)
    made = adapters.pgd(view, bench.x, bench.y, 0.3, 10, 0.03, False, 0, 10)
    assert torch.equal(last, evaluation.predict(model, made) == bench.y)
    assert losses.shape == (11, 10) and (ever | last).all() and (losses[-1] >= losses[0]).all()


def test_nothing_to_diagnose_is_an_error(small):
    class Wrong(nn.Module):
        spec = type("Spec", (), {"num_classes": 10, "squeeze": "none"})()

        def forward(self, x):
            return torch.nn.functional.one_hot(torch.full((len(x),), 0), 10).float()

    bad = type(small.test)(small.test.pixels, torch.full_like(small.test.labels, 3), small.test.native)
    with pytest.raises(FPDError, match="nothing to diagnose"):
        diagnose(Wrong(), bad, SPEC, 0)


def test_restoration_is_measured_and_drawn(small):
    from fpdlib.attacks.methods import PGD
    from fpdlib.attacks.spec import AttackSpec

    model = build(VARIANTS["Mid"].spec(PROFILES["smoke"]), 0).eval()
    attack = AttackSpec("p", "published", PGD(((3, 0.05, 0),)), (0.1,), images=30, batch_size=15)
    frame, pictures = studies.restore(model, small, attack, 0)
    assert set(frame["pair"]) == set(studies.PAIRS) and len(frame) == 30 * 4
    assert 15 < frame.groupby("pair")["psnr"].mean()["adversarial / clean"] < 40 and (frame["ssim"] <= 1).all()
    assert pictures["clean"].dtype.name == "uint8" and pictures["clean"].shape[1:] == (32, 32, 3)
    assert len(pictures["clean"]) <= 3 * 10


def test_psnr_is_the_textbooks():
    import numpy as np

    a = np.full((8, 8, 3), 0.5, np.float32)
    assert studies.psnr(a, a) == 100 and studies.psnr(a, a + np.float32(0.1)) == pytest.approx(20, abs=0.01)


class Bright(nn.Module):
    """Two classes by mean brightness, behind a tanh."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor([60.0, -60.0]))

    def pre_squeeze(self, x):
        return (x.flatten(1).mean(1, keepdim=True) - 0.5) * self.scale

    def forward(self, x):
        return self.pre_squeeze(x).tanh()


def test_precision_tells_a_gradient_that_was_rounded_away():
    """At 12 before tanh the slope is zero in float32 and not in float64; at 6 in neither."""
    x = torch.stack([torch.full((3, 4, 4), brightness) for brightness in (0.7, 0.6, 0.3)])
    frame = studies.Precision(3).measure(Bright(), x, torch.zeros(3, dtype=torch.long), torch.arange(3), 0)
    single, double = (frame[frame["precision"] == precision] for precision in ("float32", "float64"))
    assert single["stands"].tolist() == [True, False, False]  # the last was wrong before
    assert single["unmoved"].tolist() == single["saturated"].tolist() == [True, False, True]
    assert not double["stands"].any() and not double["unmoved"].any()


@pytest.fixture(scope="module")
def restoring(sample):
    """An F_FD+R of seconds: denoising layers and a decoder that have learned something."""
    first = torch.arange(800)
    splits = type(sample)("s", sample.train.subset(first), sample.held_out.subset(first[:100]), sample.test.subset(first[:200]))
    model = build(VARIANTS["F_FD+R"].spec(PROFILES["smoke"]), 0)
    train(model, replace(QUICK, epochs=6, batch_size=20), splits, 0)
    return model.eval().requires_grad_(False), splits


def test_an_attack_that_knows_the_filter_lowers_what_the_filter_sees(restoring):
    model, splits = restoring
    frame = studies.Filter(40).run(model, splits, 0, [])["study"]
    by = frame.pivot(index="index", columns="images")
    error, right = by["error"], by["right"].mean()
    assert len(by) == 40 and set(error) == {"clean", "attacked", "evading"}
    assert (error["evading"] < error["attacked"]).mean() > 0.8 and error["evading"].median() < error["attacked"].median()
    assert right["clean"] > right["attacked"] and right["clean"] > right["evading"]  # and it still attacks


def test_each_attack_made_for_fpd_is_tried_alone_beside_autoattack(restoring):
    model, splits = restoring
    attack = AttackSpec("near", "sound", sound("linf", 0.3, SMOKE_SCALE), (0.05,), images=20, batch_size=20, iterates="any")
    frame = studies.Adaptive(attack, AutoAttack(iterations=5, queries=50), 5).run(model, splits, 0, [])["study"]
    stands = frame.pivot(index="index", columns="attack", values="stands")
    methods = {
        "PGD": PGD(((5, 0.005, 1),)),
        "AutoAttack": AutoAttack(iterations=5, queries=50),
        "momentum": MadeForFPD(5, ("pre-squeeze",)),
    }
    methods |= {f"through {part}": MadeForFPD(5, (part,)) for part in ("bare", "replaced", "restored")}
    assert set(stands) == {"none", "none, without denoising", *methods} and len(stands) == 20
    for name, method in methods.items():  # each under its own name
        alone, _ = evaluate(model, splits, replace(attack, method=method), 0)
        assert (stands[name] == ~alone.set_index("index")["broken"].sort_index()).all(), name
    assert 0.1 < stands["PGD"].mean() < 0.9 and not stands["through bare"].equals(stands["momentum"])
    with model.without_denoising(), torch.no_grad():
        said = model(splits.test.batch(torch.tensor(stands.index))).argmax(1)
    assert (stands["none, without denoising"].to_numpy() == (said == splits.test.labels[torch.tensor(stands.index)]).numpy()).all()
    assert (stands["AutoAttack"] <= stands["PGD"]).mean() > 0.9


@pytest.mark.parametrize(("last", "passes"), [(0.28, True), (0.29, False)])  # 0.28 - 0.27 is 0.010000000000000009
def test_a_change_of_one_image_in_a_hundred_is_accepted(last, passes, monkeypatch):
    bench = Bench(build(PLAIN, seed=0), torch.rand(100, 3, 32, 32), torch.zeros(100, dtype=torch.long), DiagnosisSpec(), seed=0)
    monkeypatch.setattr(bench, "pgd", lambda outputs, eps, steps, size, runs=1: last if steps == 200 else 0.27)
    monkeypatch.setattr(diagnostics, "share", lambda left: Rate(left, 100, 0, 1))
    lines = {line["check"]: line["passes"] for line in diagnostics.convergence(bench)}
    assert lines["change with the last increase of steps"] is passes and lines["change with the last increase of restarts"] is True
