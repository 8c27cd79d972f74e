"""The paper as data: profiles, the networks of Table 1, its rows, and the eight comparisons it draws from them.

Everything that the paper leaves open is decided here, once, and marked in `guesses` (REPRODUCE.md explains each).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pandas as pd

from fpdlib.attacks.spec import AttackSpec
from fpdlib.errors import choose
from fpdlib.evaluation.diagnostics import DiagnosisSpec
from fpdlib.network.backbone import STAGES
from fpdlib.network.reference import AnchorSpec
from fpdlib.network.spec import NetworkSpec
from fpdlib.paper.suites import LAPTOP_SCALE, PAPER_SCALE, SHORT_SCALE, SMOKE_SCALE, Scale, table1_suite
from fpdlib.training.adversarial import FAST, MADRY, PAPER_FGSM, PAPER_PGD, Adversary
from fpdlib.training.recipe import Recipe, paper_recipe


@dataclass(frozen=True)
class Profile:
    """One scale of the same experiment. `smoke` and `laptop` use the bundled images, so they need no network.

    recipe: what this scale changes of Algorithm 1's recipe (length and step size of training, nothing of its logic).
    attacks: Table 1's suite with this scale's image counts; scale, diagnosis: what the other suites and the studies take.
    seeds: what a plain run computes of the networks that a headline claim names; of others fewer (`settings.seeds_of`).
    checkpoints: (setting, network) whose first seed's weights are committed.
    once: the attacks that describe a network and are made on its first seed alone.
    placement: which block is the first (`PLACEMENTS`). changes: what of it was changed, in words (see `changes.changed`).
    setting: which of the paper's tables and data sets this is ('table1', and `settings.SETTINGS`).
    hardening, adversaries: what adversarial training changes of the recipe, and the attacks it trains against.
    stand_in: the images are not those of the paper's data set; no number of it is comparable, no claim is tested.
    overflow: what an output that is not a number counts as, in every attack (see `answers.wrong`).
    threads: of one process on a CPU; None: as many as there are processors.
    """

    name: str
    purpose: str
    dataset: str
    network: NetworkSpec
    recipe: dict
    attacks: dict[str, AttackSpec]
    scale: Scale
    diagnosis: DiagnosisSpec = field(default_factory=DiagnosisSpec)
    seeds: tuple[int, ...] = (0,)
    setting: str = "table1"
    hardening: dict = field(default_factory=dict)
    adversaries: dict[str, Adversary] = field(default_factory=dict)
    stand_in: bool = False
    overflow: str = "confirmed"
    threads: int | None = None
    checkpoints: tuple[tuple[str, str], ...] = ()
    once: tuple[str, ...] = ()
    placement: str = "blocks"
    changes: str = ""

    def __post_init__(self):
        alike = {key: replace(spec, overflow=self.overflow) for key, spec in self.attacks.items()}
        object.__setattr__(self, "attacks", alike)


# ResNet's family at a size that two processors can train: one basic block a stage, 16 to 128 channels, 0.33 M
# parameters, 32 x 32 pixels. Same stem, stages and restoration path as ResNet-101.
SMALL = NetworkSpec(
    backbone="resnet18",
    backbone_args=(("layers", (1, 1, 1, 1)), ("channels", (16, 32, 64, 128)), ("zero_init_last", False)),
    image_size=32,
    decoder_width=32,
)
RESNET101 = NetworkSpec(backbone="resnet101", backbone_args=(("zero_init_last", False),), image_size=64)
SHORT = {"schedule": "one-cycle", "lr": 4e-3, "batch_size": 50}

# Adversarial training (Sec. 4.2) goes on from the trained network. Two processors cannot afford the paper's 100 steps of
# 0.01 with 100 epochs; the small profiles take few large steps from a random start, and eps grows over the first half.
HARDENING = {"schedule": "one-cycle", "lr": 2e-3, "batch_size": 50, "weight_decay": 0.0}
QUICK_FGSM = Adversary("fgsm", 0.3, 1, 0.3, random_start=False, warmup=0.5)
QUICK_PGD = Adversary("pgd", 0.3, 7, 0.1, warmup=0.5)
PAPER_ADVERSARIES = {"fgsm": PAPER_FGSM, "pgd": PAPER_PGD}

PROFILES = {
    profile.name: profile
    for profile in (
        Profile(
            "smoke", "continuous integration: every step runs, minutes, no number is worth reading",
            "mnist-sample", SMALL, SHORT | {"epochs": 1, "images": 1000},
            table1_suite(images=30, sound_images=20, batch_size=30, scale=SMOKE_SCALE, surrogate_epochs=1),
            SMOKE_SCALE, DiagnosisSpec(images=10, steps=10, restarts=2, draws=20, queries=50, planted=5, grid=9),
            hardening=HARDENING | {"epochs": 1, "images": 1000},
            adversaries={"fgsm": QUICK_FGSM, "pgd": replace(QUICK_PGD, steps=3)}, threads=1,
        ),
        Profile(
            "laptop", "two processors, 12 hours: numbers worth reading", "mnist-sample", SMALL, SHORT | {"epochs": 10},
            table1_suite(images=500, sound_images=200, batch_size=250, scale=LAPTOP_SCALE),
            LAPTOP_SCALE, DiagnosisSpec(images=100, steps=100, restarts=5, draws=1000, queries=2000),
            hardening=HARDENING | {"epochs": 15}, adversaries={"fgsm": QUICK_FGSM, "pgd": QUICK_PGD}, seeds=(0, 1, 2, 3, 4),
            threads=1, checkpoints=(*(("table1", name) for name in ("F", "ReLU", "X", "F_FD+R", "Deep", "ELU+Tanh")),
                                    ("table2", "O_PGD"), ("table2", "F_PGD")),
        ),
        Profile(
            "paper-short", "one GPU, half an hour: the paper's backbone, size and images, few epochs",
            "mnist", RESNET101, {"schedule": "one-cycle", "epochs": 2, "precision": "bfloat16"},
            table1_suite(images=1000, sound_images=500, batch_size=500, scale=SHORT_SCALE),
            SHORT_SCALE, DiagnosisSpec(images=200),
            hardening={"epochs": 1, "lr": 1e-3}, adversaries={"fgsm": QUICK_FGSM, "pgd": QUICK_PGD},
        ),
        Profile(
            "paper", "one GPU over night: the paper's epochs, attacks and all test images",
            "mnist", RESNET101, {"precision": "bfloat16"},
            table1_suite(images=10000, sound_images=10000, batch_size=1000, scale=PAPER_SCALE),
            PAPER_SCALE, DiagnosisSpec(images=1000, planted=100, grid=41),
            seeds=(0, 1, 2), adversaries=PAPER_ADVERSARIES,
        ),
    )
}  # fmt: skip


def get_profile(name: str) -> Profile:
    choose("profile", name, PROFILES)
    return PROFILES[name]


@dataclass(frozen=True)
class Variant:
    """One network: what it changes of the plain CNN and of the recipe, and which of that is a guess.

    adversary: 'fgsm' or 'pgd' for adversarial training (Sec. 4.2), which goes on from the variant `begin`.
    """

    title: str
    network: dict
    phases: int = 1
    guesses: tuple[str, ...] = ()
    training: dict = field(default_factory=dict)
    adversary: str = ""
    begin: str = ""

    def spec(self, profile: Profile) -> NetworkSpec | AnchorSpec:
        if "kind" in self.network:
            return AnchorSpec(**self.network)
        # what a variant is about it says itself; the rest is the profile's
        spec = replace(profile.network, **self.network)
        if profile.placement == "stem" and "stem" not in spec.inner:  # every block one earlier
            spec = replace(spec, inner=tuple(STAGES[STAGES.index(stage) - 1] for stage in spec.inner))
        return spec

    def recipe(self, profile: Profile) -> Recipe:
        changes = profile.recipe | self.training
        if self.adversary:
            changes |= profile.hardening | {"adversary": profile.adversaries[self.adversary], "begin": self.begin}
        return paper_recipe(profile.dataset, phases=self.phases, **changes)

    @property
    def losses(self) -> str:
        return "CE + L2" if self.network.get("restoration") else "CE"


# Which block is the first: the backbone's first stage, or, as in the release, its stem.
PLACEMENTS = ("blocks", "stem")
SHALLOW, DEEP, ALL = ("stage1", "stage2"), ("stage3", "stage4"), ("stage1", "stage2", "stage3", "stage4")
BACK = {"restoration": True, "classifier": "back"}
FINAL = {"activation": "elu", "squeeze": "tanh"}

# Guesses, by letter; REPRODUCE.md gives the reasons.
GUESSES = {
    "a": "ReLU and no squeeze: Table 1 selects ELU and tanh only after this row",
    "b": "one phase: two-phase training is explored after this row",
    "c": "no denoising, restoration or back module in the activation rows: their white-box column is that of a plain CNN",
    "d": "blocks are residual groups (text); the release counts the stem as the first",
    "e": "x stands for x_clean, which does not exist at test time",
    "f": "flip is left-right",
    "g": "classifier on the front pass, restoration as auxiliary loss (the ablation's words)",
    "h": "ELU, tanh and two phases as in F, since the row is compared with F",
    "i": "1x1 convolution after the non-local mean, inside the residual branch, drawn like the release's convolutions",
    "j": "trained like the plain CNN: no adversarial training, ReLU, no squeeze",
    "k": "the middle layer denoises x' (text), not the raw input (release)",
    "l": "the decoder's laterals are taken before a stage's denoising layer (release); the text does not say",
    "m": "no bottleneck: Table 1 explores it only after this row",
    "n": "trained with the noise of Algorithm 1, which the text gives for FPD alone",
    "o": "running BatchNorm statistics per pass, weights shared; the release shares both",
    "q": "the non-local weights are plain dot products; Xie et al. compare four kinds",
    "r": "only the inner layers are Gaussian; the middle layer keeps the dot product",
}

VARIANTS: dict[str, Variant] = {
    "F_FD": Variant("front module, two shallow inner layers", {"inner": SHALLOW}, 1, ("a", "b", "d", "m")),
    "Deep": Variant("front module, two deep inner layers", {"inner": DEEP}, 1, ("a", "b", "d", "m")),
    "Average": Variant("no inner layers; back module sees (x' + x) / 2", BACK | {"back_input": "average"}, 1,
                       ("a", "b", "e", "o")),
    "Flip": Variant("no inner layers; back module sees x' flipped", BACK | {"back_input": "flip"}, 1, ("a", "b", "f", "o")),
    "Mid": Variant("no inner layers; middle layer on x'", BACK | {"back_input": "middle"}, 1, ("a", "b", "k", "o")),
    "Mid+Inner": Variant("middle and two inner layers, back module", BACK | {"inner": SHALLOW}, 1,
                         ("a", "b", "d", "k", "l", "m", "o")),
    "F_FD+R": Variant("front module with restoration as auxiliary loss", {"inner": SHALLOW, "restoration": True}, 1,
                      ("a", "b", "d", "g", "l", "m")),
    "F": Variant("the whole framework", BACK | FINAL | {"inner": SHALLOW}, 2, ("d", "k", "l", "o")),
    "ReLU": Variant("the plain CNN", {}, 1, ("b", "c", "n")),
    "ELU": Variant("the plain CNN with ELU", {"activation": "elu"}, 1, ("b", "c", "n")),
    "ELU+Tanh": Variant("the plain CNN with ELU and tanh logits", FINAL, 1, ("b", "c", "n")),
    "F_2IB-Mid": Variant("F with bottleneck inner layers", BACK | FINAL | {"inner": SHALLOW, "denoiser": "bottleneck"}, 2,
                         ("d", "h", "i", "k", "l", "o")),
    "F_2IB": Variant("bottleneck, no middle layer",
                     BACK | FINAL | {"inner": SHALLOW, "denoiser": "bottleneck", "back_input": "restored"}, 2,
                     ("d", "h", "i", "l", "o")),
    "F_4IB": Variant("four bottleneck layers, no middle layer",
                     BACK | FINAL | {"inner": ALL, "denoiser": "bottleneck", "back_input": "restored"}, 2,
                     ("d", "h", "i", "l", "o")),
    "F_OnePhase": Variant("F, first training phase only", BACK | FINAL | {"inner": SHALLOW}, 1, ("d", "k", "l", "o")),
    "X": Variant("four non-local blocks (Xie et al. 2019)", {"inner": ALL, "denoiser": "xie"}, 1, ("b", "j", "n", "q")),
}  # fmt: skip

# Other readings of the same rows, and one control; none of them is a row of the paper.
RELEASE = ("stem", "stage1")
VARIANTS |= {
    "F_FD (stem)": Variant("F_FD with the release's placement: stem and stage 1", {"inner": RELEASE}, 1, ("a", "b", "m")),
    "Deep (stem)": Variant("Deep, the stem counted as a block: stages 2 and 3", {"inner": ("stage2", "stage3")}, 1,
                           ("a", "b", "m")),
    "F_2IB (stem)": Variant("F_2IB with the release's placement",
                            BACK | FINAL | {"inner": RELEASE, "denoiser": "bottleneck", "back_input": "restored"}, 2,
                            ("h", "i", "l", "o")),
    "F_4IB (stem)": Variant("F_4IB, the stem counted as a block: stem and stages 1 to 3",
                            BACK | FINAL | {"inner": ("stem", *ALL[:3]), "denoiser": "bottleneck",
                                            "back_input": "restored"}, 2, ("h", "i", "l", "o")),
    "F (release)": Variant("F as the released code has it: stem placement, raw middle input, shared BatchNorm",
                           BACK | FINAL | {"inner": RELEASE, "middle": "raw", "statistics": "shared"}, 2),
    "F (shared BN)": Variant("F with one set of BatchNorm statistics for all passes",
                             BACK | FINAL | {"inner": SHALLOW, "statistics": "shared"}, 2, ("d", "k", "l")),
}  # fmt: skip

# What the text claims and no table shows (Sec. 3.1, 3.4; "applies to all block-based CNNs").
VARIANTS |= {
    "F (separate)": Variant("F with separate weights for F_FD and F_BD", VARIANTS["F"].network | {"sharing": "separate"}, 2,
                            ("d", "k", "l")),
    "F (gaussian)": Variant("F with Gaussian non-local means", VARIANTS["F"].network | {"similarity": "gaussian"}, 2,
                            ("d", "k", "l", "o", "r")),
    "F (gate)": Variant("F whose gate closes above 0.06 of the initial error, as T = 3 is of ResNet-101's", VARIANTS["F"].network, 2,
                        ("d", "k", "l", "o"), {"threshold_share": 0.06}),
    "F (no noise)": Variant("F trained without noise", VARIANTS["F"].network, 2, ("d", "k", "l", "o"), {"noise": 0.0}),
}  # fmt: skip
# Five other CNN families, at a size that two processors can train; the same in every profile.
FAMILIES: dict[str, dict] = {
    "DenseNet": {"backbone": "densenet121",
                 "backbone_args": (("growth_rate", 8), ("block_config", (2, 2, 2, 2)))},
    "RegNet": {"backbone": "regnetx_002", "backbone_args": ()},
    "ConvNeXt": {"backbone": "convnext_atto", "backbone_args": (("depths", (1, 1, 1, 1)), ("dims", (16, 32, 64, 128)),
                                                                ("patch_size", 2))},
    "EfficientNet": {"backbone": "tinynet_e", "backbone_args": ()},
    "MobileNetV3": {"backbone": "mobilenetv3_small_050", "backbone_args": ()},
}  # fmt: skip
for _family, _backbone in FAMILIES.items():
    VARIANTS |= {
        f"{_family} O": Variant(f"the plain {_family}", _backbone, 1),
        f"{_family} F": Variant(f"FPD around {_family}", BACK | FINAL | {"inner": SHALLOW} | _backbone, 2, ("d", "k", "l", "o")),
    }

# Known answers (see `anchor`), trained from nothing on adversarial images alone.
ANCHOR_RECIPE = {"optimizer": "adam", "lr": 5e-3, "batch_size": 100, "epochs": 10, "schedule": "cyclic", "noise": 0.0,
                 "weight_decay": 0.0}  # fmt: skip
VARIANTS |= {
    "CNN (fast AT)": Variant("small CNN with fast adversarial training (Wong et al. 2020)", {"kind": "wong"}, 1,
                             training=ANCHOR_RECIPE | {"adversary": FAST}),
    "CNN (fast AT, 30 epochs)": Variant(
        "the same, trained three times as long", {"kind": "wong"}, 1, training=ANCHOR_RECIPE | {"adversary": FAST, "epochs": 30}
    ),
    "CNN (PGD AT)": Variant("small CNN with PGD training (Madry et al. 2018)", {"kind": "madry"}, 1,
                            training=ANCHOR_RECIPE | {"adversary": MADRY, "lr": 1e-3, "epochs": 60}),
}  # fmt: skip

# Adversarially trained networks (Sec. 4.2); `ReLU` is O, the original CNN.
VARIANTS |= {
    f"{base}_{attack.upper()}": Variant(
        f"{base}, adversarially trained with L-inf {attack.upper()}", VARIANTS[begin].network, 1,
        VARIANTS[begin].guesses, adversary=attack, begin=begin,
    )
    for base, begin in (("O", "ReLU"), ("F", "F"))
    for attack in ("fgsm", "pgd")
}  # fmt: skip


@dataclass(frozen=True)
class Row:
    """A row of the printed Table 1 and the networks that can stand for it (the first is our main reading)."""

    section: str
    name: str
    variants: tuple[str, ...]


@dataclass(frozen=True)
class Headline:
    """One of the paper's main claims, one measure and one protocol, fixed before anything was computed: `better` over `worse`."""

    claim: str
    better: str
    worse: str
    setting: str = "table1"
    measure: str = "radius"

    @property
    def comparison(self) -> tuple[str, str, str, str]:
        return self.setting, self.better, self.worse, self.measure


# `ReLU` is O, the plain CNN.
HEADLINES = (
    Headline("inner layers in shallow, not deep blocks", "F_FD", "Deep"),
    Headline("the framework, not restoration beside it", "F", "F_FD+R"),
    Headline("restoration beside the inner layers", "F_FD+R", "F_FD"),
    Headline("ELU with tanh, not ReLU", "ELU+Tanh", "ReLU"),
    Headline("no bottleneck", "F", "F_2IB-Mid"),
    Headline("two training phases, not one", "F", "F_OnePhase"),
    Headline("FPD, not the blocks of Xie et al.", "F", "X"),
    Headline("FPD, not the plain CNN, on MNIST", "F", "ReLU"),
    Headline("FPD, not the plain CNN, on Caltech-101", "F", "ReLU", "caltech101", "radius/linf"),
    Headline("FPD, not the plain CNN, against transfers", "F", "ReLU", measure="transfer-oracle"),
)
HEADLINE = tuple(dict.fromkeys(name for line in HEADLINES for name in (line.better, line.worse)))

PLACEMENT, DENOISING, ABLATION = "Inner denoising layer position", "Denoising approach", "Ablation"
ACTIVATION, BOTTLENECK, LAYERS = "Activation function", "Bottleneck", "Number of inner layers"
STRATEGY, RELATED = "Training strategy", "Comparison with Xie et al."

TABLE1 = (
    Row(PLACEMENT, "Shallow", ("F_FD", "F_FD (stem)")),
    Row(PLACEMENT, "Deep", ("Deep", "Deep (stem)")),
    Row(DENOISING, "Average", ("Average",)),
    Row(DENOISING, "Flip", ("Flip",)),
    Row(DENOISING, "Mid", ("Mid",)),
    Row(DENOISING, "Mid+Inner", ("Mid+Inner", "F_FD+R")),
    Row(ABLATION, "F_FD", ("F_FD", "F_FD (stem)")),
    Row(ABLATION, "F_FD+R", ("F_FD+R", "Mid+Inner")),
    Row(ABLATION, "F", ("F", "F (release)", "F (shared BN)")),
    Row(ACTIVATION, "ReLU", ("ReLU",)),
    Row(ACTIVATION, "ELU", ("ELU",)),
    Row(ACTIVATION, "ELU+Tanh", ("ELU+Tanh",)),
    Row(BOTTLENECK, "F_2IB-Mid", ("F_2IB-Mid",)),
    Row(BOTTLENECK, "F_2I-Mid", ("F", "F (release)", "F (shared BN)")),
    Row(LAYERS, "F_2IB", ("F_2IB", "F_2IB (stem)")),
    Row(LAYERS, "F_4IB", ("F_4IB", "F_4IB (stem)")),
    Row(STRATEGY, "F_OnePhase", ("F_OnePhase",)),
    Row(STRATEGY, "F_TwoPhase", ("F", "F (release)", "F (shared BN)")),
    Row(RELATED, "X", ("X",)),
)


@dataclass(frozen=True)
class Exploration:
    """One of Table 1's eight explorations: the paper's sentence, and the pairs (better, worse) that it asserts.

    readings: the same pairs under other readings of the rows.
    """

    section: str
    claim: str
    pairs: tuple[tuple[str, str], ...]
    readings: tuple[tuple[str, str], ...] = field(default=())


EXPLORATIONS = (
    Exploration(PLACEMENT, "inner layers in the shallow blocks beat inner layers in the deep blocks on average",
                (("F_FD", "Deep"),), (("F_FD (stem)", "Deep (stem)"),)),
    Exploration(DENOISING, "middle and inner layers together are the all-round most robust approach",
                # not over Mid: its printed average is the larger one
                (("Mid+Inner", "Average"), ("Mid+Inner", "Flip"))),
    Exploration(ABLATION, "F is far more robust than F_FD+R, which is more robust than F_FD",
                (("F", "F_FD+R"), ("F_FD+R", "F_FD")), (("F", "Mid+Inner"), ("Mid+Inner", "F_FD"))),
    Exploration(ACTIVATION, "ELU beats ReLU, and ELU with tanh beats ELU (on average)",
                (("ELU", "ReLU"), ("ELU+Tanh", "ELU"))),
    Exploration(BOTTLENECK, "inner layers without a bottleneck are about 10 points more robust",
                (("F", "F_2IB-Mid"),)),
    Exploration(LAYERS, "four inner layers are more robust than two", (("F_4IB", "F_2IB"),),
                (("F_4IB (stem)", "F_2IB (stem)"),)),
    Exploration(STRATEGY, "two-phase training is about 14 points more robust than one-phase",
                (("F", "F_OnePhase"),)),
    Exploration(RELATED, "F is more robust than X, by about 20 points in the white-box setting",
                (("F", "X"),)),
)  # fmt: skip


def explored(section: str) -> Exploration:
    """The exploration of a section of Table 1, by its title."""
    return next(e for e in EXPLORATIONS if e.section == choose("section", section, (e.section for e in EXPLORATIONS)))


def plain_of(name: str) -> str:
    """The plain network of the same budget; '' for itself and for adversarial training, which are compared with none."""
    other = {f"{family} F": f"{family} O" for family in FAMILIES}.get(name, "ReLU")
    return "" if name == other or (name in VARIANTS and VARIANTS[name].adversary) else other


def variants_of(rows=TABLE1) -> list[str]:
    """The distinct networks of some rows, in order, main readings first."""
    main = [row.variants[0] for row in rows]
    other = [name for row in rows for name in row.variants[1:]]
    return list(dict.fromkeys(main + other))


def specs_table(names=None, profile: Profile | None = None) -> pd.DataFrame:
    """One readable line per network (default: Table 1's) in our reading, with every guess by its letter; profile: default smoke."""
    lines, of_table_1 = [], set(variants_of())
    for name in names or [name for name in VARIANTS if name in of_table_1]:
        variant = VARIANTS[choose("network", name, VARIANTS)]
        spec = variant.spec(profile or PROFILES["smoke"])
        rows = [row.name for row in TABLE1 if row.variants[0] == name]
        lines.append(
            {
                "network": name,
                "rows of Table 1": ", ".join(rows) or "(another reading)",
                "inner layers": ", ".join(spec.inner) or "-",
                "kind": spec.denoiser if spec.inner else "-",
                "decoder": "yes" if spec.restoration else "-",
                "classifier": spec.classifier,
                "back input": spec.back_input if spec.classifier == "back" else "-",
                "middle": spec.middle if spec.classifier == "back" and spec.back_input == "middle" else "-",
                "activation": spec.activation,
                "squeeze": spec.squeeze,
                "BatchNorm": spec.statistics if spec.classifier == "back" else "-",
                "phases": variant.phases,
                "losses": variant.losses,
                "guesses": " ".join(variant.guesses) or "-",
            }
        )
    return pd.DataFrame(lines).set_index("network")
