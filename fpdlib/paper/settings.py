"""Section 4.2 as data: the networks and data sets of Tables 2, 3 and 4 and of the Caltech experiments, at every scale."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd

from fpdlib.attacks.spec import AttackSpec
from fpdlib.data.datasets import DATASETS
from fpdlib.errors import choose
from fpdlib.evaluation import studies
from fpdlib.network.reference import AnchorSpec
from fpdlib.network.spec import NetworkSpec
from fpdlib.paper.experiments import HEADLINE, TABLE1, explored, variants_of
from fpdlib.paper.profiles import HARDENING, RESNET101, SHORT, SMALL, TWENTY_STEPS, Profile, get_profile
from fpdlib.paper.suites import (
    BACKBONES,
    EPS_SVHN,
    INF,
    L2_MNIST,
    L2_SIZE,
    L2_SVHN,
    LINF,
    NETWORKS,
    PGD_SVHN,
    PUBLISHED,
    TABLE1_PGD,
    caltech_suite,
    sound,
    suite,
    transfer_suite,
)
from fpdlib.paper.variants import FAMILIES, LEARNING, LONGER, NEEDED
from fpdlib.training.adversarial import PAPER_PGD_SVHN, Adversary

BEYOND = ("F", "ReLU", "F (gate)", "F (separate)", "F (gaussian)", "F (no noise)")
TABLE2, TABLE4 = tuple(NETWORKS), ("O", "O_PGD", "F", "F_PGD")

# ---------------------------------------------------------------------------------------------- settings

SMALL_BACKBONES = {
    "resnet101": SMALL,
    "resnet50": replace(
        SMALL, backbone_args=(("layers", (1, 1, 1, 1)), ("channels", (12, 24, 48, 96)), ("zero_init_last", False))
    ),
    "resnext50": replace(
        SMALL,
        backbone="resnext50_32x4d",
        backbone_args=(("layers", (1, 1, 1, 1)), ("channels", (8, 16, 32, 64)), ("cardinality", 4), ("base_width", 32),
                       ("zero_init_last", False)),
    ),
}  # fmt: skip
PAPER_BACKBONES = {
    "resnet101": RESNET101,
    "resnet50": replace(RESNET101, backbone="resnet50", decoder_width=128, decoder_channels=(64, 16)),  # the release's, on SVHN
    "resnext50": replace(RESNET101, backbone="resnext50_32x4d"),
}
SETTINGS = (
    "table1", "table2", *(f"svhn-{backbone}" for backbone in BACKBONES),
    *(f"transfer-{backbone}" for backbone in BACKBONES), "caltech101", "caltech256",
    "beyond", "families", "learning", "longer", "f4ib", "anchor",
)  # fmt: skip
# What is measured on one seed to describe a network, not to compare methods.
DESCRIBED = ("sound/l2", "sound-native/linf", "sound-native/l2")
# Scale -> setting -> the networks that it computes of it; all of what is not named. What keeps a deep F from learning is a question
# for deep networks alone.
LONG = ("ReLU", "F", *(f"{name} ({words})" for words in LONGER for name in ("ReLU", "F")))
SCOPE = {
    "laptop": {"learning": ()},
    "paper": {"longer": (), "f4ib": ("F_4IB", *(n for n in NEEDED if "longer" not in n))},  # a hundred epochs are what it has
    "medium": dict.fromkeys(SETTINGS, ()) | {"table1": ("ReLU", "F", "F (release)", "F_OnePhase", "F_FD+R", "F_FD", "X"),
                                             "table2": ("ReLU", "F"), "learning": LEARNING},
    "paper-short": dict.fromkeys(SETTINGS, ()) | {"table1": ("ReLU", "F", "F_FD+R", "X"), "table2": ("ReLU", "F"),
                                                  "longer": ("ReLU", "F", "ReLU (ten times as long)", "F (ten times as long)")},
}  # fmt: skip
# Experiments whose committed evidence is older than the released initialisation and is to be computed again.
EARLIER = {("laptop", name) for name in ("svhn-resnet101", "caltech101", "caltech256")}
DROPOUT = 0.5  # the release's before the classifier, for SVHN and Caltech
QUICK_PGD_SVHN = Adversary("pgd", EPS_SVHN, 5, 2 / 256)


def setting(profile: str | Profile, name: str) -> Profile:
    """One of the paper's experiments at a profile's scale.

    name: 'table1'; 'table2' (MNIST); 'svhn-resnet101', 'svhn-resnet50', 'svhn-resnext50' (Table 4); 'transfer-...' (the same
    networks as targets of Table 3); 'caltech101'; 'caltech256'; 'beyond' (what the text claims and no table shows); 'families'
    (five other CNNs); 'learning' (F with one ingredient off each); 'longer' (O and F trained for longer); 'f4ib' (what F_4IB
    needs to learn); 'anchor' (known answers).
    Raises FPDError for any other. The profile, never what a disk holds, says whether images are the data set's own or the bundled
    stand-in's.
    """
    base = get_profile(profile) if isinstance(profile, str) else profile
    choose("setting", name, SETTINGS)
    if (base.name, name) in EARLIER:
        base = replace(base, scale=replace(base.scale, cheap=200, few=50))
    family, _, backbone = name.partition("-")
    builders = {"table1": lambda: replace(base, once=("transfer-true",)), "anchor": lambda: anchor(base),
                "beyond": lambda: beyond(base, name), "families": lambda: beyond(base, name), "svhn": lambda: svhn(base, backbone),
                "transfer": lambda: replace(svhn(base, backbone), attacks=transfer_suite(base.scale)),
                "learning": lambda: learning(base), "longer": lambda: longer(base), "f4ib": lambda: replace(base, attacks={}),
                "caltech101": lambda: caltech(base, name), "caltech256": lambda: caltech(base, name),
                "table2": lambda: replace(base, once=DESCRIBED, attacks=suite(
                    tuple(PUBLISHED), 0.3, L2_MNIST * base.network.image_size / L2_SIZE, base.scale,
                    surrogates=("table2/ReLU", "table2/F"), parts=True))}  # fmt: skip
    made = builders[family]()
    count = DATASETS[made.dataset].test
    attacks = {key: replace(spec, images=min(spec.images, count)) for key, spec in made.attacks.items()}
    made = replace(made, setting=name, attacks=attacks, stand_in=DATASETS[made.dataset].stand_in)
    return earlier(made) if (made.name, name) in EARLIER else made


def earlier(here: Profile) -> Profile:
    """An experiment as its committed evidence has it, which was computed before the initialisation of the released code was known,
    before any iterate of an attack counted, and with the L2 radius of 64-pixel images."""
    attacks = {}
    for key, spec in here.attacks.items():
        if spec.name != "radius" and not key.startswith("made/"):
            eps = (L2_MNIST,) if here.setting == "table2" and spec.norm == "l2" and spec.eps != INF else spec.eps
            method = sound(spec.norm, eps[-1], here.scale, made_for_fpd=False) if key.startswith("sound") else spec.method
            attacks[key] = replace(spec, eps=eps, method=method, iterates="returned")
    network = replace(here.network, initialisation="pytorch", dropout=0.0)
    return replace(here, attacks=attacks, network=network, overflow="broken", once=(),
                   diagnosis=replace(here.diagnosis, overflow="broken"))  # fmt: skip


def anchor(base: Profile) -> Profile:
    """Known answers: two small CNNs on 28 x 28 pixels."""
    images = {"smoke": 10, "laptop": 1000}.get(base.name, 10_000)
    known = AttackSpec("sound-linf", "sound", sound("linf", 0.3, base.scale), (0.3,), space="native", images=images,
                       batch_size=min(base.scale.batch, 250), iterates="any")  # fmt: skip
    published = AttackSpec("linf-pgd", "published", TABLE1_PGD, space="native", images=images, batch_size=100)
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
    attacks = suite(LINF, 0.3, 0.0, replace(base.scale, norms=("linf",)))
    attacks |= {f"published/{column}": base.attacks[column] for column in ("white-box", "transfer-oracle")}
    attacks |= {"radius/linf": base.attacks["radius"]}
    return replace(base, attacks={key: spec for key, spec in attacks.items() if not key.startswith("first-100")})


def svhn(base: Profile, backbone: str) -> Profile:
    """Tables 3 and 4. SVHN's real images go with the paper's networks; two processors get the stand-in."""
    small = base.name not in ("paper-short", "paper")
    network = (SMALL_BACKBONES if small else PAPER_BACKBONES)[backbone]
    attacks = suite(("linf-fgsm", "linf-pgd", "linf-cw", "l2-cw", "l2-deepfool"), EPS_SVHN, L2_SVHN * network.image_size / L2_SIZE,
                    base.scale, PGD_SVHN, natives=base.name != "smoke")  # fmt: skip
    return elsewhere(base, "svhn-stand-in" if small else "svhn", network, attacks)


def caltech(base: Profile, name: str) -> Profile:
    """Sec. 4.2 'On CALTECH'. Two processors afford Caltech-101's real photographs at 64 pixels."""
    small = base.name not in ("paper-short", "paper")
    real = not small or (base.name, name) == ("laptop", "caltech101")
    network = replace(SMALL if small else RESNET101, image_size={"laptop": 64}.get(base.name, 32 if small else 224))
    return elsewhere(base, name if real else "caltech101-sample", network, caltech_suite(base.scale, name == "caltech256"))


def elsewhere(base: Profile, dataset: str, network: NetworkSpec, attacks: dict[str, AttackSpec]) -> Profile:
    """The profile on another data set than MNIST."""
    family = dataset.split("-")[0]
    return replace(
        base, dataset=dataset, attacks=attacks, recipe=recipes(base.name, family), hardening=hardening(base.name),
        network=replace(network, num_classes=DATASETS[dataset].classes, dropout=DROPOUT),
        adversaries={"pgd": QUICK_PGD_SVHN if base.name != "paper" else PAPER_PGD_SVHN},
    )  # fmt: skip


def recipes(profile: str, family: str) -> dict:
    """What a profile changes of Algorithm 1's recipe for SVHN and Caltech."""
    if profile == "smoke":
        return SHORT | TWENTY_STEPS | {"epochs": 1 if family == "svhn" else 2}
    if profile == "laptop":
        # 102 classes behind a tanh learn slowly, and larger steps diverge
        return SHORT | ({"epochs": 10} if family == "svhn" else {"epochs": 30, "lr": 1e-3})
    return {"precision": "bfloat16"}


def hardening(profile: str) -> dict:
    """What a profile changes for adversarial training on SVHN and Caltech."""
    if profile in ("smoke", "laptop"):
        return HARDENING | {"epochs": 1 if profile == "smoke" else 5} | (TWENTY_STEPS if profile == "smoke" else {})
    return {}


def networks_of(name: str) -> tuple[str, ...]:
    """The variants that a setting's tables need, `ReLU` for O."""
    choose("setting", name, SETTINGS)
    family = name.split("-")[0]
    return {
        "table1": tuple(variants_of()),
        "table2": tuple(NETWORKS.values()),
        "svhn": tuple(NETWORKS[row] for row in TABLE4),
        "transfer": ("O_PGD", "F_PGD"),
        "caltech101": ("ReLU", "F"),
        "caltech256": ("ReLU", "F"),
        "beyond": BEYOND,
        "families": tuple(f"{cnn} {kind}" for cnn in FAMILIES for kind in ("O", "F")),
        "learning": LEARNING,
        "f4ib": ("F_4IB", *NEEDED),
        "longer": LONG,
        "anchor": ("CNN (fast AT)", "CNN (fast AT, 30 epochs)"),
    }[family]


def seeds_of(here: Profile, variant: str) -> tuple[int, ...]:
    """The seeds that a setting at its scale trains of a variant by default: all of the profile's for the networks of Table 1 that a
    headline claim names; three for Table 1's others, Table 2, Caltech-101 and the known answer, which can decide; one for what
    describes (other readings, the text's variants, other CNNs, stand-ins), none for what a scale leaves out."""
    if variant not in SCOPE.get(here.name, {}).get(here.setting, (variant,)):
        return ()
    rows = {row.variants[0] for row in TABLE1}
    if here.setting == "table1":
        return here.seeds if variant in HEADLINE else here.seeds[:3] if variant in rows else here.seeds[:1]
    if here.setting == "beyond":  # what Table 1 has counts here as well; what the gate does rests on three networks
        return here.seeds if variant in HEADLINE else here.seeds[:3] if variant == "F (gate)" else here.seeds[:1]
    three = {"table2", "caltech101", "anchor", "longer", "f4ib"} - {name for profile, name in EARLIER if profile == here.name}
    return here.seeds[:3] if here.setting in three else here.seeds[:1]


# What the command line and notebooks call a part of the plan -> its settings.
TABLES = {
    "table1": ("table1",), "table2": ("table2",), "table3": tuple(f"transfer-{b}" for b in BACKBONES),
    "table4": tuple(f"svhn-{b}" for b in BACKBONES), "caltech": ("caltech101", "caltech256"),
    "text": ("beyond", "families", "learning", "longer", "f4ib"), "known-answer": ("anchor",),
}  # fmt: skip


def rows_of(name: str, variant: str) -> tuple[str, ...]:
    """The printed rows that a variant stands for in a setting; its own name where the paper prints none."""
    if name == "table1":
        return tuple(row.name for row in TABLE1 if variant in row.variants)
    return tuple(row for row, meant in NETWORKS.items() if meant == variant) or (variant,)


def studies_of(here: Profile) -> list[tuple[studies.Study, str, tuple[str, ...]]]:
    """(study, variant, the variants whose checkpoints it needs besides) of a setting."""
    images, attacks = here.scale.study, here.attacks
    if here.setting == "table2":
        diagnosis = studies.Diagnosis(here.diagnosis)
        worst = attacks["sound/linf"]
        overflow = studies.Overflow(replace(worst, images=min(worst.images, 200), overflow="confirmed"))
        return [
            *((diagnosis, name, () if name == "ReLU" else ("ReLU",)) for name in ("ReLU", "F", "F_PGD")),
            *((overflow, name, ()) for name in ("ReLU", "F")),
            (studies.Restoration(attacks["published/linf-pgd"]), "F", ()), (studies.Filter(images), "F", ()),
        ]  # fmt: skip
    if here.setting == "svhn-resnet101":
        return [(studies.Restoration(attacks["published/linf-pgd"]), "F", ())]
    if here.setting == "table1":
        return [(studies.Smoothness(images), name, ()) for name in ("ReLU", "ELU", "ELU+Tanh")]
    if here.setting == "beyond":
        return [(studies.Neighbourhood(images), name, ()) for name in ("F", "F (no noise)", "ReLU")]
    return []


def read_by(claim: pd.Series) -> tuple[tuple[str, ...], tuple[str, ...], str]:
    """What a claim reads: settings, variants, and the study if it is about one ('' else); nothing if it is about printed numbers."""
    test, name = claim["test"], claim["setting"]
    study = test if test in ("restoration", "smoothness", "neighbourhood", "filter") else ""
    if test == "exploration":
        pairs = explored(claim["better"]).pairs
        return ("table1",), tuple(dict.fromkeys(one for pair in pairs for one in pair)), ""
    if not name or test == "less":
        return (), (), ""
    if test == "restoration":
        return (name,), ("F",), study
    if test == "families":
        return (name,), networks_of(name), ""
    named = (NETWORKS.get(claim[part], claim[part]) for part in ("better", "worse", "where"))
    return (name,), tuple(one for one in named if one in networks_of(name)), study
