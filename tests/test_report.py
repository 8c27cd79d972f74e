"""Verdicts from made-up outcomes: every branch."""

import pandas as pd
import pytest
from fake import Fake

from fpdlib.report import measures


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
    found = measures.compare(Fake(both(a, b), clean=clean), "a", "b", attack)
    if (a, attack) == (0.0, "curve"):
        reason = "no significant difference"  # every curve starts above the floor
    assert (found["verdict"], found["reason"]) == (verdict, reason)
    if attack == "white-box":
        assert found["difference"] == pytest.approx(100 * (a - b))
    assert found["low"] <= found["difference"] <= found["high"] and found["n"] == 400


def test_ranks_against_the_mean_decide_nothing(monkeypatch):
    skewed = pd.Series([-0.05] * 140 + [0.7] * 11 + [0.0] * 249)  # many lose a little, few win a lot
    monkeypatch.setattr(measures, "scores", lambda evidence, name, *_, **__: skewed + 0.1 if name == "a" else skewed * 0 + 0.1)
    found = measures.compare(Fake(both(0.5, 0.5)), "a", "b", "curve")
    assert found["p"] < 0.05 and found["low"] < 0 < found["high"] and found["verdict"] == "not decided"


def test_seeds_that_disagree_decide_nothing():
    found = measures.compare(Fake(both(0.9, 0.2), both(0.3, 0.35)), "a", "b", "white-box")
    assert (found["verdict"], found["reason"], found["seeds"]) == ("not decided", "seeds disagree", 2)


def test_networks_with_fewer_seeds_are_compared_on_the_seeds_they_share():
    evidence = Fake(both(0.6, 0.3), both(0.0, 0.9), missing=[("b", 1)])
    assert measures.compare(evidence, "a", "b", "white-box")["seeds"] == 1
    assert measures.compare(evidence, "a", "b", "white-box")["verdict"] == "holds"
    assert measures.measurement(evidence, "a", "white-box")["seeds"] == 2


def test_a_measurement_has_its_interval_and_its_range_over_seeds():
    found = measures.measurement(Fake(both(0.5, 0), both(0.7, 0)), "a", "white-box")
    assert (found["value"], found["n"]) == (pytest.approx(60), 400)
    assert (found["seed_min"], found["seed_max"]) == (pytest.approx(50), pytest.approx(70))
    assert 54 < found["low"] < 56 < 64 < found["high"] < 66


def test_the_sound_column_is_the_worst_case_over_the_suite():
    hits = both(0.5, 0.5)
    hits["a"]["curve"] = {0.0: 1.0, 0.3: 0.2}
    hits["a"]["white-box"] = {0.3: 0.4}
    assert measures.scores(Fake(hits), "a", "sound-pgd", 0).mean() == pytest.approx(0.2)
    assert measures.scores(Fake(hits), "b", "sound-pgd", 0).mean() == pytest.approx(0.5)


def test_a_curve_of_masked_gradients_decides_nothing_in_its_favour():
    hits = both(0.3, 0.6)
    hits["b"]["sound-pgd"] = {0.3: 0.1}
    assert measures.masked(Fake(hits), "b") and not measures.masked(Fake(hits), "a")
    found = measures.compare(Fake(hits), "a", "b", "curve")
    assert (found["verdict"], found["reason"]) == ("not decided", "masked gradients: b")
    hits["b"]["curve"] = {0.0: 1.0, 0.1: 0.1, 0.3: 0.1}
    assert measures.compare(Fake(hits), "a", "b", "curve")["verdict"] == "holds"  # it lost all the same


def test_a_claim_of_several_pairs():
    assert measures.combine(["holds", "holds"]) == "holds"
    assert measures.combine(["holds", "not decided"]) == "not decided"
    assert measures.combine(["not decided", "does not hold"]) == "does not hold"


def test_a_curve_decides_nothing_below_the_error_of_its_attack():
    hits = both(0.5, 0.5)
    hits["a"]["curve"] = {0.0: 1.0, 0.1: 0.515, 0.3: 0.515}
    found = measures.compare(Fake(hits), "a", "b", "curve")
    assert found["p"] < 0.05 and 0 < found["difference"] < measures.LADDER_ERROR
    assert (found["verdict"], found["reason"]) == ("not decided", "less than the ladder's own error")


def test_table_1s_average_is_that_of_white_box_and_transfer():
    hits = both(0.5, 0.5)
    hits["a"]["transfer-oracle"] = {0.3: 0.9}
    assert measures.scores(Fake(hits), "a", "average", 0).mean() == pytest.approx(0.7)
