"""Scores, measurements and verdicts from made-up outcomes: every branch."""

import numpy as np
import pandas as pd
import pytest
from fake import Fake, spec

import fpdlib
from fpdlib import report
from fpdlib.errors import NotComputed
from fpdlib.paper import FPD, experiments
from fpdlib.report import explorations, measures

SUITE = {"white-box": spec(), "current": spec(), "sound": spec(), "radius": spec(eps=1.0)}


def suite(share):
    return {"white-box": share, "sound": share, "radius": np.where(np.arange(400) < share * 400, 0.6, 0.0)}


def both(a, b):
    return {"a": suite(a), "b": suite(b)}


def three(hits, **options):
    """Three seeds that are alike."""
    return Fake(hits, hits, hits, attacks=SUITE, **options)


@pytest.mark.parametrize(
    ("a", "b", "verdict", "reason"),
    [
        (0.6, 0.3, "holds", ""),
        (0.3, 0.6, "does not hold", "opposite order"),
        (0.5, 0.5, "not decided", "no significant difference"),
        (0.0, 0.0, "not decided", "both at the floor"),
    ],
)
@pytest.mark.parametrize("measure", ["white-box", "radius"])
def test_one_pair(a, b, verdict, reason, measure):
    found = measures.compare(three(both(a, b)), "a", "b", measure)
    if (a, measure) == (0.0, "radius"):
        reason = "everything at one bound"
    assert (found["verdict"], found["reason"]) == (verdict, reason)
    assert found["difference"] == pytest.approx(100 * (a - b))
    assert found["low"] <= found["difference"] <= found["high"] and found["n"] == 400 and found["smallest"] > 0


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
    hits = [both(0.6, 0.3)] * 3 + [both(0.64, 0.9)]
    evidence = Fake(*hits, missing=[("b", 3)])
    found = measures.compare(evidence, "a", "b", "white-box")
    assert (found["seeds"], found["verdict"]) == (3, "holds") and found["difference"] == pytest.approx(31)
    assert measures.measurement(evidence, "a", "white-box")["seeds"] == 4


def test_a_seed_counts_in_every_comparison_that_its_outcomes_allow():
    """The fourth seed has the cheap attack alone."""
    hits = [both(0.6, 0.3)] * 3 + [{"a": {"white-box": 0.64}, "b": {"white-box": 0.3}}]
    evidence = Fake(*hits, attacks=SUITE)
    assert measures.compare(evidence, "a", "b", "white-box")["difference"] == pytest.approx(31)
    assert measures.compare(evidence, "a", "b", "radius")["seeds"] == 3


def test_a_measurement_has_its_interval_and_its_range_over_seeds():
    found = measures.measurement(Fake(both(0.5, 0), both(0.7, 0)), "a", "white-box")
    assert (found["value"], found["n"]) == (pytest.approx(60), 400)
    assert (found["seed_min"], found["seed_max"]) == (pytest.approx(50), pytest.approx(70))
    assert 54 < found["low"] < 56 < 64 < found["high"] < 66


def test_the_worst_case_and_the_radius_take_every_attack_of_their_norm():
    """What an attack broke at 0.3 is broken in the worst case, and its size bounds the radius; the search may go below both."""
    hits = both(0.5, 0.5)
    hits["a"] |= {"white-box": 0.4, "radius": np.where(np.arange(400) < 80, 0.6, 0.15)}
    evidence = Fake(hits, attacks=SUITE)
    assert measures.scores(evidence, "a", "worst", 0).mean() == pytest.approx(0.2)
    assert measures.scores(evidence, "b", "worst", 0).mean() == pytest.approx(0.5)
    area = measures.scores(evidence, "a", "radius", 0)
    assert area.iloc[100] == pytest.approx(0.5) and area.iloc[0] == 1.0 and area.iloc[300] == pytest.approx(0.5)
    assert area.mean() == pytest.approx(0.2 + 0.8 * 0.5)
    hits["a"]["radius"] = np.full(400, 0.9)  # a search that found little
    hits["a"]["white-box"] = np.full(400, 0.15)
    assert measures.scores(Fake(hits, attacks=SUITE), "a", "radius", 0).mean() == pytest.approx(0.5)


@pytest.mark.parametrize(("shares", "weak"), [((0.45, 0.45, 0.2), True), ((0.59, 0.45, 0.2), False)], ids=["each", "not each"])
def test_networks_that_each_lie_far_below_are_undertrained_however_they_differ(shares, weak, monkeypatch):
    """Over seeds the interval of these three reaches above -5 points; of each by itself it does not."""

    def right(*shares):
        return pd.DataFrame({seed: (np.arange(400) < share * 400).astype(float) for seed, share in enumerate(shares)})

    known = {"F": right(*shares), "ReLU": right(0.6, 0.6, 0.6)}
    monkeypatch.setattr(measures, "clean_by_seed", lambda evidence, name: known[name])
    monkeypatch.setattr(measures, "plain", lambda evidence, name: (evidence, "ReLU"))
    assert measures.versus(known["F"], known["ReLU"]).high > -measures.FLOOR
    assert measures.undertrained.__wrapped__(None, "F") == weak


def test_an_undertrained_network_decides_nothing():
    """Clearly more than 5 points below the plain network on the same images; the profile has no floor of its own."""
    hits = {"ReLU": suite(0.3), "F": suite(0.6)}
    for clean, weak in ((0.84, True), (0.96, False), (0.94, False)):
        evidence = three(hits, clean={"ReLU": 0.99, "F": clean})
        assert measures.clean(evidence, "F")["undertrained"] == weak
        found = measures.compare(evidence, "F", "ReLU", "white-box")
        assert found["verdict"] == ("not decided" if weak else "holds") and found["reason"] == ("undertrained: F" if weak else "")
    assert not measures.undertrained(three(hits, clean={"ReLU": 0.5, "F": 0.5}), "ReLU")  # nothing to be compared with
    hardened = {"ReLU": suite(0.3), "O_PGD": suite(0.6)}
    assert not measures.undertrained(three(hardened, clean={"ReLU": 0.99, "O_PGD": 0.5}), "O_PGD")  # pays for robustness


def test_where_the_sound_attack_leaves_nothing_the_worst_case_needs_no_other():
    """An image that is broken stays broken, whatever the attacks that are missing would find; one that stands may fall to them."""
    hits = {"a": {"sound": 0.0, "radius": 0.4, "current": 0.3}, "b": {"sound": 0.1, "radius": 0.4, "current": 0.3}}
    missing = [(name, attack) for name in "ab" for attack in ("radius", "current")]
    evidence = Fake(hits, absent=missing)
    assert measures.parts(evidence, "a", "worst", 0) == ("sound",)
    assert measures.measurement(evidence, "a", "worst")["value"] == 0 and measures.measurement(evidence, "a", "worst")["n"] == 400
    for name, measure in (("b", "worst"), ("a", "radius"), ("b", "radius")):
        with pytest.raises(NotComputed):
            measures.measurement(evidence, name, measure)
    # no seed is chosen by its outcome: one that leaves something takes the rule from all
    mixed = Fake({"a": {"sound": 0.0, "radius": 0.4}}, {"a": {"sound": 0.1, "radius": 0.4}}, absent=[("a", "radius")])
    with pytest.raises(NotComputed):
        measures.measurement(mixed, "a", "worst")


def test_a_radius_that_one_seed_lacks_leaves_the_others_comparable():
    """Where the worst case is known of more seeds than the radius is."""
    rng = np.random.default_rng(0)
    hits = [{name: {"sound": 0.0, "radius": np.clip(mean + 0.05 * rng.normal(size=400), 0.01, 0.29)} for name, mean in
             (("a", 0.1), ("b", 0.2))} for _ in range(4)]  # fmt: skip
    suite = {"sound": spec(), "radius": spec(eps=1.0)}
    whole = measures.compare(Fake(*hits, attacks=suite), "b", "a", "radius")
    fewer = Fake(*hits, attacks=suite)
    fewer.has = lambda name, attack, seed: (name, attack, seed) != ("a", "radius", 3)
    part = measures.compare(fewer, "b", "a", "radius")
    assert whole["verdict"] == part["verdict"] == "holds" and (whole["seeds"], part["seeds"]) == (4, 3)


def test_a_number_that_hides_what_the_worst_case_finds_is_masked():
    hits = both(0.3, 0.6)
    hits["b"] |= {"white-box": 0.6, "sound": 0.1}
    evidence = three(hits)
    assert measures.masked(evidence, "b", "white-box") and not measures.masked(evidence, "a", "white-box")
    assert measures.measurement(evidence, "b", "white-box")["masked"] and not measures.masked(evidence, "b", "sound")
    one = Fake(hits, attacks=SUITE)
    assert measures.masked(one, "b", "white-box") and not measures.masked(one, "a", "white-box")
    # networks that differ from each other and are each clearly lower in the worst case
    apart = [{"a": {"white-box": told, "sound": told - 0.1}} for told in (0.9, 0.6, 0.3)]
    assert measures.masked(Fake(*apart, attacks=SUITE), "a", "white-box")
    # seeds that only the cheap attack has say nothing
    cheap = [{"a": {"white-box": 0.3, "sound": 0.3}}] * 3 + [{"a": {"white-box": 0.9}}] * 5
    assert not measures.masked(Fake(*cheap, attacks=SUITE), "a", "white-box")


def test_what_one_attack_leaves_and_another_breaks_is_one_sample():
    told, found = (pd.DataFrame({0: np.arange(200) < a, 1: np.arange(200) < b}).astype(float) for a, b in ((180, 60), (160, 40)))
    both = measures.gap(told, found)
    assert both.effect == pytest.approx(0.1) and both.seeds == (2, 2)
    assert both.high - both.low < 0.7  # the networks are far apart, their gaps are not
    with pytest.raises(NotComputed):
        measures.gap(told[[0]], found[[1]])


def test_an_attack_that_fails_on_both_networks_decides_nothing():
    hits = both(0.97, 0.93)
    for name in "ab":
        hits[name] |= {"sound": 0.1}
    found = measures.compare(three(hits), "a", "b", "white-box")
    assert (found["verdict"], found["reason"]) == ("not decided", "the attack fails on both")
    for name in "ab":
        hits[name]["transfer-oracle"] = hits[name]["white-box"]
    suite = SUITE | {"transfer-oracle": spec()}
    assert measures.compare(Fake(hits, hits, hits, attacks=suite), "a", "b", "average")["reason"] == "the attack fails on both"
    hits["b"]["white-box"] = 0.5
    found = measures.compare(three(hits), "a", "b", "white-box")
    assert (found["verdict"], found["reason"]) == ("holds", "masked: a, b")


def test_headline_comparisons_are_judged_among_each_other(monkeypatch):
    """Alone it would hold; as the weakest of ten it is not decided. The printed interval stays unadjusted."""
    names = [name for line in FPD.headlines for name in (line.better, line.worse)]
    flat = {name: {"radius": np.full(400, 0.3), "sound": 0.5, "transfer-oracle": 0.5} for name in dict.fromkeys(names)}
    draws = np.random.default_rng(0)
    hits = [{name: of | {"radius": draws.normal(0.1, 0.02, 400).clip(0.01, 0.3)} for name, of in flat.items()} for _ in range(3)]
    for one in hits:
        one["F_FD"]["radius"] = one["F_FD"]["radius"] + 0.004
    suite = {"radius": spec(eps=1.0), "sound": spec(), "transfer-oracle": spec()}
    evidence = Fake(*hits, attacks=suite)
    monkeypatch.setattr(evidence, "setting", "table1", raising=False)
    found = measures.compare(evidence, "F_FD", "Deep", "radius")
    assert len(evidence.family) >= 9 and found["low"] <= found["difference"] <= found["high"]
    assert found["p_adjusted"] == evidence.family["table1", "F_FD", "Deep", "radius"][1] > found["p"]
    assert measures.adjusted(evidence, "F_FD", "Deep", "radius", 0.01) == pytest.approx(0.1)  # other seeds than the family's
    assert measures.adjusted(evidence, "Deep", "F_FD", "radius", 0.01) == 0.01  # no headline
    # alone it is one of ten all the same
    few = [{name: of for name, of in one.items() if name in ("F_FD", "Deep")} for one in hits]
    alone = Fake(*few, attacks=suite)
    monkeypatch.setattr(alone, "setting", "table1", raising=False)
    assert measures.compare(alone, "F_FD", "Deep", "radius")["p_adjusted"] == pytest.approx(10 * found["p"])
    assert found["p"] < 0.05 <= found["p_adjusted"]
    assert found["verdict"] == "not decided" and "among the headline claims" in found["reason"]


def test_a_claim_of_several_pairs():
    assert measures.combine(["holds", "holds"]) == "holds" and measures.combine([]) == "not decided"
    assert measures.combine(["holds", "not decided"]) == "not decided"
    assert measures.combine(["not decided", "does not hold"]) == "does not hold"


def test_table_1s_average_is_that_of_white_box_and_transfer():
    hits = both(0.5, 0.5)
    hits["a"]["transfer-oracle"] = 0.9
    assert measures.scores(Fake(hits), "a", "average", 0).mean() == pytest.approx(0.7)


def test_an_exploration_whose_networks_are_not_there_says_so_and_a_notebook_goes_on():
    evidence = fpdlib.load(fpdlib.plan("table1", profile="laptop", seeds=[0]).query("network == 'F'"))
    told = report.finding(evidence, experiments.PLACEMENT)
    assert "inner layers in the shallow blocks" in told and "*Not computed:*" in told and "work --plan table1" in told


def test_each_headline_stands_beside_the_papers_own_measure(tmp_path):
    """Of photographs the paper prints PGD alone; the picture and the table say where a comparison was made elsewhere."""
    evidence = fpdlib.load(fpdlib.plan("table1", "caltech101", profile="laptop"), str(tmp_path)).at("table1")
    main = report.headlines(evidence).set_index("setting")
    own = report.compare(evidence.at("caltech101"), "F", "ReLU", "published/linf-pgd")
    assert main.loc["caltech101", "published difference"] == own["difference"] and main["published difference"].notna().all()
    assert main.loc["caltech101", "published reason"] == own["reason"] == "masked: F"
    first = report.headlines(evidence).iloc[0]  # Table 1's own measure: the average of both columns
    assert first["published difference"] == report.compare(evidence, first["better"], first["worse"], "average")["difference"]
    told = explorations.elsewhere(evidence, main.reset_index())
    assert told == "; caltech101: 64 pixels, eps 0.03125, 3 networks"
    assert explorations.elsewhere(evidence, main.loc[["table1"]].reset_index()) == ""


def test_headlines_of_a_scale_without_caltech_have_their_picture(tmp_path):
    """paper-short has Table 1 alone; the title names what else there is, and nothing that there is not."""
    evidence = fpdlib.load(fpdlib.plan("table1", profile="paper-short"), str(tmp_path))
    main = report.headlines(evidence)
    assert set(main.loc[main["setting"] == "caltech101", "verdict"]) == {"not tested"}
    assert report.headline_picture(evidence, main).get_suptitle() == explorations.scale(evidence)
