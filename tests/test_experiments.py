"""Table 1 as data: distinct networks, readings, keys, profiles, and the committed evidence."""

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

import fpdlib
from fpdlib import evaluation, report
from fpdlib.errors import FPDError, NotComputed
from fpdlib.keys import key_of
from fpdlib.network.spec import NetworkSpec, released
from fpdlib.paper import experiments, settings
from fpdlib.paper.experiments import EXPLORATIONS, TABLE1
from fpdlib.paper.profiles import PROFILES
from fpdlib.paper.variants import GUESSES, VARIANTS

RESULTS = Path(__file__).parent.parent / "results"


def test_nineteen_rows_are_fifteen_networks_and_one_contradiction():
    assert len(TABLE1) == 19 and len({row.section for row in TABLE1}) == 8
    main = list(dict.fromkeys(row.variants[0] for row in TABLE1))
    assert len(main) == 16  # 15 by their numbers; Mid+Inner and F_FD+R share theirs but not their description
    smoke = PROFILES["smoke"]
    distinct = {(VARIANTS[name].spec(smoke), VARIANTS[name].recipe(smoke)) for name in VARIANTS}
    assert len(distinct) == len(VARIANTS) and len(experiments.variants_of()) == 22


def test_every_guess_is_explained_and_every_explanation_used():
    assert {letter for variant in VARIANTS.values() for letter in variant.guesses} == set(GUESSES)
    table = experiments.specs_table()
    assert len(table) == 22 and table["guesses"].str.len().gt(0).all()
    assert table.loc["F", "rows of Table 1"] == "F, F_2I-Mid, F_TwoPhase"
    assert table.loc["F_4IB", "inner layers"] == "stage1, stage2, stage3, stage4"


def test_eight_explorations_compare_networks_of_their_section():
    assert [e.section for e in EXPLORATIONS] == list(dict.fromkeys(row.section for row in TABLE1))
    for exploration in EXPLORATIONS:
        assert {n for pair in exploration.pairs + exploration.readings for n in pair} <= set(VARIANTS)
    with pytest.raises(FPDError, match="accepted"):
        experiments.explored("Colour")


def test_profiles_scale_one_experiment():
    for profile in PROFILES.values():
        white = profile.attacks["white-box"]
        assert (white.eps, white.method.stages, white.protocol) == ((0.3,), ((40, 0.01, 0),), "published")
        for name in experiments.variants_of():
            assert VARIANTS[name].recipe(profile).noise == 0.01 and VARIANTS[name].recipe(profile).threshold == 3.0
    assert PROFILES["paper"].network.image_size == 64 and PROFILES["paper"].attacks["white-box"].images == 10_000
    assert VARIANTS["F"].recipe(PROFILES["paper"]).epochs == 100
    with pytest.raises(FPDError, match="profile is 'huge'; accepted: 'smoke', 'laptop', 'medium', 'paper-short', 'paper'"):
        settings.setting("huge", "table1")


def test_medium_is_the_papers_resnet_at_half_its_size():
    """Some networks, one seed, L-inf alone; what it leaves out is not in its plan, whatever seeds are asked for."""
    medium = PROFILES["medium"]
    assert (medium.dataset, medium.network.backbone, medium.network.image_size) == ("mnist", "resnet101", 32)
    rows = fpdlib.plan(profile="medium")
    assert set(rows["setting"]) == {"table1", "table2", "learning"} and set(rows["seed"]) == {0}
    assert "F_2IB" not in set(rows["network"]) and {"F", "ReLU", "X"} <= set(rows.query("setting == 'table1'")["network"])
    assert not [key for key in rows["attack"] if "l2" in key or "native" in key]
    assert set(fpdlib.plan(profile="medium", seeds=[3])["network"]) == set(rows["network"])


def test_what_keeps_a_deep_network_from_learning_differs_in_one_ingredient():
    rows = fpdlib.plan("learning", profile="medium")
    assert set(rows["kind"]) == {"networks"}
    made = {result.name: result for result in rows["result"]}
    f = made["F"]
    assert (f.spec.backbone, f.recipe.parts, f.dataset) == ("resnet50", 4, "mnist-sample")
    for name in (name for name in made if name.startswith("F with")):
        other = made[name]
        fields = [n for n in vars(f.spec) if getattr(f.spec, n) != getattr(other.spec, n)]
        fields += [n for n in vars(f.recipe) if getattr(f.recipe, n) != getattr(other.recipe, n)]
        assert len(fields) == 1, (name, fields)
    for scale in ("smoke", "medium", "paper"):  # a quarter of whatever step the scale has
        made = {result.name: result.recipe.lr for result in fpdlib.plan("learning", profile=scale)["result"]}
        assert made["F with a quarter of the step size"] == made["F"] / 4
    assert fpdlib.plan("learning", profile="laptop").empty  # a question for deep networks
    with pytest.raises(NotComputed, match="this scale leaves out what was asked for"):
        fpdlib.load(fpdlib.plan("learning", profile="laptop"))


def test_keys_are_pinned():
    """Committed evidence is found by these names. A changed default would silently rename or, worse, re-use it."""
    laptop, smoke = fpdlib.plan("table1", profile="laptop"), fpdlib.plan("table1", profile="smoke")
    keys = {(line.network, line.attack): line.key for line in laptop.query("seed == 0").itertuples()}
    assert keys["F", ""] == "F_s0-babecf114fac" and keys["X", "radius"] == "X_s0_radius-24bfe687eb86"
    assert smoke.query("network == 'F' and attack == ''")["key"].iat[0] == "F_s0-0877bdf5939f"


def test_the_initialisation_is_part_of_every_key():
    """Every network is drawn as the release's."""
    for name, profile in PROFILES.items():
        assert profile.network.initialisation == "released"
        for setting in settings.SETTINGS:
            here = settings.setting(name, setting)
            assert getattr(here.network, "initialisation", "released") == "released", (name, setting)
            assert {spec.overflow for spec in here.attacks.values()} <= {"confirmed"}
    assert released().initialisation == NetworkSpec().initialisation == "released"
    spec = VARIANTS["F"].spec(PROFILES["smoke"])
    keys = {key_of("F", replace(spec, initialisation=how)) for how in ("released", "pytorch")}
    assert len(keys) == 2


@pytest.mark.parametrize("profile", ["laptop"])
def test_committed_evidence_is_complete_and_gives_the_committed_tables(profile, tmp_path):
    """Every number of the committed tables is regenerated from the committed per-example outcomes."""
    folder = RESULTS / profile
    committed = pd.read_csv(folder / "tables" / "table1.csv", dtype={"column": str}).fillna({"column": ""})
    evidence = fpdlib.load(fpdlib.plan("table1", profile=profile), str(tmp_path))
    assert not evidence.missing() and evidence.setting == "table1"
    found = report.measured(evidence, committed["network"].unique(), committed["measure"].unique())
    pd.testing.assert_frame_equal(found, committed[found.columns], check_dtype=False, rtol=1e-4)
    whole = fpdlib.load(fpdlib.plan(profile=profile), str(tmp_path)).at("table1")
    before = pd.read_csv(folder / "tables" / "headlines.csv", keep_default_na=False, na_values=[""]).fillna({"reason": ""})
    pd.testing.assert_frame_equal(report.headlines(whole), before, check_dtype=False, rtol=1e-4)


def test_committed_learning_curves_are_what_their_table_says(tmp_path):
    """Evidence of networks alone, of another scale than the tables beside it."""
    evidence = fpdlib.load(fpdlib.plan("learning", profile="medium"), str(tmp_path))
    there = [name for name in evidence.names if evidence.has(name, "", 0)]
    table = pd.read_csv(RESULTS / "laptop" / "tables" / "learning.csv").set_index("network")
    assert {"ReLU", "F", "F_FD+R"} <= set(there) and list(table.index) == [{"ReLU": "O"}.get(name, name) for name in there]
    for name in there:
        log, line = evidence.log(name, 0), table.loc[{"ReLU": "O"}.get(name, name)]
        assert len(log) == 8 and line["held out (%)"] == pytest.approx(100 * log["held_out_accuracy"].iloc[-1], rel=1e-4)
        assert line["test (%)"] == pytest.approx(100 * evidence.clean(name, 0).value, rel=1e-4) and line["n"] == 2000


def test_committed_outcomes_have_their_images_and_provenance(tmp_path):
    evidence = fpdlib.load(fpdlib.plan("table1", profile="laptop"), str(tmp_path))
    entry, frame = evidence.meta("F", "white-box", 0), evidence.outcome("F", "white-box", 0)
    assert len(frame) == frame["index"].nunique() == entry["spec"]["attack"]["images"] == 500
    assert list(frame.columns) == list(evaluation.COLUMNS)
    assert entry["counts"]["backwards"] > 0 and entry["counts"]["forwards"] > 0
    assert {"code", "libraries", "hardware", "threads", "finished", "python"} == set(entry["provenance"])
    again = evidence.outcome("X", "white-box", 0)
    assert (again["index"] == frame["index"]).all() and (again["label"] == frame["label"]).all()
