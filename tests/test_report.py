"""Verdicts from made-up outcomes: every branch."""

import numpy as np
import pandas as pd
import pytest

from fpdlib import evaluation
from fpdlib.report import measures


class FakeLab:
    """A lab whose outcomes are given: {network: {attack: hits per eps}}; 400 images."""

    def __init__(self, hits, clean=0.99, seed=0, missing=()):
        self.hits, self.seed, self._clean, self._missing = hits, seed, clean, set(missing)
        self.profile = type("P", (), {"attacks": dict.fromkeys(("white-box", "sound-pgd", "curve"))})()

    def missing(self, names, attacks=None):
        return [(n, "white-box") for n in names if n in self._missing]

    def outcome(self, name, attack):
        columns = self.hits[name][attack]
        frames = []
        for eps, share in columns.items():
            label = np.zeros(400, int)
            fell = np.arange(400) >= share * 400
            frames.append(pd.DataFrame({"index": range(400), "eps": eps, "label": label, "adversarial_prediction": fell,
                                        "broken": fell}))  # fmt: skip
        return pd.concat(frames, ignore_index=True)

    def clean(self, name):
        share = self._clean if np.isscalar(self._clean) else self._clean[name]
        return evaluation.rate(np.arange(1000) < share * 1000)

    def undertrained(self, name):
        return self.clean(name).value < 0.95


def both(a, b):
    def suite(share):
        return {"white-box": {0.3: share}, "sound-pgd": {0.3: share}, "curve": {0.0: 1.0, 0.1: share, 0.3: share}}

    return {"a": suite(a), "b": suite(b)}


@pytest.mark.parametrize(
    ("a", "b", "clean", "verdict", "reason"),
    [
        (0.6, 0.3, 0.99, "holds", ""),
        (0.3, 0.6, 0.99, "does not hold", "opposite order"),
        (0.5, 0.5, 0.99, "not decided", "no significant difference"),
        (0.0, 0.0, 0.99, "not decided", "both at the floor"),
        (0.6, 0.3, {"a": 0.99, "b": 0.9}, "not decided", "undertrained: b"),
    ],
)
@pytest.mark.parametrize("attack", ["white-box", "curve"])
def test_one_pair(a, b, clean, verdict, reason, attack):
    found = measures.compare([FakeLab(both(a, b), clean)], "a", "b", attack)
    if (a, attack) == (0.0, "curve"):
        reason = "no significant difference"  # every curve starts above the floor
    assert (found["verdict"], found["reason"]) == (verdict, reason)
    if attack == "white-box":
        assert found["difference"] == pytest.approx(100 * (a - b))
    assert found["low"] <= found["difference"] <= found["high"] and found["n"] == 400


def test_ranks_against_the_mean_decide_nothing(monkeypatch):
    skewed = pd.Series([-0.05] * 140 + [0.7] * 11 + [0.0] * 249)  # many lose a little, few win a lot
    monkeypatch.setattr(
        measures, "scores", lambda lab, name, *_, **__: skewed + 0.1 if name == "a" else skewed * 0 + 0.1
    )
    found = measures.compare([FakeLab(both(0.5, 0.5))], "a", "b", "curve")
    assert found["p"] < 0.05 and found["low"] < 0 < found["high"] and found["verdict"] == "not decided"


def test_seeds_that_disagree_decide_nothing():
    labs = [FakeLab(both(0.9, 0.2)), FakeLab(both(0.3, 0.35), seed=1)]
    found = measures.compare(labs, "a", "b", "white-box")
    assert (found["verdict"], found["reason"], found["seeds"]) == ("not decided", "seeds disagree", 2)


def test_networks_with_fewer_seeds_are_compared_on_the_seeds_they_share():
    labs = [FakeLab(both(0.6, 0.3)), FakeLab(both(0.0, 0.9), seed=1, missing=["b"])]
    assert measures.compare(labs, "a", "b", "white-box")["seeds"] == 1
    assert measures.compare(labs, "a", "b", "white-box")["verdict"] == "holds"
    assert measures.measurement(labs, "a", "white-box")["seeds"] == 2


def test_a_measurement_has_its_interval_and_its_range_over_seeds():
    found = measures.measurement([FakeLab(both(0.5, 0)), FakeLab(both(0.7, 0), seed=1)], "a", "white-box")
    assert (found["value"], found["n"]) == (pytest.approx(60), 400)
    assert (found["seed_min"], found["seed_max"]) == (pytest.approx(50), pytest.approx(70))
    assert 54 < found["low"] < 56 < 64 < found["high"] < 66


def test_the_sound_column_is_the_worst_case_over_the_suite():
    hits = both(0.5, 0.5)
    hits["a"]["curve"] = {0.0: 1.0, 0.3: 0.2}
    hits["a"]["white-box"] = {0.3: 0.4}
    assert measures.scores(FakeLab(hits), "a", "sound-pgd").mean() == pytest.approx(0.2)
    assert measures.scores(FakeLab(hits), "b", "sound-pgd").mean() == pytest.approx(0.5)


def test_a_curve_of_masked_gradients_decides_nothing_in_its_favour():
    hits = both(0.3, 0.6)
    hits["b"]["sound-pgd"] = {0.3: 0.1}
    assert measures.masked([FakeLab(hits)], "b") and not measures.masked([FakeLab(hits)], "a")
    found = measures.compare([FakeLab(hits)], "a", "b", "curve")
    assert (found["verdict"], found["reason"]) == ("not decided", "masked gradients: b")
    hits["b"]["curve"] = {0.0: 1.0, 0.1: 0.1, 0.3: 0.1}
    assert measures.compare([FakeLab(hits)], "a", "b", "curve")["verdict"] == "holds"  # it lost all the same


def test_a_claim_of_several_pairs():
    assert measures.combine(["holds", "holds"]) == "holds"
    assert measures.combine(["holds", "not decided"]) == "not decided"
    assert measures.combine(["not decided", "does not hold"]) == "does not hold"


def test_a_curve_decides_nothing_below_the_error_of_its_attack():
    hits = both(0.5, 0.5)
    hits["a"]["curve"] = {0.0: 1.0, 0.1: 0.515, 0.3: 0.515}
    found = measures.compare([FakeLab(hits)], "a", "b", "curve")
    assert found["p"] < 0.05 and 0 < found["difference"] < measures.LADDER_ERROR
    assert (found["verdict"], found["reason"]) == ("not decided", "less than the ladder's own error")


def test_table_1s_average_is_that_of_white_box_and_transfer():
    hits = both(0.5, 0.5)
    hits["a"]["transfer-oracle"] = {0.3: 0.9}
    assert measures.scores(FakeLab(hits), "a", "average").mean() == pytest.approx(0.7)
