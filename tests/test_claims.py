"""Every claim has a test that exists; verdicts from made-up outcomes; committed verdicts come from committed outcomes."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from fake import Fake, spec

import fpdlib
from fpdlib import evaluation
from fpdlib.errors import NotComputed
from fpdlib.paper import FPD, published
from fpdlib.paper.experiments import EXPLORATIONS
from fpdlib.paper.profiles import PROFILES
from fpdlib.paper.settings import SETTINGS
from fpdlib.paper.variants import VARIANTS
from fpdlib.report import claims, measures, verdicts

RESULTS = Path(__file__).parent.parent / "results"
VERDICTS = {"holds", "does not hold", "not decided", "not tested"}


def test_every_claim_names_its_place_its_test_and_networks_that_exist():
    table = published.claims()
    assert table["id"].is_unique and len(table) >= 40 and (table["place"].str.len() > 3).all()
    for _, claim in table.iterrows():
        assert claim["setting"] in ("", *SETTINGS), claim["id"]
        assert claim["test"] in claims.TESTS, claim["id"]
        if claim["test"] in ("order", "table1", "clean", "cost", "masking", "time", "filter"):
            assert FPD.variant(claim["better"]) in VARIANTS, claim["id"]
            assert not claim["worse"] or FPD.variant(claim["worse"]) in VARIANTS, claim["id"]
    assert {c["better"] for _, c in table.iterrows() if c["test"] == "exploration"} == {e.section for e in EXPLORATIONS}
    places = " ".join(table["place"])
    for part in ("Abstract", "Sec. 1", "Sec. 2", "Sec. 3.1", "Sec. 3.3", "Sec. 3.4", "Sec. 4.1", "Sec. 4.2", "Sec. 5", "Theorem 1",
                 "Table 1", "Table 2", "Table 3", "Table 4", "Fig. 5"):  # fmt: skip
        assert part in places, part


ATTACKS = ("published/linf-pgd", "published/l2-pgd", "current/linf-pgd", "sound/linf")


def fake(*shares, low=None, attacks=ATTACKS, **options):
    """Evidence of the setting table2, a dictionary a seed: {network: share of 200 images that stand}; all attacks alike but sound
    ones, of which `low` has other shares."""
    hits = [{name: {key: (low or {}).get(name, share) if key.startswith("sound") else share for key in attacks}
             for name, share in one.items()} for one in shares or ({},)]  # fmt: skip
    specs = {key: spec(key.split("/")[1].split("-")[0]) for key in attacks}
    return Fake(*hits, attacks=specs, **{"count": 200} | options)


def judged(test, evidence, protocol="published", better="F", worse="O"):
    claim = {"test": test, "better": better, "worse": worse, "where": "bounded", "setting": "table2", "printed": ""}
    return claims.judge(pd.Series(claim), evidence, protocol)


@pytest.mark.parametrize(
    ("f", "o", "verdict"), [(0.6, 0.2, "holds"), (0.2, 0.6, "does not hold"), (0.5, 0.5, "not decided"), (0.0, 0.0, "not decided")]
)
@pytest.mark.parametrize("protocol", ["published", "sound"])
def test_orders(f, o, verdict, protocol):
    found = verdicts.order(fake(*[{"F": f, "ReLU": o}] * 3), "F", "O", "bounded", protocol)
    assert found.verdict == verdict and found.effect == pytest.approx(100 * (f - o))
    assert found.low < found.effect < found.high and found.n == 200 and found.seeds == 3 and found.smallest > 0


def test_a_size_is_ours_over_the_papers_and_only_in_the_papers_protocols():
    evidence = fake(*[{"F": 0.4, "ReLU": 0.2}] * 3)
    found = verdicts.order(evidence, "F", "O", "bounded", "published", 80)
    assert found.size == pytest.approx(0.25) and found.size_low < 0.25 < found.size_high and found.weaker
    assert (found.verdict, verdicts.order(evidence, "F", "O", "bounded", "published", 21).weaker) == ("holds", False)
    assert np.isnan(verdicts.order(evidence, "F", "O", "bounded", "sound", 80).size)
    loose = fake({"F": 0.9, "ReLU": 0.2}, {"F": 0.6, "ReLU": 0.2}, {"F": 0.7, "ReLU": 0.2})
    wide = verdicts.order(loose, "F", "O", "bounded", "published", 100)
    # the interval lies below the paper's number, but one more pair of networks might well reach it
    assert wide.verdict == "holds" and not wide.weaker
    opposite = verdicts.order(fake(*[{"F": 0.2, "ReLU": 0.4}] * 3), "F", "O", "bounded", "published", 80)
    assert opposite.verdict == "does not hold" and not opposite.weaker


def test_a_masked_number_is_named():
    found = verdicts.order(fake(*[{"F": 0.6, "ReLU": 0.2}] * 3, low={"F": 0.1}), "F", "O", "bounded", "published")
    assert (found.verdict, found.reason) == ("holds", "masked: F")
    attacks = ("published/linf-fgsm", "published/linf-pgd", "sound/linf")
    evidence = fake(*[{"F": 0.97, "ReLU": 0.93}] * 3, low={"F": 0.1, "ReLU": 0.1}, attacks=attacks)
    failed = verdicts.order(evidence, "F", "O", "bounded", "published")
    assert (failed.verdict, failed.reason) == ("not decided", "every attack fails on both or breaks everything")


def test_what_earns_no_verdict():
    weak = judged("order", fake(*[{"F": 0.6, "ReLU": 0.2}] * 3, clean={"F": 0.8, "ReLU": 0.99}))
    assert (weak.verdict, weak.reason) == ("not decided", "undertrained: F")
    stand_in = judged("order", fake({"F": 0.6, "ReLU": 0.2}, stand_in=True))
    assert stand_in.verdict == "not tested" and "stand-in" in stand_in.reason
    few = judged("order", fake(*[{"F": 0.9, "ReLU": 0.1}] * 2))
    assert (few.verdict, few.reason) == ("not decided", "fewer than 3 seeds") and few.effect == pytest.approx(80)
    assert judged("order", fake(*[{"F": 0.9, "ReLU": 0.1}] * 3)).verdict == "holds"
    assert judged("order", fake({"F": 0.9, "ReLU": 0.1}, {"F": 0.3, "ReLU": 0.35}, {"F": 0.3, "ReLU": 0.3})).verdict == "not decided"
    evidence = fake({"F": 0.6, "ReLU": 0.2})
    del evidence.profile.attacks["current/linf-pgd"]
    assert judged("order", evidence, "current").verdict == "not tested"
    absent = fake({"F": 0.6, "ReLU": 0.2}, missing=[("F", 0)])
    assert judged("order", absent).verdict == "not tested" and "not computed" in judged("order", absent).reason


def test_the_worst_case_takes_every_attack_of_its_norm():
    assert measures.scores(fake({"F": 0.5}, low={"F": 0.2}), "F", "worst/linf", 0).mean() == pytest.approx(0.2)
    # a weaker attack that broke more still counts
    assert measures.scores(fake({"F": 0.5}, low={"F": 0.9}), "F", "worst/linf", 0).mean() == pytest.approx(0.5)


def test_clean_accuracy_within_a_point():
    """On the same images; an undertrained network is no excuse."""
    hits = [{"F": 0.5, "ReLU": 0.5}] * 3
    same = verdicts.clean_accuracy(fake(*hits, clean={"F": 0.99, "ReLU": 0.99}, count=1000), "F", "O")
    lost = verdicts.clean_accuracy(fake(*hits, clean={"F": 0.8, "ReLU": 1.0}), "F", "O")
    assert (same.verdict, lost.verdict) == ("holds", "does not hold") and lost.effect == pytest.approx(-20)
    assert judged("clean", fake(*hits, clean={"F": 0.8, "ReLU": 1.0})).verdict == "does not hold"


def test_masked_gradients():
    attacks = ("published/linf-fgsm", "published/linf-pgd", "published/linf-cw", "sound/linf")
    for low, verdict in ((0.0, "does not hold"), (0.6, "holds"), (0.5, "not decided")):
        networks = [{"F": 0.6, "O_PGD": 0.5}] * 3
        found = verdicts.masking(fake(*networks, low={"F": low, "O_PGD": 0.4}, attacks=attacks), "F", "O_PGD")
        assert found.verdict == verdict and found.reason == f"gaps {100 * (0.6 - low):.1f} and 10.0"
    for control in (0.0, 0.5):  # what is broken already cannot fall further, which speaks for nobody
        nothing = verdicts.masking(fake(*[{"F": 0.0, "O_PGD": control}] * 3, low={"O_PGD": 0.0}, attacks=attacks), "F", "O_PGD")
        assert nothing.verdict == "not decided" and "leave nothing of F, so there is no gap; gaps 0.0 and" in nothing.reason


def test_one_attack_against_another():
    evidence = fake({"O_FGSM": 0.8}, low={"O_FGSM": 0.1})
    assert verdicts.between_attacks(evidence, "O_FGSM", "published/linf-pgd", "sound/linf").verdict == "holds"
    assert verdicts.between_attacks(evidence, "O_FGSM", "published/linf-pgd", "published/l2-pgd").verdict == "not decided"


def test_an_average_has_no_worst_case_and_unbounded_attacks_are_not_bounded(tmp_path):
    evidence = fpdlib.load(fpdlib.plan("table2"), str(tmp_path))
    assert verdicts.keys(evidence, "all", "sound") == [] and len(verdicts.keys(evidence, "all", "published")) == 7
    assert verdicts.keys(evidence, "bounded", "sound") == ["worst/linf"]  # one norm at a time
    assert not {f"published/{name}" for name in verdicts.UNBOUNDED} & set(verdicts.keys(evidence, "bounded", "published"))


def test_decisions():
    decide = verdicts.decide
    assert [decide(5, 15), decide(-15, -5), decide(-2, 4)] == ["holds", "does not hold", "not decided"]
    assert [decide(6, 9, 5), decide(0.2, 1.8, 5), decide(1, 6, 5)] == ["holds", "does not hold", "not decided"]
    assert claims.printed(pd.Series({"printed": "35"})) == 35 and np.isnan(claims.printed(pd.Series({"printed": ""})))


def test_deterministic_verdicts():
    by_id = published.claims().set_index("id")

    def one(name):
        return claims.judge(by_id.loc[name], None, "any")

    assert verdicts.theorem_holds(100).verdict == "does not hold"
    lipschitz = one("tanh-lipschitz")
    assert lipschitz.verdict == "does not hold" and lipschitz.effect == pytest.approx(1, abs=1e-6)
    assert one("all-round-printed").verdict == "does not hold" and one("at-mnist-printed").effect == pytest.approx(-1.72, abs=0.01)
    assert one("clean-printed-101").unit == "points, printed"
    tanh = one("tanh-variation")
    assert tanh.verdict == "holds" and 0 < tanh.effect < 1
    assert one("average-10").unit == "points, recomputed"
    x = one("average-x")
    assert x.verdict == "does not hold" and x.effect == pytest.approx(34.055)


def test_adversarial_training_costs_more_than_fpd_and_dot_products_are_free(tmp_path):
    found = verdicts.training_cost(FPD, "F", "O_PGD")
    assert found.verdict == "holds" and found.effect > 10 and "with 100 attack steps" in found.reason
    fgsm, fast = verdicts.training_cost(FPD, "F", "O_FGSM"), verdicts.training_cost(FPD, "F", "CNN (fast AT)", "anchor")
    assert fgsm.verdict == fast.verdict == "does not hold" and "10 epochs with 1 attack step" in fast.reason
    assert fgsm.effect == pytest.approx(0.75, abs=0.01) and "after O's" in fgsm.reason  # with the training of O before it
    assert verdicts.training_cost(FPD, "F", "F", "anchor").effect == pytest.approx(0.1)  # a recipe of ten epochs; F stays F
    plain = verdicts.training_cost(FPD, "F", "ReLU").effect
    # a hundred epochs of it; with one attack step each takes two to three times as much
    assert 2 < fast.effect / plain / (10 / 100) < 3 and fgsm.effect > plain
    assert verdicts.less(FPD, PROFILES["smoke"], "F_FD", "ReLU", "parameters").effect == 0
    dearer = verdicts.less(FPD, PROFILES["smoke"], "F", "F (gaussian)", "forward_macs")
    assert dearer.verdict == "holds" and dearer.effect < 0


@pytest.mark.parametrize("profile", ["laptop"])
def test_committed_verdicts_come_from_committed_outcomes(profile, tmp_path):
    committed = pd.read_csv(RESULTS / profile / "tables" / "claims.csv", keep_default_na=False)
    assert set(committed["verdict"]) <= VERDICTS and committed["id"].nunique() == len(published.claims())
    quick = tuple(i for i in committed["id"].unique() if i not in ("theorem", "cheaper"))  # slow to recompute
    evidence = fpdlib.load(fpdlib.plan(profile=profile), str(tmp_path))
    found = claims.verify(evidence, quick).set_index(["id", "protocol"])["verdict"]
    same = committed[committed["id"].isin(quick)].set_index(["id", "protocol"])["verdict"]
    pd.testing.assert_series_equal(found, same)


def test_the_known_answer_of_the_literature(tmp_path):
    """Wong et al. 2020: 82.93 % under AutoAttack at eps 0.3. Ours, with more attacks than AutoAttack, ends between 75 and 88 % in the
    mean of three seeds. A much lower value would mean a broken training, a higher one a weak attack."""
    evidence = fpdlib.load(fpdlib.plan("known-answer", profile="laptop"), str(tmp_path))
    name, left = "CNN (fast AT, 30 epochs)", {}
    for attack in ("sound/linf", "published/linf-pgd"):
        left[attack] = [evaluation.robust(evidence.outcome(name, attack, seed)).iloc[:, -1].mean() for seed in range(3)]
    assert all(len(evidence.outcome(name, "sound/linf", seed)) == 1000 for seed in range(3))
    assert 0.75 <= np.mean(left["sound/linf"]) <= 0.88
    assert all(told > found for told, found in zip(left["published/linf-pgd"], left["sound/linf"], strict=True))
    assert all(evidence.clean(name, seed).value > 0.97 for seed in range(3))


def test_an_attack_that_met_no_image_has_no_cost():
    none, some = {"forwards": 0, "backwards": 0}, {"forwards": 5, "backwards": 5}  # of F no image is classified correctly
    evidence = fake({"F": 0.0, "ReLU": 0.5}, counts={"F": none, "ReLU": some})
    evidence.result = lambda name, what, seed: SimpleNamespace(spec=VARIANTS[name].spec(PROFILES["smoke"]))
    found = verdicts.attack_cost(evidence, "F", "O")
    assert (found.verdict, found.reason) == ("not decided", "an attack found no correctly classified image")
    same = verdicts.attack_cost(evidence, "O", "O")
    assert same.effect == 1 and same.size == 1 and not same.weaker


def test_an_attack_that_takes_less_longer_than_the_papers_is_weaker_than_claimed():
    """The paper's minutes: F takes several times as long as O."""
    few, many = {"forwards": 5, "backwards": 5}, {"forwards": 5.5, "backwards": 5.5}
    evidence = fake(*[{"F": 0.5, "ReLU": 0.5}] * 3, counts={"F": many, "ReLU": few})
    evidence.result = lambda name, what, seed: SimpleNamespace(spec=VARIANTS["ReLU"].spec(PROFILES["smoke"]))
    found = verdicts.attack_cost(evidence, "F", "O")
    assert found.verdict == "holds" and found.effect == pytest.approx(1.1) and found.size_high < 1 and found.weaker
    # one more pair of networks might reach the paper's ratio: the spread over networks counts, not that over attacks alone
    metas = {("F", seed): {"counts": {"forwards": 5 * ratio, "backwards": 5 * ratio, "seconds": 1.0}} for seed, ratio in
             enumerate((1.05, 1.1, 1.4))}  # fmt: skip
    plain = {"counts": few | {"seconds": 1.0}}
    evidence.meta = lambda name, what, seed: metas.get((name, seed), plain)
    wide = verdicts.attack_cost(evidence, "F", "O")
    assert wide.verdict == "holds" and wide.size_high < 1 and not wide.weaker


def test_leaving_out_the_denoising_layers_is_held_against_going_through_them():
    def study(bare, through):
        left = {"through bare": bare, "momentum": through, "AutoAttack": 0}
        lines = [{"attack": name, "index": i, "stands": i < kept} for name, kept in left.items() for i in range(50)]
        return {"study": pd.DataFrame(lines)}

    evidence = fake(*[{"F": 0.5}] * 3)
    evidence.has = lambda name, what, seed: what == "adaptive"
    evidence.study = lambda name, what, seed: study(45, 25 + seed)
    found = verdicts.adaptive(evidence, "F", "through bare", "momentum")
    assert (found.seeds, found.n) == (3, 50) and found.effect == pytest.approx(38) and found.low > 0
    assert found.verdict == "not decided" and "describes" in found.reason  # its epsilon was chosen after a look
    assert "leave 90 % and 52 %" in found.reason
    evidence.study = lambda name, what, seed: study(0, 0)
    assert verdicts.adaptive(evidence, "F", "through bare", "momentum").effect == 0
    evidence.study = lambda name, what, seed: {"study": study(45, 25)["study"].query("attack != 'momentum'")}
    with pytest.raises(NotComputed, match="momentum on images that every network saw"):
        verdicts.adaptive(evidence, "F", "through bare", "momentum")
    evidence.has = lambda name, what, seed: False
    with pytest.raises(NotComputed, match="attacks made for FPD"):
        verdicts.adaptive(evidence, "F", "through bare", "momentum")


def test_every_comparison_says_what_it_can_find():
    line = vars(verdicts.Verdict("holds", 5.0, 3.0, 7.0, "points", 100, 3, "", 2.8))
    assert "can find 2.8" in claims.spoken(pd.Series(line))
    assert "can find" not in claims.spoken(pd.Series(line | {"smallest": np.nan}))


def test_how_accurate_a_restoration_is_is_a_matter_of_networks():
    near = {"F": [0.010, 0.011, 0.0095], "F_OnePhase": [0.02, 0.022, 0.021]}
    found = verdicts.more_accurate(fake(*[{"F": 0.5, "F_OnePhase": 0.5}] * 3, mse=near), "F", "F_OnePhase")
    assert (found.verdict, found.unit, found.seeds) == ("holds", "dB", 3) and 2.5 < found.effect < 3.5
    far = {"F": [0.01, 0.03, 0.02], "F_OnePhase": [0.02, 0.022, 0.021]}
    assert verdicts.more_accurate(fake(*[{"F": 0.5, "F_OnePhase": 0.5}] * 3, mse=far), "F", "F_OnePhase").verdict == "not decided"


def filtered(wrong=1.3, **broken):
    """Of 400 clean images the last 20 are wrong, with this mean error; of each attack's the last 200 are broken, with its; else 1."""
    draws, lines = np.random.default_rng(0), []
    for kind, centre in ({"clean": wrong} | broken).items():
        for i in range(400):
            right = i < (380 if kind == "clean" else 200)
            lines.append({"index": i, "images": kind, "error": draws.normal(1.0 if right else centre, 0.1), "right": right})
    evidence = fake()
    evidence.study = lambda name, what: {"study": pd.DataFrame(lines)}
    return verdicts.filtered(evidence, "F")


def test_a_filter_has_to_gain_on_clean_images_and_on_what_each_attack_broke():
    found = filtered(attacked=2.0, evading=2.0)
    assert found.verdict == "holds" and found.effect == pytest.approx(5, abs=1)  # 20 of 400 clean images were wrong: all are refused
    assert "attacked 50 % broken, 100 % of them refused (AUC 1.00), 0 % get through" in found.reason
    # refusing at random gains nothing: as many broken images go as clean ones
    assert filtered(attacked=2.0, evading=1.0).verdict == "not decided"
    low = filtered(attacked=2.0, evading=0.5)  # who knows the filter gets through it
    assert low.verdict == "does not hold" and "evading 50 % broken, 0 % of them refused (AUC 0.00), 50 % get through" in low.reason
    assert filtered(wrong=0.5, attacked=2.0, evading=2.0).verdict == "does not hold"  # it refuses right clean images alone


def test_which_attacks_fail():
    attacks = ("published/linf-fgsm", "published/linf-pgd", "sound/linf")
    found = verdicts.attacks_fail(fake(*[{"F": 0.6}] * 3, low={"F": 0.1}, attacks=attacks), "F")
    assert (found.verdict, found.effect, found.reason) == ("holds", 2, "linf-fgsm, linf-pgd")
    alike = fake(*[{"F": 0.1}] * 3, low={"F": 0.1}, attacks=attacks, count=2000)
    assert verdicts.attacks_fail(alike, "F").verdict == "does not hold"
    loose = fake({"F": 0.3}, {"F": 0.1}, {"F": 0.1}, low={"F": 0.1}, attacks=attacks)  # not shown is not refuted
    assert verdicts.attacks_fail(loose, "F").verdict == "not decided"
    # a worst case of one seed describes: its attacks do not count
    suite = {"published/linf-pgd": 0.6, "published/l2-pgd": 0.9, "sound/linf": 0.1}
    norms = {key: spec("l2" if "l2" in key else "linf") for key in (*suite, "sound/l2")}
    found = verdicts.attacks_fail(Fake({"F": suite | {"sound/l2": 0.1}}, *[{"F": suite}] * 2, attacks=norms), "F")
    assert (found.verdict, found.effect, found.unit, found.seeds) == ("holds", 1, "of 1 published attacks", 3)


def test_attacks_that_fail_or_break_everything_decide_nothing_together():
    hits = [{name: {"published/linf-fgsm": kept, "published/linf-pgd": 0.0, "sound/linf": 0.0} for name, kept in
             (("F", 0.97), ("ReLU", 0.92))}] * 3  # fmt: skip
    evidence = Fake(*hits, attacks={key: spec() for key in hits[0]["F"]})
    found = verdicts.order(evidence, "F", "O", "bounded", "published", 80)
    assert (found.verdict, found.reason, found.weaker) == ("not decided", "every attack fails on both or breaks everything", False)
    for one in hits:  # one that works decides; the one that fails stays in the paper's average, and is named
        one["F"]["published/linf-pgd"], one["ReLU"]["published/linf-pgd"] = 0.6, 0.2
    found = verdicts.order(Fake(*hits, attacks={key: spec() for key in hits[0]["F"]}), "F", "O", "bounded", "published")
    assert found.verdict == "holds" and found.reason.endswith("in the average, but failing on both: linf-fgsm")


def test_a_seed_that_lacks_an_attack_is_left_out_and_no_seed_at_all_is_not_computed():
    attacks = [f"published/{column}" for column in verdicts.LINF] + ["sound/linf"]
    hits = [{name: dict.fromkeys(attacks, share) for name, share in (("F", 0.6), ("O_PGD", 0.5))} for _ in range(4)]
    del hits[0]["F"]["published/linf-cw"]
    evidence = Fake(*hits, attacks={key: spec() for key in attacks})
    assert verdicts.masking(evidence, "F", "O_PGD").seeds == 3
    apart = [{"F": {"published/linf-fgsm": 0.5}, "ReLU": {"published/linf-fgsm": 0.5}},
             {"F": {"published/linf-pgd": 0.5}, "ReLU": {"published/linf-pgd": 0.5}}]  # fmt: skip
    two = {key: spec() for key in ("published/linf-fgsm", "published/linf-pgd")}
    with pytest.raises(NotComputed):
        verdicts.order(Fake(*apart, attacks=two), "F", "O", "bounded", "published")


def test_few_seeds_take_weaker_than_claimed_with_them():
    claim = {"test": "order", "better": "F", "worse": "O", "where": "bounded", "setting": "table2", "printed": "80"}
    few = claims.judge(pd.Series(claim), fake({"F": 0.4, "ReLU": 0.2}), "published")
    assert (few.verdict, few.weaker, few.reason) == ("not decided", False, "fewer than 3 seeds") and few.size == pytest.approx(0.25)


def test_the_pairs_that_decide_give_the_numbers():
    """One pair fails over three seeds; another with one seed lies lower, and decides nothing."""
    pair = {"better": "a", "worse": "b", "measure": "radius", "low": -1, "high": 1, "n": 9, "smallest": 1.0, "reason": ""}
    failed = pair | {"verdict": "does not hold", "difference": -2.0, "seeds": 3}
    few = pair | {"verdict": "not decided", "difference": -9.0, "seeds": 1}
    found = verdicts.several([failed, few])
    assert (found.verdict, found.effect, found.seeds) == ("does not hold", -2.0, 3)


def test_a_radius_speaks_for_the_worst_case_where_a_setting_has_it():
    hits = [{name: {"sound/linf": share, "radius/linf": np.full(200, size)} for name, share, size in
             (("F", 0.9, 0.1), ("ReLU", 0.1, 0.2))}] * 3  # fmt: skip
    evidence = Fake(*hits, count=200, attacks={"sound/linf": spec(), "radius/linf": spec(eps=1.0)})
    found = verdicts.order(evidence, "F", "O", "bounded", "sound")
    assert found.verdict == "does not hold" and found.unit == verdicts.AREA


def test_radii_that_miss_what_other_attacks_find_decide_nothing():
    """A defence without gradients: the search finds nothing near, an attack made for it breaks every image at eps 0.3."""

    def hits(seed, own=np.inf):
        near = 0.1 + np.random.default_rng(seed).uniform(0, 0.01, 200)
        radii = {"F": np.full(200, own), "ReLU": near}
        return {name: {"sound/linf": 0.0, "radius/linf": found} for name, found in radii.items()}

    attacks = {"sound/linf": spec(), "radius/linf": spec(eps=1.0)}
    evidence = Fake(*map(hits, range(3)), count=200, attacks=attacks)
    found = measures.compare(evidence, "F", "ReLU", "radius/linf")
    assert measures.blind(evidence, "F", "radius/linf") and not measures.blind(evidence, "ReLU", "radius/linf")
    assert found["verdict"] == "not decided" and found["reason"] == "the search for radii misses what other attacks find: F"
    seen = Fake(*(hits(seed, 0.2) for seed in range(3)), count=200, attacks=attacks)  # found by the search itself
    assert measures.compare(seen, "F", "ReLU", "radius/linf")["verdict"] == "holds"
