"""Profiles: the same experiments at the scale that a machine affords, and the backbone that goes with it."""

from dataclasses import dataclass, field, replace

from fpdlib.attacks.spec import AttackSpec
from fpdlib.evaluation.diagnostics import DiagnosisSpec
from fpdlib.network.spec import NetworkSpec
from fpdlib.paper.suites import LAPTOP_SCALE, MEDIUM_SCALE, PAPER_SCALE, SHORT_SCALE, SMOKE_SCALE, Scale, table1_suite
from fpdlib.training.adversarial import PAPER_FGSM, PAPER_PGD, Adversary


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
    threads: int | None = None
    checkpoints: tuple[tuple[str, str], ...] = ()
    once: tuple[str, ...] = ()
    placement: str = "blocks"
    changes: str = ""


# ResNet's family at a size that two processors can train: one basic block a stage, 16 to 128 channels, 0.33 M
# parameters, 32 x 32 pixels. Same stem, stages and restoration path as ResNet-101.
SMALL = NetworkSpec("resnet18", (("layers", (1, 1, 1, 1)), ("channels", (16, 32, 64, 128)), ("zero_init_last", False)), image_size=32,
                    decoder_width=32)  # fmt: skip
RESNET101 = NetworkSpec(backbone="resnet101", backbone_args=(("zero_init_last", False),), image_size=64)
# Deep networks at 32 pixels. The step is the one with which F of ResNet-50 learned best on held-out images (setting 'learning': 2e-3,
# where O learns fast, or a quarter of it), for all networks alike; chosen before any attack.
STEADY = {"schedule": "one-cycle", "lr": 5e-4, "batch_size": 50}
TWENTY_STEPS = {"images": 500, "measured": 200, "batch_size": 25}  # an epoch of smoke, where everything only has to run
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
            "mnist-sample", SMALL, SHORT | TWENTY_STEPS | {"epochs": 1},
            table1_suite(images=10, sound_images=10, batch_size=10, scale=SMOKE_SCALE, surrogate_epochs=1, surrogate_images=500),
            SMOKE_SCALE, DiagnosisSpec(images=10, steps=5, restarts=1, draws=20, queries=50, planted=5, grid=9),
            hardening=HARDENING | TWENTY_STEPS | {"epochs": 1},
            adversaries={"fgsm": QUICK_FGSM, "pgd": replace(QUICK_PGD, steps=3)}, threads=1,
        ),
        Profile(
            "laptop", "two processors: numbers worth reading", "mnist-sample", SMALL, SHORT | {"epochs": 10},
            table1_suite(images=500, sound_images=200, batch_size=250, scale=LAPTOP_SCALE),
            LAPTOP_SCALE, DiagnosisSpec(images=100, steps=100, restarts=5, draws=1000, queries=2000),
            hardening=HARDENING | {"epochs": 15}, adversaries={"fgsm": QUICK_FGSM, "pgd": QUICK_PGD}, seeds=(0, 1, 2, 3, 4),
            threads=1, checkpoints=(*(("table1", name) for name in ("F", "ReLU", "X", "F_FD+R", "Deep", "ELU+Tanh")),
                                    ("table2", "O_PGD"), ("table2", "F_PGD"), ("anchor", "CNN (fast AT, 30 epochs)"),
                                    ("longer", "F (ten times as long)"), ("caltech101", "F")),
        ),
        Profile(
            "medium", "two processors for a day: the paper's ResNet-101 and all of MNIST at 32 pixels, one seed",
            "mnist", replace(RESNET101, image_size=32), STEADY | {"epochs": 4, "parts": 4},
            table1_suite(images=100, sound_images=50, batch_size=50, scale=MEDIUM_SCALE),
            MEDIUM_SCALE, DiagnosisSpec(images=50), threads=1,
        ),
        Profile(
            "paper-short", "one GPU, half an hour: the paper's ResNet-101 and all of MNIST at its 64 pixels, two epochs, L-inf",
            "mnist", RESNET101, STEADY | {"batch_size": 100, "epochs": 2, "parts": 4, "measured": 2000, "precision": "bfloat16"},
            table1_suite(images=1000, sound_images=100, batch_size=500, scale=SHORT_SCALE, surrogate_images=10_000),
            SHORT_SCALE, DiagnosisSpec(images=100), seeds=(0, 1, 2),
        ),
        Profile(
            "paper", "one GPU over night: the paper's epochs, attacks and all test images",
            "mnist", RESNET101, {"precision": "bfloat16"},
            table1_suite(images=10000, sound_images=10000, batch_size=500, scale=PAPER_SCALE),
            PAPER_SCALE, DiagnosisSpec(images=1000, planted=100, grid=41),
            seeds=(0, 1, 2), adversaries=PAPER_ADVERSARIES,
        ),
    )
}  # fmt: skip
