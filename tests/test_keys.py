"""A key covers all that defines a result, and changes with nothing else; each versioned part has a canary."""

import dataclasses
import json
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
import torch
from fixed import Fixed

import fpdlib
from fpdlib import data
from fpdlib.attacks.methods import ART, ART010, PGD, AutoAttack, Chain, Foolbox, MadeForFPD, TargetedMargin
from fpdlib.attacks.radius import Radius
from fpdlib.attacks.spec import AttackSpec
from fpdlib.attacks.views import View
from fpdlib.evaluation import studies
from fpdlib.evaluation.diagnostics import DiagnosisSpec
from fpdlib.keys import key_of, plain
from fpdlib.network import spec as network_spec
from fpdlib.network.fpd import DenoisingLayer, RestorationDecoder, build
from fpdlib.network.reference import AnchorSpec
from fpdlib.network.spec import NetworkSpec
from fpdlib.paper.profiles import PROFILES
from fpdlib.paper.variants import VARIANTS
from fpdlib.results.values import Crafted, Network, Outcome, Study
from fpdlib.training import Recipe
from fpdlib.training.adversarial import Adversary


@dataclass(frozen=True)
class Spec:
    a: int = 1
    b: tuple = (("x", (1, 2)),)


@dataclass(frozen=True)
class Grown(Spec):
    """A specification that a field was added to; before it was, 'old' was the only way."""

    how: str = field(default="new", metadata={"before": "old"})


def test_keys_are_stable_readable_and_differ_with_the_spec():
    assert key_of("F (release)", {"s": Spec()}) == key_of("F (release)", {"s": Spec(1)})
    assert key_of("F (release)", {"s": Spec()}).startswith("F__release_-")
    assert len({key_of("F", {"s": s}) for s in (Spec(), Spec(2), Spec(b=()))}) == 3
    assert plain(Spec(a=5)) == {"type": "Spec", "a": 5, "b": [["x", [1, 2]]]}
    with pytest.raises(TypeError, match="plain values"):
        plain({"x": object()})
    json.dumps(plain({"x": Spec(b=(1,))}))


def test_a_field_added_later_leaves_old_keys_alone():
    assert {**plain(Grown(how="old")), "type": "Spec"} == plain(Spec()) and plain(Grown())["how"] == "new"


# Another value of every field of every specification; None where a field has no second value of its own.
OTHER = {
    NetworkSpec: dict(backbone="resnet34", backbone_args=(("zero_init_last", True),), num_classes=7, image_size=96, inner=("stage1",),
                      denoiser="xie", restoration=False, classifier="front", back_input="flip", middle="raw", activation="relu",
                      squeeze="none", statistics="shared", decoder_width=64, dropout=0.5, similarity="gaussian", sharing="separate",
                      initialisation="pytorch", decoder_channels=(8,), residual=False),
    Recipe: dict(name="mine", parts=2, measured=50,
                 phases=1, gate="latch", threshold=1.0, alpha1=2.0, alpha2=2.0, alpha2_second=0.1, noise=0.03,
                 optimizer="sgd", lr=1e-4, weight_decay=0.1, clip=1.0, batch_size=7, epochs=3, schedule="constant", plateau=3,
                 patience=3, images=100, selection="test", augment=True, precision="bfloat16", adversary=Adversary(), begin="ReLU",
                 threshold_share=0.1),
    Adversary: dict(name="mine", eps=0.1, steps=3, step_size=0.2, random_start=False, labels="predicted", delay=1, warmup=0.5,
                    clean_weight=0.1, clip_start=False, grey=True, select="pgd"),
    AttackSpec: dict(name="mine", protocol="current", method=PGD(((2, None, 0),)), eps=(0.1,), surrogate="true", space="native",
                     images=7, batch_size=7, order="file", surrogate_epochs=2, surrogate_width=50, surrogate_images=60,
                     overflow="broken", iterates="any"),
    DiagnosisSpec: dict(eps=0.1, images=7, steps=7, restarts=7, draws=7, queries=7, planted=7, grid=7, overflow="broken"),
    AnchorSpec: dict(kind="madry", num_classes=7, image_size=32),
    PGD: dict(stages=((2, None, 0),), norm="l2"),
    TargetedMargin: dict(steps=7, targets=3, norm="l2"),
    ART: dict(name="linf-cw", norm="linf", parameters=(("max_iter", 3),)),
    ART010: dict(name="linf-cw", norm="linf", steps=3, step_size=0.5),
    Foolbox: dict(name="l2-cw", norm="linf", parameters=(("steps", 3),)),
    AutoAttack: dict(attacks=("square",), norm="l2", iterations=7, queries=7, targets=3),
    Chain: dict(methods=(PGD(((2, None, 0),)),)),
    MadeForFPD: dict(steps=7, parts=("front",), norm="l2"),
    Radius: dict(fmn_steps=7, rounds=((0.5, 7),), targets=2, norm="l2"),
    studies.Smoothness: dict(images=7, radius=0.1), studies.Neighbourhood: dict(images=7, draws=3, deltas=(0.1,)),
    studies.Filter: dict(images=7, eps=0.2), studies.Precision: dict(images=7, eps=0.2, steps=3, step_size=0.1),
    studies.Diagnosis: dict(spec=DiagnosisSpec(eps=0.1)),
    studies.Adaptive: dict(attack=AttackSpec("b", "sound", PGD(((1, None, 0),))), auto=AutoAttack(iterations=7), steps=7),
}  # fmt: skip
FULL = VARIANTS["F"].spec(PROFILES["smoke"])
BASES = {
    NetworkSpec: replace(FULL, inner=("stage2",)), Recipe: Recipe(), Adversary: Adversary(), AnchorSpec: AnchorSpec(),
    AttackSpec: AttackSpec("a", "published", PGD(((1, None, 0),))), DiagnosisSpec: DiagnosisSpec(), PGD: PGD(((1, None, 0),)),
    TargetedMargin: TargetedMargin(), ART: ART("l2-cw", "l2"), ART010: ART010("l2-pgd", "l2"), Foolbox: Foolbox("l2-deepfool", "l2"),
    AutoAttack: AutoAttack(), Chain: Chain((PGD(((1, None, 0),)),)), studies.Smoothness: studies.Smoothness(5),
    MadeForFPD: MadeForFPD(), Radius: Radius(), studies.Neighbourhood: studies.Neighbourhood(5), studies.Filter: studies.Filter(5),
    studies.Diagnosis: studies.Diagnosis(DiagnosisSpec()), studies.Precision: studies.Precision(5),
    studies.Adaptive: studies.Adaptive(AttackSpec("a", "sound", PGD(((1, None, 0),))), AutoAttack(), 5),
}  # fmt: skip


@pytest.mark.parametrize("kind", OTHER, ids=lambda kind: kind.__name__)
def test_every_field_of_every_specification_is_in_the_key(kind):
    base, names = BASES[kind], {f.name for f in dataclasses.fields(kind)}
    assert names == set(OTHER[kind]), "a field without another value here"
    for name, value in OTHER[kind].items():
        changed = object.__new__(kind)  # past the checks: some values go with others only
        for one in names:
            object.__setattr__(changed, one, value if one == name else getattr(base, one))
        assert getattr(base, name) != value and key_of("k", {"s": changed}) != key_of("k", {"s": base}), name


def test_a_change_renames_exactly_what_depends_on_it():
    o = Network("O", FULL, Recipe(), "mnist-sample", 0)
    hard = Network("O_PGD", FULL, Recipe(begin="O"), "mnist-sample", 0, o)
    attack, study = BASES[AttackSpec], studies.Filter(5)
    everything = [o, hard, Outcome(o, attack), Outcome(hard, attack), Crafted(o, attack), Outcome(hard, attack, Crafted(o, attack)),
                  Study(o, study), Study(hard, study, (o,))]  # fmt: skip
    assert len({result.key for result in everything}) == len(everything)
    seed1 = replace(o, seed=1)
    assert Outcome(seed1, attack).key != Outcome(o, attack).key and replace(hard, begin=seed1).key != hard.key
    other = replace(attack, images=7)
    assert Outcome(hard, attack, Crafted(o, other)).key != Outcome(hard, attack, Crafted(o, attack)).key
    assert Study(hard, study, (seed1,)).key != Study(hard, study, (o,)).key and Outcome(o, other).key != Outcome(o, attack).key
    assert replace(o, dataset="mnist").key != o.key


def test_data_and_versions_are_in_the_key(monkeypatch):
    o = Network("O", FULL, Recipe(), "mnist-sample", 0)
    key = o.key
    for change in (
        lambda: monkeypatch.setitem(
            data.datasets.DATASETS, "mnist-sample", replace(data.datasets.DATASETS["mnist-sample"], version=2)
        ),
        lambda: monkeypatch.setitem(network_spec.VERSIONS, "decoder", 2),
        lambda: monkeypatch.setattr(Recipe, "version", 2),
    ):
        change()
        assert replace(o).key != key
        monkeypatch.undo()
    assert replace(o).key == key
    plain_cnn = Network("O", replace(FULL, restoration=False, classifier="front"), Recipe(), "mnist-sample", 0)
    before = plain_cnn.key
    monkeypatch.setitem(network_spec.VERSIONS, "decoder", 2)
    assert replace(plain_cnn).key == before  # it has none
    attack = BASES[AttackSpec]
    before = key_of("k", attack)
    monkeypatch.setattr(PGD, "version", 2)
    assert key_of("k", attack) != before


# ---------------------------------------------------------------------------------------------- canaries
# What each versioned part computes on a tiny input, in double precision. If one fails, the part computes something else: raise its
# version (then pin it anew), or take the change back. Tolerances hold across processors and GPUs.


def waves(*shape):
    return torch.linspace(0, 7, int(np.prod(shape)), dtype=torch.float64).sin().reshape(shape) * 0.5 + 0.5


def filled(module):
    """The module with weights that depend on nothing but their shapes."""
    with torch.no_grad():
        for name, tensor in module.state_dict().items():
            if tensor.is_floating_point():
                values = torch.linspace(1, 5, tensor.numel(), dtype=torch.float64).cos().reshape(tensor.shape) * 0.3
                tensor.copy_(values.abs() + 0.5 if name.endswith("var") else values)
    return module.double().eval()


def number(tensor):
    return float((tensor.detach().double() * torch.linspace(1, 2, tensor.numel(), dtype=torch.float64).reshape(tensor.shape)).sum())


def denoising():
    return sum(number(filled(DenoisingLayer(4, kind, how))(waves(2, 4, 3, 3)))
               for kind in ("plain", "bottleneck", "xie") for how in ("dot", "gaussian"))  # fmt: skip


def decoder():
    return number(
        filled(RestorationDecoder([2, 3, 4, 5], 8, 4))([waves(1, c, s, s) for c, s in zip((2, 3, 4, 5), (8, 4, 2, 1), strict=True)])
    )


def tiny_network():
    spec = replace(FULL, backbone_args=(("layers", (1, 1, 1, 1)), ("channels", (4, 4, 4, 4))), decoder_width=4)
    return filled(build(spec, 0))


def fpd():
    return number(tiny_network()(waves(2, 3, 32, 32)))


def reference():
    return sum(number(filled(AnchorSpec(kind).build())(waves(1, 3, 28, 28))) for kind in ("wong", "madry"))


CANARIES = {"denoising": denoising, "decoder": decoder, "fpd": fpd, "reference": reference}


class Soft(Fixed):
    """The fixed network with weights from a seed, in double precision."""

    def __init__(self):
        super().__init__()
        draws = torch.Generator().manual_seed(5)
        with torch.no_grad():
            for tensor in self.parameters():
                tensor.copy_(torch.randn(tensor.shape, generator=draws, dtype=torch.float64).float() * 0.1)
        self.double().eval()


def attacked(method, eps):
    network, x = Soft(), waves(3, 1, 14, 14)
    y = network(x).argmax(1)
    view = View(network, method.sees("sound" if not isinstance(method, ART010) else "published")).eval()
    if isinstance(method, Radius):
        found = method.search(network.float(), view, x.float(), y, 0, 10, "confirmed")
        return float(found.radius.sum())
    total = 0.0
    for _, attempt in method.attempts(eps):
        total += number(attempt(view, x.float(), y, seed=0, classes=10).double() - x)
    return total


METHODS = {
    "PGD": (PGD(((3, 0.05, 0),)), 0.1),
    "TargetedMargin": (TargetedMargin(3, 1), 0.1),
    "ART": (ART("l2-cw", "l2", (("max_iter", 5), ("initial_const", 10.0), ("learning_rate", 0.1))), 1.0),
    "ART010": (ART010("l2-pgd", "l2", 3, 0.2), 0.5),
    "Foolbox": (Foolbox("l2-deepfool", "l2", (("steps", 3),)), 1.0),
    "AutoAttack": (AutoAttack(("apgd-ce",), iterations=5), 0.1),
    "Radius": (Radius(20, ((0.9, 5),), 2), 1.0),
    "MadeForFPD": (MadeForFPD(3, ("pre-squeeze",)), 0.1),
    "Chain": (Chain((PGD(((2, 0.05, 0),)), PGD(((3, 0.02, 0),)))), 0.1),
}  # fmt: skip
PINNED = {
    "denoising": 375.753923, "decoder": -25945.7642, "fpd": -0.864411254, "reference": -238959.736, "PGD": -1.34771103,
    "TargetedMargin": -1.31788847, "ART": 0.161257167, "ART010": -0.648044871, "Foolbox": 0.0773215259, "AutoAttack": -1.4519045,
    "Chain": -2.02719505,
    "Radius": 0.0489249, "MadeForFPD": -2.36861557,
}  # fmt: skip


def test_every_part_with_a_version_has_a_canary():
    assert {*network_spec.VERSIONS, "reference"} == set(CANARIES)
    assert set(METHODS) == {
        kind.__name__ for kind in (PGD, TargetedMargin, ART, ART010, Foolbox, AutoAttack, Chain, MadeForFPD, Radius)
    }
    assert set(PINNED) == {*CANARIES, *METHODS}


@pytest.mark.parametrize("name", CANARIES)
def test_canaries_of_network_modules(name):
    assert CANARIES[name]() == pytest.approx(PINNED[name], rel=1e-6)


@pytest.mark.parametrize("name", METHODS)
def test_canaries_of_attack_methods(name):
    assert attacked(*METHODS[name]) == pytest.approx(PINNED[name], rel=1e-3, abs=1e-3)


def test_the_bundled_images_are_those_of_their_version():
    """A changed sample or split changes every outcome: raise the data set's version, and pin its digest anew."""
    digests = {name: data.load(name, size).sha256[:16] for name, size in
               (("mnist-sample", 32), ("svhn-stand-in", 32), ("caltech101-sample", 32))}  # fmt: skip
    assert digests == {
        "mnist-sample": "6f521dd1aff4c53b",
        "svhn-stand-in": "854a36712632febb",
        "caltech101-sample": "564692b5d6a01b1e",
    }


def test_the_plan_has_no_two_results_of_one_key():
    rows = fpdlib.plan(profile="laptop")
    for _, same in rows.groupby("key"):
        assert (
            len({id(type(r)) for r in same["result"]}) == 1
            and same["result"].map(lambda r: json.dumps(plain(r.identity))).nunique() == 1
        )
