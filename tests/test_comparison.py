"""Section 4.2 as data: the paper's parameters, settings and their stand-ins, transfers, and no paper number beside a stand-in."""

import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from fpdlib.attacks.methods import PGD
from fpdlib.errors import FPDError
from fpdlib.paper import published, settings, suites
from fpdlib.paper.experiments import PROFILES, VARIANTS
from fpdlib.paper.settings import SETTINGS, networks_of, setting
from fpdlib.report import tables
from fpdlib.results import plan
from fpdlib.results.lab import Lab, named_network

TABLES = {"table2": 2, "svhn-resnet50": 4}


def test_the_papers_attack_parameters():
    two, four = setting("paper", "table2").attacks, setting("paper", "svhn-resnet101").attacks
    assert two["published/linf-pgd"].method == PGD(((100, 0.1, 0),)) and two["published/linf-pgd"].eps == (0.3,)
    assert (
        two["published/l2-pgd"].method.steps,
        two["published/l2-pgd"].method.step_size,
        two["published/l2-pgd"].eps,
    ) == (100, 0.1, (1.5,))
    assert four["published/linf-pgd"].method == PGD(((40, 2 / 256, 0),)) and four["published/linf-pgd"].eps == (
        8 / 256,
    )
    for attacks in (two, four):
        assert attacks["published/l2-cw"].eps == attacks["published/l2-deepfool"].eps == (math.inf,)
    assert setting("paper", "caltech101").attacks["published/linf-pgd"].method == PGD(((40, 2 / 256, 0),))
    assert (
        setting("paper", "caltech101").network.image_size == 224
        and setting("paper", "svhn-resnet50").network.image_size == 64
    )


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
        f"{tables.PRINTED_BACKBONES[b]}/{s}/{tables.COLUMNS[c].removeprefix('Linf-')}"
        for _, b, s, c in (k.split("/") for k in three)
    }
    assert ours == columns and len(ours) == 15


def test_the_sound_protocol_is_what_it_says():
    attack = setting("paper", "table2").attacks["sound/linf"]
    kinds = [type(method).__name__ for method in attack.method.methods]
    assert kinds == ["PGD", "TargetedMargin", "AutoAttack", "Foolbox"]
    auto = attack.method.methods[2]
    assert (auto.attacks, auto.iterations, auto.queries, auto.targets) == (
        ("apgd-ce", "apgd-t", "fab-t", "square"),
        100,
        5000,
        9,
    )
    assert [type(m).__name__ for m in setting("paper", "table2").attacks["sound/l2"].method.methods][-1] == "Foolbox"
    assert setting("paper", "table2").attacks["sound-native/linf"].space == "native"
    for profile in PROFILES:
        assert set(setting(profile, "protocols").attacks) == {"white-box", "current", "sound"}


@pytest.mark.parametrize("profile", PROFILES)
def test_settings_and_stand_ins(profile):
    for name in SETTINGS:
        found = setting(profile, name)
        assert found.setting == name and set(networks_of(name)) <= set(VARIANTS)
        stands = setting(profile, name, stand_in=True)
        family = name.split("-")[0].replace("transfer", "svhn")
        assert stands.stand_in == (family in settings.STAND_INS)
        if profile.startswith("paper"):
            assert not found.stand_in
        if profile == "smoke":  # needs nothing but bundled images
            assert found.dataset in ("mnist-sample", *settings.STAND_INS.values())
        assert found.network.num_classes in (10, 102, 257)
    with pytest.raises(FPDError, match="setting is 'cifar'; accepted: 'table1'"):
        setting(profile, "cifar")


def test_keys_of_shared_networks(tmp_path):
    lab = Lab("smoke", store=tmp_path)
    mnist, transfer, svhn = lab.at("table2"), lab.at("transfer-resnet50"), lab.at("svhn-resnet50")
    assert mnist.network_key("F") == lab.network_key("F")  # trained once
    assert transfer.network_key("O_PGD") == svhn.network_key("O_PGD") != lab.at("svhn-resnet101").network_key("O_PGD")
    assert mnist.network_key("F_PGD") != mnist.network_key("F") and lab.at("table2") is mnist
    assert mnist.outcome_key("F", "current/l2-cw") == mnist.outcome_key(
        "F", "published/l2-cw"
    )  # one attack, computed once


def test_where_the_data_is_missing_the_stand_in_takes_its_place(tmp_path, monkeypatch):
    monkeypatch.setenv("FPD_DATA", str(tmp_path / "empty"))
    monkeypatch.setenv("FPD_RESULTS", str(tmp_path / "none"))  # committed evidence is of the real data set
    lab = Lab("laptop", store=tmp_path / "store", setting="caltech101")
    assert lab.profile.stand_in and lab.profile.dataset == "caltech101-sample" and "stand-in" in lab.title
    (tmp_path / "empty" / "caltech101").mkdir(parents=True)
    assert Lab("laptop", store=tmp_path / "store", setting="caltech101").profile.dataset == "caltech101"


def test_named_networks():
    attack = setting("smoke", "transfer-resnet50").attacks["published/resnet101/F/linf-pgd"]
    assert named_network(attack) == ("svhn-resnet101", "F")
    assert named_network(PROFILES["smoke"].attacks["transfer-oracle"]) is None
    assert (
        setting("smoke", "transfer-resnet50").attacks["published/resnext50/O/linf-cw"].surrogate
        == "svhn-resnext50/ReLU"
    )


def test_a_transfer_hands_over_the_substitutes_images(profiles, tmp_path, monkeypatch):
    """Perfect transfer to itself; the images are crafted once for all targets."""
    from dataclasses import replace

    from fpdlib import evaluation
    from fpdlib.attacks.spec import AttackSpec

    lab = Lab("tiny", store=tmp_path, progress=False, setting="table2")
    spec = AttackSpec("t", "sound", PGD(((3, None, 1),)), (0.3,), surrogate="table2/ReLU", images=20, batch_size=10)
    monkeypatch.setattr(lab, "profile", replace(lab.profile, attacks={"t": spec}))
    crafted, counts = lab.craft("ReLU", spec)
    assert crafted.shape == (20, 3, 32, 32) and counts["crafted_backwards"] == 60
    frame = lab.outcome("ReLU", "t")
    assert int((frame["adversarial_prediction"] == frame["label"]).sum()) <= counts["crafted_source_right"]
    calls = []
    monkeypatch.setattr(evaluation, "craft", lambda *_: calls.append(1))
    lab.outcome("O_FGSM", "t")
    assert not calls


def test_no_number_of_the_paper_stands_beside_a_stand_in():
    store = Path(os.environ.get("FPD_STORE", ""))
    if plan.missing(plan.plan([Lab("smoke", store=store)])):
        pytest.skip("reads what smoke computes, which is done before notebooks are tested (`make test`)")
    lab = Lab("smoke", 0, "cpu", store, stored_only=True)
    four, three, photographs = tables.table4([lab]), tables.table3([lab]), tables.caltech([lab])
    assert four["paper"].isna().all() and three["paper"].isna().all() and photographs["paper"].isna().all()
    assert "STAND-IN" in tables.caption([lab.at("svhn-resnet50")])
    two = tables.table2([lab.at("table2")])
    shown = two[two["column"].isin(tables.COLUMNS) & two["protocol"].isin(("published", "current"))]
    assert len(shown) == 6 * 14 and shown["paper"].notna().all() and (shown["n"] > 0).all()
    assert not np.isnan(two.set_index(["network", "protocol", "column"]).loc[("F", "sound", "linf"), "value"])


def test_the_published_columns_print_what_the_paper_prints():
    assert tables.paper(2, "F", "linf-pgd", "MNIST") == 0 and tables.paper(4, "ResNet-50/F", "linf-pgd", "SVHN") == 30
    assert math.isnan(tables.paper(2, "F", "linf-pgd", "MNIST", stand_in=True))


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


def test_scales_cover_the_profiles():
    assert set(suites.SCALES) == set(PROFILES)
