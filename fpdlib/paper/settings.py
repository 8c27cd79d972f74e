"""Section 4.2 as data: the networks and data sets of Tables 2, 3 and 4 and of the Caltech experiments, at every scale."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pandas as pd

from fpdlib.attacks.methods import AutoAttack
from fpdlib.attacks.spec import AttackSpec
from fpdlib.data.datasets import DATASETS
from fpdlib.errors import choose
from fpdlib.evaluation import studies
from fpdlib.network.reference import AnchorSpec
from fpdlib.network.spec import NetworkSpec
from fpdlib.paper import suites
from fpdlib.paper.experiments import HEADLINE, PLACEMENT, TABLE1, explored, variants_of
from fpdlib.paper.profiles import HARDENING, PROFILES, RESNET101, SHORT, SMALL, TWENTY_STEPS, Profile
from fpdlib.paper.variants import CONSTANT, FAMILIES, LEARNING, LONGER, NEEDED, SHARED
from fpdlib.training.adversarial import PAPER_PGD_SVHN, Adversary

LONG = ("ReLU", "F", *(f"{name} ({words})" for words in LONGER for name in ("ReLU", "F")), *CONSTANT.values())
THREE = ("F (gate)", "F (no residual)")  # what these claims are about rests on three networks
BEYOND = ("F", "ReLU", *THREE, "F (separate)", "F (gaussian)", "F (no noise)")
TABLE2, TABLE4 = tuple(suites.NETWORKS), ("O", "O_PGD", "F", "F_PGD")

SMALL_BACKBONES = {
    "resnet101": SMALL,
    "resnet50": replace(SMALL, backbone_args=(("layers", (1, 1, 1, 1)), ("channels", (12, 24, 48, 96)), ("zero_init_last", False))),
    "resnext50": replace(SMALL, backbone="resnext50_32x4d", backbone_args=(
        ("layers", (1, 1, 1, 1)), ("channels", (8, 16, 32, 64)), ("cardinality", 4), ("base_width", 32), ("zero_init_last", False))),
}  # fmt: skip
PAPER_BACKBONES = {
    "resnet101": RESNET101,
    "resnet50": replace(RESNET101, backbone="resnet50", decoder_width=128, decoder_channels=(64, 16)),  # the release's, on SVHN
    "resnext50": replace(RESNET101, backbone="resnext50_32x4d"),
}
# What is measured on one seed to describe a network, not to compare methods.
DESCRIBED = ("sound/l2", "sound-native/linf", "sound-native/l2")
DROPOUT = 0.5  # the release's before the classifier, for SVHN and Caltech
QUICK_PGD_SVHN = Adversary("pgd", suites.EPS_SVHN, 5, 2 / 256)
# What a small profile changes of Algorithm 1's recipe and of adversarial training there. 102 classes behind a tanh learn slowly, and
# larger steps diverge.
RECIPES = {("smoke", "svhn"): SHORT | TWENTY_STEPS | {"epochs": 1}, ("smoke", "caltech"): SHORT | TWENTY_STEPS | {"epochs": 2},
           ("laptop", "svhn"): SHORT | {"epochs": 10}, ("laptop", "caltech"): SHORT | {"epochs": 100, "lr": 1e-3}}  # fmt: skip
HARDENINGS = {"smoke": HARDENING | TWENTY_STEPS | {"epochs": 1}, "laptop": HARDENING | {"epochs": 5}}


def setting(profile: str | Profile, name: str) -> Profile:
    """One of the paper's experiments at a profile's scale.

    name: of `OF`; FPDError for any other. The profile, never what a disk holds, says whether images are the data set's own or the
    bundled stand-in's.
    """
    base = PROFILES[choose("profile", profile, PROFILES)] if isinstance(profile, str) else profile
    made = OF[choose("setting", name, OF)][0](base)
    count = DATASETS[made.dataset].test
    attacks = {key: replace(spec, images=min(spec.images, count)) for key, spec in made.attacks.items()}
    return replace(made, setting=name, attacks=attacks, stand_in=DATASETS[made.dataset].stand_in)


def table2(base: Profile) -> Profile:
    attacks = suites.suite(tuple(suites.PUBLISHED), 0.3, suites.L2_MNIST * base.network.image_size / suites.L2_SIZE, base.scale,
                           surrogates=("table2/ReLU", "table2/F"), parts=True)  # fmt: skip
    return replace(base, once=DESCRIBED, attacks=attacks)


def anchor(base: Profile) -> Profile:
    """Known answers: two small CNNs on 28 x 28 pixels."""
    images = {"smoke": 10, "laptop": 1000}.get(base.name, 10_000)
    known = AttackSpec("sound-linf", "sound", suites.sound("linf", 0.3, base.scale), (0.3,), space="native", images=images,
                       batch_size=min(base.scale.batch, 250), iterates="any")  # fmt: skip
    published = AttackSpec("linf-pgd", "published", suites.TABLE1_PGD, space="native", images=images, batch_size=100)
    recipe = base.recipe | {"epochs": 4 if base.name == "smoke" else 10}  # 10: Wong et al.'s; 4: twenty steps of 100 images
    return replace(base, dataset="mnist" if base.name != "smoke" else "mnist-sample", network=AnchorSpec(), recipe=recipe,
                   attacks={"published/linf-pgd": published, "sound/linf": known})  # fmt: skip


def beyond(base: Profile, name: str) -> Profile:
    """What the text claims and no table shows: on F ('beyond'), and around ten other CNNs, some of them slow ('families')."""
    attacks = {key: base.attacks[key] for key in ("white-box", "current", "sound", "radius")}
    few = {"laptop": 100} if name == "families" else {}
    attacks = {key: replace(spec, images=min(spec.images, few.get(base.name, spec.images))) for key, spec in attacks.items()}
    short = {"smoke": TWENTY_STEPS, "laptop": {"epochs": 3}}.get(base.name, {}) if name == "families" else {}
    return replace(base, attacks=attacks, recipe=base.recipe | short)


def learning(base: Profile) -> Profile:
    """How fast a deep network learns, with each ingredient of F: no attack, held-out images after every few steps."""
    if base.name != "medium":
        return replace(base, attacks={}, recipe=base.recipe | ({} if base.name == "smoke" else {"parts": 4}))
    return replace(base, attacks={}, dataset="mnist-sample", network=replace(base.network, backbone="resnet50"),
                   recipe=base.recipe | {"epochs": 2, "parts": 4, "lr": 2e-3})  # fmt: skip


def longer(base: Profile) -> Profile:
    """The L-inf attacks of Tables 1 and 2 on O and F as they are, and trained for longer."""
    attacks = suites.suite(suites.LINF, 0.3, 0.0, replace(base.scale, norms=("linf",)))
    attacks |= {f"published/{column}": base.attacks[column] for column in ("white-box", "transfer-oracle")}
    attacks |= {"radius/linf": base.attacks["radius"]}
    return replace(base, attacks={key: spec for key, spec in attacks.items() if not key.startswith("first-100")})


def svhn(base: Profile, backbone: str) -> Profile:
    """Tables 3 and 4. SVHN's real images go with the paper's networks; two processors get the stand-in."""
    small = base.name not in ("paper-short", "paper")
    network = (SMALL_BACKBONES if small else PAPER_BACKBONES)[backbone]
    attacks = suites.suite((*suites.LINF, *suites.UNBOUNDED), suites.EPS_SVHN, suites.L2_SVHN * network.image_size / suites.L2_SIZE,
                           base.scale, suites.PGD_SVHN, natives=base.name != "smoke")  # fmt: skip
    return elsewhere(base, "svhn-stand-in" if small else "svhn", network, attacks)


def transfer(base: Profile, backbone: str) -> Profile:
    """The same networks as targets of Table 3."""
    return replace(svhn(base, backbone), attacks=suites.transfer_suite(base.scale))


def caltech(base: Profile, name: str) -> Profile:
    """Sec. 4.2 'On CALTECH'. Two processors afford Caltech-101's real photographs at 64 pixels."""
    small = base.name not in ("paper-short", "paper")
    real = not small or (base.name, name) == ("laptop", "caltech101")
    network = replace(SMALL if small else RESNET101, image_size={"laptop": 64}.get(base.name, 32 if small else 224))
    return elsewhere(base, name if real else "caltech101-sample", network, suites.caltech_suite(base.scale, name == "caltech256"))


def elsewhere(base: Profile, dataset: str, network: NetworkSpec, attacks: dict[str, AttackSpec]) -> Profile:
    """The profile on another data set than MNIST."""
    family = "svhn" if dataset.startswith("svhn") else "caltech"
    return replace(
        base, dataset=dataset, attacks=attacks, recipe=RECIPES.get((base.name, family), {"precision": "bfloat16"}),
        hardening=HARDENINGS.get(base.name, {}),
        network=replace(network, num_classes=DATASETS[dataset].classes, dropout=DROPOUT),
        adversaries={"pgd": QUICK_PGD_SVHN if base.name != "paper" else PAPER_PGD_SVHN},
    )  # fmt: skip


# Setting -> how it differs from the profile, and the variants that its tables need, `ReLU` for O.
OF: dict[str, tuple[Callable[[Profile], Profile], tuple[str, ...]]] = {
    # Tables 1, 2 (MNIST) and 4 (SVHN); the networks of the last as targets of Table 3; Caltech
    "table1": (lambda base: replace(base, once=("transfer-true",)), tuple(variants_of())),
    "table2": (table2, tuple(suites.NETWORKS.values())),
    **{f"svhn-{b}": (partial(svhn, backbone=b), tuple(suites.NETWORKS[row] for row in TABLE4)) for b in suites.BACKBONES},
    **{f"transfer-{b}": (partial(transfer, backbone=b), ("O_PGD", "F_PGD")) for b in suites.BACKBONES},
    **{name: (partial(caltech, name=name), ("ReLU", "F")) for name in ("caltech101", "caltech256")},
    # what the text claims and no table shows; five other CNNs; F with one ingredient off each; O and F trained for longer; what
    # F_4IB and F with shared statistics need to learn; known answers
    "beyond": (partial(beyond, name="beyond"), BEYOND),
    "families": (partial(beyond, name="families"), tuple(f"{cnn} {kind}" for cnn in FAMILIES for kind in ("O", "F"))),
    "learning": (learning, LEARNING),
    "longer": (longer, LONG),
    "f4ib": (lambda base: replace(base, attacks={}), ("F_4IB", *NEEDED, "F (shared BN)", *SHARED)),
    "anchor": (anchor, ("CNN (fast AT)", "CNN (fast AT, 30 epochs)")),
}
SETTINGS = tuple(OF)
# Scale -> setting -> the networks that it computes of it; all of what is not named. What keeps a deep F from learning is a question
# for deep networks alone.
SCOPE = {
    "laptop": {"learning": ()},
    "paper": {"longer": (), "f4ib": ("F_4IB", *(n for n in NEEDED if "longer" not in n))},  # a hundred epochs are what it has
    "medium": dict.fromkeys(SETTINGS, ()) | {"table1": ("ReLU", "F", "F (release)", "F_OnePhase", "F_FD+R", "F_FD", "X"),
                                             "table2": ("ReLU", "F"), "learning": LEARNING},
    "paper-short": dict.fromkeys(SETTINGS, ()) | {"table1": ("ReLU", "F", "F_FD+R", "X"), "table2": ("ReLU", "F"),
                                                  "longer": ("ReLU", "F", "ReLU (ten times as long)", "F (ten times as long)")},
}  # fmt: skip


def networks_of(name: str) -> tuple[str, ...]:
    return OF[choose("setting", name, OF)][1]


def seeds_of(here: Profile, variant: str) -> tuple[int, ...]:
    """The seeds that a setting at its scale trains of a variant by default: all of the profile's for the networks of Table 1 that a
    headline claim names; three for Table 1's others, the other reading of where inner layers stand, Table 2, Caltech-101 and the
    known answer, which can decide; one for what describes (other readings, the text's variants, other CNNs, stand-ins), none for
    what a scale leaves out."""
    if variant not in SCOPE.get(here.name, {}).get(here.setting, (variant,)):
        return ()
    rows = {row.variants[0] for row in TABLE1} | {name for pair in explored(PLACEMENT).readings for name in pair}
    if here.setting == "table1":
        return here.seeds if variant in HEADLINE else here.seeds[:3] if variant in rows else here.seeds[:1]
    if here.setting == "beyond":  # what Table 1 has counts here as well
        return here.seeds if variant in HEADLINE else here.seeds[:3] if variant in THREE else here.seeds[:1]
    three = ("table2", "caltech101", "anchor", "longer", "f4ib")
    return here.seeds[:3] if here.setting in three and "shared BN" not in variant else here.seeds[:1]


# What the command line and notebooks call a part of the plan -> its settings.
TABLES = {
    "table1": ("table1",), "table2": ("table2",), "table3": tuple(f"transfer-{b}" for b in suites.BACKBONES),
    "table4": tuple(f"svhn-{b}" for b in suites.BACKBONES), "caltech": ("caltech101", "caltech256"),
    "text": ("beyond", "families", "learning", "longer", "f4ib"), "known-answer": ("anchor",),
}  # fmt: skip


def rows_of(name: str, variant: str) -> tuple[str, ...]:
    """The printed rows that a variant stands for in a setting; its own name where the paper prints none."""
    if name == "table1":
        return tuple(row.name for row in TABLE1 if variant in row.variants)
    return tuple(row for row, meant in suites.NETWORKS.items() if meant == variant) or (variant,)


def studies_of(here: Profile) -> list[tuple[studies.Study, str, tuple[str, ...]]]:
    """(study, variant, the variants whose checkpoints it needs besides) of a setting."""
    images, attacks = here.scale.study, here.attacks
    if here.setting == "table2":
        diagnosis = studies.Diagnosis(here.diagnosis)
        worst = attacks["sound/linf"]
        overflow = studies.Overflow(replace(worst, images=min(worst.images, 200), overflow="confirmed"))
        # a tenth of the paper's epsilon, near F's median radius: at the whole of it nothing is left to tell attacks apart
        near = replace(worst, name="adaptive", eps=(worst.eps[0] / 10,), images=min(worst.images, 50))
        auto = AutoAttack(iterations=here.scale.iterations, queries=here.scale.queries)
        adaptive = studies.Adaptive(near, auto, here.scale.steps)
        return [
            *((diagnosis, name, () if name == "ReLU" else ("ReLU",)) for name in ("ReLU", "F", "O_PGD", "F_PGD")),
            *((overflow, name, ()) for name in ("ReLU", "F")),
            (studies.Restoration(attacks["published/linf-pgd"]), "F", ()), (studies.Filter(images), "F", ()),
            (adaptive, "F", ()),
        ]  # fmt: skip
    if here.setting == "svhn-resnet101":
        return [(studies.Restoration(attacks["published/linf-pgd"]), "F", ())]
    if here.setting == "table1":
        smooth = [(studies.Smoothness(images), name, ()) for name in ("ReLU", "ELU", "ELU+Tanh")]
        return [*smooth, (studies.Diagnosis(here.diagnosis), "X", ("ReLU",))]
    if here.setting == "longer":
        return [(studies.Precision(min(images // 5, 100)), "F (ten times as long)", ())]
    if here.setting == "beyond":
        return [(studies.Neighbourhood(images), name, ()) for name in ("F", "F (no noise)", "ReLU")]
    return []


def read_by(claim: pd.Series) -> tuple[tuple[str, ...], tuple[str, ...], str]:
    """What a claim reads: settings, variants, and the study if it is about one ('' else); nothing if it is about printed numbers."""
    test, name = claim["test"], claim["setting"]
    study = test if test in ("restoration", "smoothness", "neighbourhood", "filter", "adaptive") else ""
    if test == "exploration":
        pairs = explored(claim["better"]).pairs
        return ("table1",), tuple(dict.fromkeys(one for pair in pairs for one in pair)), ""
    if not name or test == "less":
        return (), (), ""
    if test == "restoration":
        return (name,), ("F",), study
    if test == "families":
        return (name,), networks_of(name), ""
    named = (suites.NETWORKS.get(claim[part], claim[part]) for part in ("better", "worse", "where"))
    return (name,), tuple(one for one in named if one in networks_of(name)), study
