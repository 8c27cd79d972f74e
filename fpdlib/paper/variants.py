"""The networks: what each changes of the plain CNN and of the recipe, and which of that is a guess.

Everything that the paper leaves open is decided here, once, and marked in `guesses` (REPRODUCE.md explains each).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from fpdlib.network.backbone import STAGES
from fpdlib.network.reference import AnchorSpec
from fpdlib.network.spec import NetworkSpec
from fpdlib.paper.profiles import Profile
from fpdlib.training.adversarial import FAST, MADRY
from fpdlib.training.recipe import Recipe, paper_recipe


@dataclass(frozen=True)
class Variant:
    """One network: what it changes of the plain CNN and of the recipe, and which of that is a guess.

    adversary: 'fgsm' or 'pgd' for adversarial training (Sec. 4.2), which goes on from the variant `begin`. step, length: factors on
    the learning rate and the epochs that the recipe would have.
    """

    title: str
    network: dict
    phases: int = 1
    guesses: tuple[str, ...] = ()
    training: dict = field(default_factory=dict)
    adversary: str = ""
    begin: str = ""
    step: float = 1.0
    length: int = 1

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
        recipe = paper_recipe(profile.dataset, phases=self.phases, **changes)
        parts = max(recipe.parts // self.length, 1)  # as many measurements as of the shorter training, or one an epoch
        return replace(recipe, lr=self.step * recipe.lr, epochs=self.length * recipe.epochs, parts=parts)

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
# What keeps a deep F from learning: F with one of its ingredients left out or changed.
CHANGED: dict[str, dict] = {
    "F without inner layers": {"inner": ()},
    "F without middle layer": {"back_input": "restored"},
    "F with ReLU": {"activation": "relu"},
    "F without tanh": {"squeeze": "none"},
    "F with a front classifier": {"classifier": "front"},
}
VARIANTS |= {name: replace(VARIANTS["F"], title=name, network=VARIANTS["F"].network | changed) for name, changed in CHANGED.items()}
QUARTER = "F with a quarter of the step size"
VARIANTS[QUARTER] = replace(VARIANTS["F"], title=QUARTER, step=0.25)
LEARNING = ("ReLU", "F_FD+R", "F", *CHANGED, QUARTER, "F_OnePhase", "F (no noise)", "F (shared BN)")
# O and F trained for longer: whether attacks fail on F only once its logits have had the time to saturate.
LONGER = {"three times as long": 3, "ten times as long": 10}
VARIANTS |= {
    f"{name} ({words})": replace(VARIANTS[name], title=f"{VARIANTS[name].title}, trained {words}", length=times)
    for words, times in LONGER.items()
    for name in ("ReLU", "F")
}
# What F_4IB, which does not learn like the others, needs: each differs from it in one thing.
NEEDED = {
    "F_4IB (quarter step)": replace(VARIANTS["F_4IB"], title="F_4IB with a quarter of the step size", step=0.25),
    "F_4IB (longer)": replace(VARIANTS["F_4IB"], title="F_4IB trained three times as long", length=3),
    "F_4IB (clipped)": replace(VARIANTS["F_4IB"], title="F_4IB, gradients clipped at a norm of 1 (else 10)", training={"clip": 1.0}),
    "F_4IB (gaussian)": replace(VARIANTS["F_4IB"], title="F_4IB with Gaussian non-local means, which are normalised",
                                network=VARIANTS["F_4IB"].network | {"similarity": "gaussian"}),
}  # fmt: skip
VARIANTS |= NEEDED
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

# Known answers, trained from nothing on adversarial images alone; how many epochs says `settings.anchor`.
ANCHOR_RECIPE = {"optimizer": "adam", "lr": 5e-3, "batch_size": 100, "schedule": "cyclic", "noise": 0.0, "weight_decay": 0.0}
VARIANTS |= {
    "CNN (fast AT)": Variant("small CNN with fast adversarial training (Wong et al. 2020)", {"kind": "wong"}, 1,
                             training=ANCHOR_RECIPE | {"adversary": FAST}),
    "CNN (fast AT, 30 epochs)": Variant(
        "the same, trained three times as long", {"kind": "wong"}, 1, training=ANCHOR_RECIPE | {"adversary": FAST}, length=3
    ),
    "CNN (PGD AT)": Variant("small CNN with PGD training (Madry et al. 2018)", {"kind": "madry"}, 1,
                            training=ANCHOR_RECIPE | {"adversary": MADRY, "lr": 1e-3}, length=6),
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
