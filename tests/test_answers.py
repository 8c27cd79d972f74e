"""An output that is not a number is no adversarial example unless float64 agrees; it is counted apart either way."""

from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from fake import Fake, spec
from torch import nn

from fpdlib import data, evaluation
from fpdlib.attacks.methods import PGD
from fpdlib.attacks.spec import AttackSpec
from fpdlib.errors import FPDError
from fpdlib.evaluation import studies
from fpdlib.evaluation.diagnostics import Bench, DiagnosisSpec
from fpdlib.keys import key_of, plain
from fpdlib.network import answers
from fpdlib.paper.profiles import PROFILES
from fpdlib.report import measures


class Cubic(nn.Module):
    """Class 0 for images darker than 0.5 on average, else 1; float32 overflows from 0.3 on, float64 if `scale` is 1e120."""

    def __init__(self, scale=2.3e13):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(1.0))
        self.size = scale
        self.spec = type("Spec", (), {"num_classes": 3, "image_size": 4})()

    def forward(self, x):
        mean = x.flatten(1).mean(1)
        u = (mean * self.scale * self.size) ** 3
        return torch.stack([0.5 + (u - u), mean, mean - 2], 1)


@dataclass(frozen=True)
class Brighten:
    norm: str = "linf"

    def sees(self, protocol):
        return "deployed"

    def attempts(self, eps):
        yield "brighten", partial(lambda view, x, y, seed, classes, by: x + by, by=eps)


def grey(*means):
    return torch.stack([torch.full((3, 4, 4), mean) for mean in means])


def splits(mean=0.25, count=4):
    pixels = torch.full((count, 3, 4, 4), round(255 * mean), dtype=torch.uint8)
    images = data.Images(pixels, torch.zeros(count, dtype=torch.long), pixels)
    return data.Splits("grey", images, images, images)


def test_float32_overflows_where_float64_does_not():
    x = grey(0.1, 0.4, 0.6)
    assert answers.predict(Cubic(), x).tolist() == [0, -1, -1]
    assert answers.predict_in_float64(Cubic(), x).tolist() == [0, 0, 1]
    assert answers.predict_in_float64(Cubic(1e120), x).tolist() == [-1, -1, -1]


def test_only_what_float64_confirms_is_wrong():
    x, y = grey(0.1, 0.4, 0.6), torch.tensor([1, 0, 0])
    assert answers.wrong(Cubic(), x, y).tolist() == [True, False, True]
    assert answers.wrong(Cubic(), x, y, "broken").tolist() == [True, True, True]
    assert answers.wrong(Cubic(1e120), x[1:], y[1:]).tolist() == [True, True]  # not finite even in float64
    with pytest.raises(FPDError, match="overflow is 'ignore'; accepted: 'confirmed', 'broken'"):
        answers.wrong(Cubic(), x, y, "ignore")


def test_a_network_is_left_as_it_is_by_float64():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    model(torch.rand(2, 3, 8, 8))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    parameters = [p.data_ptr() for p in model.parameters()]
    assert next(answers.in_float64(model).parameters()).dtype == torch.float64
    after = model.state_dict()
    assert len(parameters) == 4 and all(torch.equal(after[k], v) and after[k].dtype == v.dtype for k, v in before.items())


@pytest.mark.parametrize(("eps", "overflow", "broken", "float64"), [
    (0.1, "confirmed", False, 0), (0.1, "broken", True, 0), (0.4, "confirmed", True, 1), (0.4, "broken", True, 1),
])  # fmt: skip
def test_outcomes_record_what_float64_says(eps, overflow, broken, float64):
    spec = AttackSpec("brighten", "current", Brighten(), (eps,), images=4, overflow=overflow)
    frame, counts = evaluation.evaluate(Cubic(), splits(), spec, 0)
    assert (frame["adversarial_prediction"] == -1).all() and (frame["float64_prediction"] == float64).all()
    assert (frame["broken"] == broken).all() and counts["broken"]["brighten"] == 4 * broken
    assert (evaluation.robust(frame)[np.float32(eps)] == (not broken)).all()
    assert evaluation.robust(frame, numbers_only=True).to_numpy().all()  # no attack found a wrong class


def test_the_next_attempt_goes_on_where_float64_is_right():
    """At the first radius the output is not a number and float64 right, at the second both are wrong."""
    spec = AttackSpec("brighten", "current", Brighten(), (0.1, 0.4), images=4)
    frame, _ = evaluation.evaluate(Cubic(), splits(), spec, 0)
    assert evaluation.robust(frame).mean().tolist() == [1.0, 0.0]
    before, _ = evaluation.evaluate(Cubic(), splits(), replace(spec, overflow="broken"), 0)
    assert evaluation.robust(before).mean().tolist() == [0.0, 0.0]


def test_tables_say_how_many_breaks_rest_on_no_number():
    """100 images: 40 stand, 45 get a wrong class, 15 an output that is not a number; another attack breaks 10 of those."""
    predictions = np.repeat([0, 1, -1], [40, 45, 15])
    frame = pd.DataFrame({"index": range(100), "eps": 0.3, "label": 0, "adversarial_prediction": predictions})
    frame["broken"] = predictions != 0
    other = frame.assign(adversarial_prediction=np.repeat([0, 2, 0], [85, 10, 5]))
    other["broken"] = other["adversarial_prediction"] != 0
    frame["linf"] = other["linf"] = 0.3
    outcomes = {"white-box": frame, "sound": other}
    evidence = Fake({"F": outcomes}, attacks={name: spec() for name in outcomes})
    evidence.outcome = lambda name, attack, seed: outcomes[attack]
    assert measures.measurement(evidence, "F", "white-box")["nan"] == pytest.approx(100 * 15 / 60)
    found = measures.measurement(evidence, "F", "worst")
    assert found["value"] == pytest.approx(40) and found["nan"] == pytest.approx(100 * 5 / 60)
    frame["broken"], frame["adversarial_prediction"] = False, 0
    evidence.remember.cache_clear()
    assert np.isnan(measures.measurement(evidence, "F", "white-box")["nan"])  # nothing is broken


def test_survivors_count_what_float64_confirms():
    rows = [  # overflow, label, adversarial, float64, broken
        ("broken", 0, 1, 1, True), ("broken", 0, -1, 1, True), ("broken", 0, -1, 0, True), ("broken", 0, -1, -1, True),
        ("broken", 0, 0, 0, False), ("confirmed", 0, 1, 1, True), ("confirmed", 0, -1, 0, False),
    ]  # fmt: skip
    frame = pd.DataFrame(rows, columns=["overflow", "label", "adversarial_prediction", "float64_prediction", "broken"])
    assert list(studies.survivors(frame).values()) == [5, 4, 3, 1, 1, 1, 1]


def test_checks_judge_as_tables_do():
    x, y = grey(0.4, 0.6), torch.tensor([0, 0])
    for overflow, expected in (("confirmed", [True, False]), ("broken", [False, False])):
        bench = Bench(Cubic(), x, y, DiagnosisSpec(overflow=overflow), 0)
        assert bench.right(x).tolist() == expected and bench.right(x[:1], slice(0, 1)).tolist() == expected[:1]
    assert {profile.diagnosis.overflow for profile in PROFILES.values()} == {"confirmed"}


def test_the_judgement_is_part_of_every_attacks_key():
    spec = AttackSpec("a", "published", PGD(((1, None, 0),)))
    assert plain(spec)["overflow"] == "confirmed"
    assert key_of("a", spec) != key_of("a", replace(spec, overflow="broken"))
