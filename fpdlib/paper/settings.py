"""Section 4.2 as data: the networks and data sets of Tables 2, 3 and 4 and of the Caltech experiments, at every scale."""

from __future__ import annotations

from dataclasses import replace

from fpdlib.attacks.spec import AttackSpec
from fpdlib.data.datasets import DATASETS
from fpdlib.errors import choose
from fpdlib.network.reference import AnchorSpec
from fpdlib.paper.experiments import FAMILIES, HARDENING, RESNET101, SHORT, SMALL, Profile, get_profile, variants_of
from fpdlib.paper.suites import (
    BACKBONES,
    EPS_SVHN,
    L2_MNIST,
    L2_SVHN,
    NETWORKS,
    PGD_SVHN,
    PUBLISHED,
    SCALES,
    TABLE1_PGD,
    caltech_suite,
    protocol_suite,
    sound,
    suite,
    transfer_suite,
)
from fpdlib.training.adversarial import PAPER_PGD_SVHN, Adversary

BEYOND = ("F", "ReLU", "F (separate)", "F (gaussian)", "F (no noise)")
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
    "resnet50": replace(RESNET101, backbone="resnet50"),
    "resnext50": replace(RESNET101, backbone="resnext50_32x4d"),
}
STAND_INS = {"svhn": "svhn-stand-in", "caltech101": "caltech101-sample", "caltech256": "caltech101-sample"}
SETTINGS = (
    "table1", "protocols", "table2", *(f"svhn-{backbone}" for backbone in BACKBONES),
    *(f"transfer-{backbone}" for backbone in BACKBONES), "caltech101", "caltech256",
    "beyond", "families", "anchor",
)  # fmt: skip
QUICK_PGD_SVHN = Adversary("pgd", EPS_SVHN, 5, 2 / 256)
# Clean accuracy that the data set allows, below which a network is undertrained.
FLOORS = {"svhn": 0.90, "caltech101": 0.50, "caltech256": 0.25}


def setting(profile: str, name: str, stand_in: bool = False) -> Profile:
    """One of the paper's experiments at a profile's scale; with `stand_in` on the bundled images instead of its data set.

    name: 'table1'; 'protocols' (its white-box point in all three); 'table2' (MNIST); 'svhn-resnet101', 'svhn-resnet50',
    'svhn-resnext50' (Table 4); 'transfer-...' (the same networks as targets of Table 3); 'caltech101'; 'caltech256'; 'beyond' (what
    the text claims and no table shows); 'families' (five other CNNs); 'anchor'
    (known answers). Raises FPDError for any other.
    """
    base = get_profile(profile)
    choose("setting", name, SETTINGS)
    scale = SCALES[profile]
    if name == "table1":
        return base
    if name == "table2":
        attacks = suite(tuple(PUBLISHED), 0.3, L2_MNIST, scale, surrogates=("table2/ReLU", "table2/F"))
        return replace(base, attacks=attacks, setting=name)
    if name == "protocols":
        return replace(base, attacks=protocol_suite(base.attacks, scale), setting=name)
    if name == "anchor":
        full = profile != "smoke"
        images = {"smoke": 20, "laptop": 1000}.get(profile, 10_000)
        known = AttackSpec("sound-linf", "sound", sound("linf", 0.3, scale), (0.3,), space="native", images=images,
                           batch_size=min(scale.batch, 250))  # fmt: skip
        published = AttackSpec("linf-pgd", "published", TABLE1_PGD, space="native", images=images, batch_size=100)
        return replace(
            base, dataset="mnist" if full else "mnist-sample", network=AnchorSpec(), setting=name,
            attacks={"published/linf-pgd": published, "sound/linf": known},
        )  # fmt: skip
    if name in ("beyond", "families"):
        attacks = {key: base.attacks[key] for key in ("white-box", "sound-pgd", "curve")}
        attacks["current"] = protocol_suite(base.attacks, scale)["current"]
        few = {"smoke": 10, "laptop": 100} if name == "families" else {"smoke": 30}  # ten networks, some of them slow
        attacks = {
            key: replace(spec, images=min(spec.images, few.get(profile, spec.images))) for key, spec in attacks.items()
        }
        short = {"smoke": {"images": 1000}, "laptop": {"epochs": 3}}.get(profile, {}) if name == "families" else {}
        return replace(base, attacks=attacks, recipe=base.recipe | short, setting=name)
    family, _, backbone = name.replace("transfer", "svhn").partition("-")
    small = profile in ("smoke", "laptop")
    # two processors afford real photographs at 64 pixels; SVHN's real images go with the paper's networks
    own = {"caltech101": "caltech101"} if profile == "laptop" else {} if small else {family: family}
    dataset = STAND_INS[family] if stand_in else own.get(family, STAND_INS[family])
    if family == "svhn":
        network = (SMALL_BACKBONES if small else PAPER_BACKBONES)[backbone]
        attacks = suite(("linf-fgsm", "linf-pgd", "linf-cw", "l2-cw", "l2-deepfool"), EPS_SVHN, L2_SVHN, scale, PGD_SVHN,
                       natives=profile != "smoke")  # fmt: skip
        if name.startswith("transfer"):
            attacks = transfer_suite(scale)
    else:
        size = {"smoke": 32, "laptop": 64}.get(profile, 224)
        network = replace(SMALL if small else RESNET101, image_size=size)
        attacks = caltech_suite(scale)
    attacks = {key: replace(spec, images=min(spec.images, DATASETS[dataset].test)) for key, spec in attacks.items()}
    network = replace(network, num_classes=DATASETS[dataset].classes, initialisation=base.network.initialisation)
    return replace(
        base, dataset=dataset, network=network, attacks=attacks,
        recipe=recipes(profile, family), hardening=hardening(profile),
        adversaries={"pgd": QUICK_PGD_SVHN if profile != "paper" else PAPER_PGD_SVHN}, setting=name,
        clean_floor=FLOORS[dataset.split("-")[0]], stand_in=DATASETS[dataset].stand_in,
    )  # fmt: skip


def recipes(profile: str, family: str) -> dict:
    """What a profile changes of Algorithm 1's recipe for SVHN and Caltech."""
    if profile == "smoke":
        return SHORT | {"epochs": 1 if family == "svhn" else 2, "images": 1500}
    if profile == "laptop":
        # 102 classes behind a tanh learn slowly, and larger steps diverge
        return SHORT | ({"epochs": 10} if family == "svhn" else {"epochs": 30, "lr": 1e-3})
    short = {"schedule": "one-cycle", "epochs": 3 if family == "svhn" else 10, "lr": 1e-3, "precision": "bfloat16"}
    return short if profile == "paper-short" else {"precision": "bfloat16"}


def hardening(profile: str) -> dict:
    """What a profile changes for adversarial training on SVHN and Caltech."""
    if profile in ("smoke", "laptop"):
        return HARDENING | {"epochs": 1 if profile == "smoke" else 5} | ({"images": 1000} if profile == "smoke" else {})
    return {"epochs": 1, "lr": 1e-4} if profile == "paper-short" else {}


def networks_of(name: str) -> tuple[str, ...]:
    """The variants that a setting's tables need, `ReLU` for O."""
    choose("setting", name, SETTINGS)
    family = name.split("-")[0]
    return {
        "table1": tuple(variants_of()),
        "protocols": tuple(variants_of()),
        "table2": tuple(NETWORKS.values()),
        "svhn": tuple(NETWORKS[row] for row in TABLE4),
        "transfer": ("O_PGD", "F_PGD"),
        "caltech101": ("ReLU", "F"),
        "caltech256": ("ReLU", "F"),
        "beyond": BEYOND,
        "families": tuple(f"{cnn} {kind}" for cnn in FAMILIES for kind in ("O", "F")),
        "anchor": ("CNN (fast AT)", "CNN (fast AT, 30 epochs)"),
    }[family]
