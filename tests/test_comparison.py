"""Section 4.2 as data: the paper's parameters, settings and their stand-ins, transfers, and no paper number beside a stand-in."""

import math

import pandas as pd
import pytest
import torch

import fpdlib
from fpdlib.attacks.methods import PGD
from fpdlib.attacks.spec import AttackSpec
from fpdlib.errors import FPDError
from fpdlib.paper import published
from fpdlib.paper.profiles import PROFILES
from fpdlib.paper.settings import SETTINGS, networks_of, setting
from fpdlib.paper.variants import VARIANTS
from fpdlib.report import claims, tables
from fpdlib.results import Evidence
from fpdlib.results.inputs import Inputs
from fpdlib.results.store import Store
from fpdlib.results.values import Crafted, Outcome, named_network

STAND_INS = ("svhn-stand-in", "caltech101-sample")
TABLES = {"table2": 2, "svhn-resnet50": 4}


def test_the_papers_attack_parameters():
    two, four = setting("paper", "table2").attacks, setting("paper", "svhn-resnet101").attacks
    assert two["published/linf-pgd"].method == PGD(((100, 0.1, 0),)) and two["published/linf-pgd"].eps == (0.3,)
    assert (two["published/l2-pgd"].method.steps, two["published/l2-pgd"].method.step_size, two["published/l2-pgd"].eps) == (
        100,
        0.1,
        (1.5,),
    )
    assert four["published/linf-pgd"].method == PGD(((40, 2 / 256, 0),)) and four["published/linf-pgd"].eps == (8 / 256,)
    for attacks in (two, four):
        assert attacks["published/l2-cw"].eps == attacks["published/l2-deepfool"].eps == (math.inf,)
    assert setting("paper", "caltech101").attacks["published/linf-pgd"].method == PGD(((40, 2 / 256, 0),))
    assert setting("paper", "caltech101").network.image_size == 224 and setting("paper", "svhn-resnet50").network.image_size == 64


def test_every_column_of_the_paper_has_its_attack():
    for name, table in TABLES.items():
        attacks = setting("paper", name).attacks
        printed = set(published.load(table).query("metric == 'accuracy'")["attack"])
        for protocol in ("published", "current"):
            ours = {tables.COLUMNS[key.split("/")[1]] for key in attacks if key.startswith(protocol + "/")}
            assert ours == printed
    three = {key for key in setting("paper", "transfer-resnet50").attacks if key.startswith("published/")}
    columns = set(published.load(3).query("metric == 'accuracy' and attack != 'clean'")["attack"])
    ours = {
        f"{tables.PRINTED_BACKBONES[b]}/{s}/{tables.COLUMNS[c].removeprefix('Linf-')}" for _, b, s, c in (k.split("/") for k in three)
    }
    assert ours == columns and len(ours) == 15


def test_the_sound_protocol_is_what_it_says():
    attack = setting("paper", "table2").attacks["sound/linf"]
    kinds = [type(method).__name__ for method in attack.method.methods]
    assert kinds == ["PGD", "MadeForFPD", "TargetedMargin", "AutoAttack", "Foolbox"] and attack.iterates == "any"
    auto = attack.method.methods[3]
    assert (auto.attacks, auto.iterations, auto.queries, auto.targets) == (("apgd-ce", "apgd-t", "fab-t", "square"), 100, 5000, 9)
    assert [type(m).__name__ for m in setting("paper", "table2").attacks["sound/l2"].method.methods][-1] == "Foolbox"
    assert setting("paper", "table2").attacks["sound-native/linf"].space == "native"
    for profile in PROFILES:
        assert {"white-box", "transfer-oracle", "current", "sound", "radius"} <= set(setting(profile, "table1").attacks)


@pytest.mark.parametrize("profile", PROFILES)
def test_settings_and_stand_ins(profile):
    for name in SETTINGS:
        found = setting(profile, name)
        assert found.setting == name and set(networks_of(name)) <= set(VARIANTS)
        assert found.stand_in == (found.dataset in STAND_INS)
        if profile.startswith("paper"):
            assert not found.stand_in
        if profile == "smoke":  # needs nothing but bundled images
            assert found.dataset in ("mnist-sample", *STAND_INS)
        assert found.network.num_classes in (10, 102, 257)
    with pytest.raises(FPDError, match="setting is 'cifar'; accepted: 'table1'"):
        setting(profile, "cifar")


def key(rows, setting, network, attack=""):
    found = rows.query("setting == @setting and network == @network and attack == @attack and kind != 'studies'")["key"]
    assert found.nunique() == 1
    return found.iat[0]


def test_keys_of_shared_networks():
    rows = fpdlib.plan(profile="smoke")
    assert key(rows, "table2", "F") == key(rows, "table1", "F")  # trained once
    assert key(rows, "transfer-resnet50", "O_PGD") == key(rows, "svhn-resnet50", "O_PGD") != key(rows, "svhn-resnet101", "O_PGD")
    assert key(rows, "table2", "F_PGD") != key(rows, "table2", "F")
    assert key(rows, "table2", "F", "current/l2-cw") == key(rows, "table2", "F", "published/l2-cw")  # one attack, computed once


def test_the_profile_and_not_the_disk_says_which_images(tmp_path, monkeypatch):
    monkeypatch.setenv("FPD_DATA", str(tmp_path / "empty"))
    assert setting("laptop", "caltech101").dataset == "caltech101" and not setting("laptop", "caltech101").stand_in
    assert setting("laptop", "caltech256").stand_in and setting("laptop", "svhn-resnet50").stand_in
    assert setting("paper", "caltech256").dataset == "caltech256" and setting("smoke", "caltech101").stand_in


def test_named_networks():
    attack = setting("smoke", "transfer-resnet50").attacks["published/resnet101/F/linf-pgd"]
    assert named_network(attack) == ("svhn-resnet101", "F")
    assert named_network(PROFILES["smoke"].attacks["transfer-oracle"]) is None
    assert setting("smoke", "transfer-resnet50").attacks["published/resnext50/O/linf-cw"].surrogate == "svhn-resnext50/ReLU"


def test_a_transfer_hands_over_the_substitutes_images(profiles, tmp_path):
    """Perfect transfer to itself; the images are crafted once for all targets."""
    spec = AttackSpec("t", "sound", PGD(((3, None, 1),)), (0.3,), surrogate="table2/ReLU", images=20, batch_size=10)
    rows = fpdlib.plan("table2", profile="tiny").query("kind == 'networks'")
    o, hardened = (rows[rows["network"] == name]["result"].iat[0] for name in ("ReLU", "O_FGSM"))
    crafted = Crafted(o, spec)
    store = Store(tmp_path)
    store.prepare()
    inputs = Inputs(store, torch.device("cpu"))
    for result in (o, crafted, hardened, Outcome(o, spec, crafted), Outcome(hardened, spec, crafted)):
        store.add(result, inputs, {})
    images, counts = inputs.images(crafted)
    assert images.shape == (20, 3, 32, 32) and counts["crafted_backwards"] == 60
    frame = store.outcome(Outcome(o, spec, crafted))
    assert int((~frame["broken"]).sum()) <= counts["crafted_source_right"]
    needs = store.entry(Outcome(hardened, spec, crafted))["meta"]["needs"]
    assert set(needs) == {hardened.key, crafted.key} and len(store.entry(crafted)["meta"]["needs"]) == 1


def test_no_number_of_the_paper_stands_beside_a_stand_in(tmp_path):
    """Shown on made-up evidence of every outcome: a half of the images stand, whatever the attack."""
    rows = fpdlib.plan("table2", "table3", "table4", "caltech", profile="smoke")
    evidence = Half(rows, Store(tmp_path))
    for name, table, network, column, section in (
        ("svhn-resnet50", 4, "ResNet-50/F", "linf-pgd", "SVHN"), ("caltech101", "text", "F", "Linf-PGD", "CALTECH-101"),
        ("transfer-resnet101", 3, "ResNet-101/O_PGD", "ResNet-101/O/FGSM", "SVHN"),
    ):  # fmt: skip
        here = evidence.at(name)
        assert here.profile.stand_in and math.isnan(tables.printed(here, table, network, column, section))
        assert "STAND-IN" in tables.caption(here)
    two = tables.measured(evidence.at("table2"), evidence.at("table2").names)
    told = two[two["column"].isin(tables.COLUMNS) & two["protocol"].isin(("published", "current"))]
    assert len(told) == 6 * 14 and (told["n"] > 0).all()
    assert two.set_index(["network", "measure"]).loc[("F", "worst/linf"), "value"] == 50
    assert "STAND-IN" not in tables.caption(evidence.at("table2"))


class Half(Evidence):
    def at(self, setting):
        return Half(self.plan, self.store, setting)

    def whole(self, *settings):
        return Half(fpdlib.plan(*settings, profile="laptop", seeds=self.planned_seeds), self.store)

    def _is_complete(self, name, seed, attacks):
        return name in self.names

    def meta(self, name, what, seed):
        return {"test": {"correct": 99, "images": 100}, "counts": {"seconds": 1.0, "forwards": 1, "backwards": 1, "broken": {}}}

    def _outcome(self, name, attack, seed):
        spec = self.profile.attacks[attack]
        index = range(spec.images)
        same = dict.fromkeys(("label", "clean_prediction", "adversarial_prediction"), 0) | {"linf": 0.01, "l2": 0.01}
        frames = [pd.DataFrame({"index": index, "eps": eps, "broken": [i % 2 == 1 for i in index]}).assign(**same)
                  for eps in spec.eps]  # fmt: skip
        return pd.concat(frames, ignore_index=True)


@pytest.mark.parametrize("claim", ["table1-related", "noise-robust", "gate-robust", "robust-mnist"])
def test_a_plan_of_one_claim_gives_the_verdict_of_the_whole_plan(tmp_path, claim):
    """The plain network and the other headline claims are looked up even where the claim does not name them."""

    class Weak(Half):
        """F and its variants lose 10 % of clean images, which the plain network does not."""

        def whole(self, *settings):
            return Weak(fpdlib.plan(*settings, profile="laptop", seeds=self.planned_seeds), self.store)

        def at(self, setting):
            return Weak(self.plan, self.store, setting) if setting != self.setting else self

        def _outcome(self, name, attack, seed):
            frame = super()._outcome(name, attack, seed)
            return frame.assign(clean_prediction=(frame["index"] % 10 == 0).astype(int) if name.startswith("F") else 0)

    store, seeds = Store(tmp_path), [0, 1, 2]
    alone, whole = (claims.verify(Weak(rows, store), (claim,)) for rows in
                    (fpdlib.plan(claim, profile="laptop", seeds=seeds), fpdlib.plan(profile="laptop", seeds=seeds)))  # fmt: skip
    assert list(alone["reason"]) == list(whole["reason"]) and "undertrained" in " ".join(alone["reason"])
    pd.testing.assert_series_equal(alone["verdict"], whole["verdict"])


def test_what_the_paper_prints_stands_beside_the_real_images(tmp_path):
    mnist, svhn = (
        Half(fpdlib.plan(name, profile=profile), Store(tmp_path)) for name, profile in (("table2", "smoke"), ("table4", "paper"))
    )
    assert (
        tables.printed(mnist, 2, "F", "linf-pgd", "MNIST") == 0 and tables.printed(svhn, 4, "ResNet-50/F", "linf-pgd", "SVHN") == 30
    )
    assert tables.printed(mnist, 2, "F", "linf-pgd", "MNIST", "time_min") == 72.3
    assert math.isnan(tables.printed(mnist, 2, "F", "made/front", "MNIST"))  # the paper prints none


def test_separate_weights_and_gaussian_similarity():
    from fpdlib.network.fpd import DenoisingLayer, build, gaussian_non_local_mean, non_local_mean

    smoke = PROFILES["smoke"]
    shared, separate = (build(VARIANTS[name].spec(smoke), 0) for name in ("F", "F (separate)"))
    count = [sum(p.numel() for p in model.trunk.parameters()) for model in (shared, separate)]
    total = [sum(p.numel() for p in model.parameters()) for model in (shared, separate)]
    assert count[0] == count[1] and total[1] - total[0] > 0.9 * count[0]
    x = torch.randn(2, 3, 4, 4)
    flat = x.flatten(2)
    weights = (flat.transpose(1, 2) @ flat / math.sqrt(3)).softmax(2)
    by_hand = (weights @ flat.transpose(1, 2)).transpose(1, 2).view_as(x)
    assert torch.allclose(gaussian_non_local_mean(x), by_hand, atol=1e-5)
    assert not torch.allclose(DenoisingLayer(3, "plain", "gaussian")(x), x + non_local_mean(x))


@pytest.mark.parametrize("family", ["DenseNet", "RegNet", "ConvNeXt", "EfficientNet", "MobileNetV3"])
def test_five_other_families_build(family):
    from fpdlib.network.fpd import build

    model = build(VARIANTS[f"{family} F"].spec(PROFILES["smoke"]), 0).eval()
    assert model(torch.rand(2, 3, 32, 32)).shape == (2, 10)
