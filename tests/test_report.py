"""Verdicts from made-up outcomes: every branch."""

import pytest
from fake import Fake

from fpdlib.report import measures


def both(a, b):
    def suite(share):
        return {"white-box": {0.3: share}, "sound-pgd": {0.3: share}, "curve": {0.0: 1.0, 0.1: share, 0.3: share}}

    return {"a": suite(a), "b": suite(b)}


def three(hits, **options):
    """Three seeds that are alike."""
    return Fake(hits, hits, hits, **options)


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
    found = measures.compare(three(both(a, b), clean=clean), "a", "b", attack)
    if (a, attack) == (0.0, "curve"):
        reason = "no significant difference"  # every curve starts above the floor
    assert (found["verdict"], found["reason"]) == (verdict, reason)
    if attack == "white-box":
        assert found["difference"] == pytest.approx(100 * (a - b))
    assert found["low"] <= found["difference"] <= found["high"] and found["n"] == 400


def test_seeds_that_disagree_decide_nothing():
    """Over images alone the mean of these networks would be far from 0."""
    found = measures.compare(Fake(both(0.9, 0.2), both(0.3, 0.35), both(0.3, 0.3)), "a", "b", "white-box")
    assert (found["verdict"], found["reason"], found["seeds"]) == ("not decided", "no significant difference", 3)
    assert found["low"] < 0 < found["high"]


@pytest.mark.parametrize("seeds", [1, 2])
def test_one_or_two_seeds_describe_networks_and_decide_nothing(seeds):
    found = measures.compare(Fake(*[both(0.9, 0.1)] * seeds), "a", "b", "white-box")
    assert (found["verdict"], found["reason"], found["seeds"]) == ("not decided", "fewer than 3 seeds", seeds)
    assert found["difference"] == pytest.approx(80)


def test_every_seed_of_a_network_counts():
    hits = [both(0.6, 0.3)] * 3 + [both(0.6, 0.9)]
    evidence = Fake(*hits, missing=[("b", 3)])
    found = measures.compare(evidence, "a", "b", "white-box")
    assert (found["seeds"], found["verdict"]) == (3, "holds") and found["difference"] == pytest.approx(30)
    assert measures.measurement(evidence, "a", "white-box")["seeds"] == 4


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
    found = measures.compare(three(hits), "a", "b", "curve")
    assert (found["verdict"], found["reason"]) == ("not decided", "masked gradients: b")
    hits["b"]["curve"] = {0.0: 1.0, 0.1: 0.1, 0.3: 0.1}
    assert measures.compare(three(hits), "a", "b", "curve")["verdict"] == "holds"  # it lost all the same


def test_a_claim_of_several_pairs():
    assert measures.combine(["holds", "holds"]) == "holds"
    assert measures.combine(["holds", "not decided"]) == "not decided"
    assert measures.combine(["not decided", "does not hold"]) == "does not hold"


def test_a_curve_decides_nothing_below_the_error_of_its_attack():
    hits = both(0.5, 0.5)
    hits["a"]["curve"] = {0.0: 1.0, 0.1: 0.515, 0.3: 0.515}
    found = measures.compare(three(hits, count=2000), "a", "b", "curve")
    assert found["p"] < 0.05 and 0 < found["difference"] < measures.LADDER_ERROR
    assert (found["verdict"], found["reason"]) == ("not decided", "less than the ladder's own error")


def test_table_1s_average_is_that_of_white_box_and_transfer():
    hits = both(0.5, 0.5)
    hits["a"]["transfer-oracle"] = {0.3: 0.9}
    assert measures.scores(Fake(hits), "a", "average", 0).mean() == pytest.approx(0.7)
