"""The networks: what each changes of the plain CNN and of the recipe, and which of that is a guess.

Everything that the paper leaves open is decided here, once, and marked in `guesses` (REPRODUCE.md explains each).
"""

from dataclasses import dataclass, field, replace

import pandas as pd

from fpdlib.network.backbone import STAGES
from fpdlib.network.reference import AnchorSpec
from fpdlib.network.spec import NetworkSpec
from fpdlib.paper import published
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
    guesses: str = ""
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


# Which block is the first: the backbone's first stage, or, as in the release, its stem.
PLACEMENTS = ("blocks", "stem")
SHALLOW, DEEP, ALL = ("stage1", "stage2"), ("stage3", "stage4"), ("stage1", "stage2", "stage3", "stage4")
BACK = {"restoration": True, "classifier": "back"}
FINAL = {"activation": "elu", "squeeze": "tanh"}
WHOLE = BACK | FINAL | {"inner": SHALLOW}
IB, NO_MIDDLE, RELEASE = {"denoiser": "bottleneck"}, {"back_input": "restored"}, {"inner": ("stem", "stage1")}

# Guesses, by letter; REPRODUCE.md gives the reasons.
GUESSES = dict(pd.read_csv(published.FOLDER.parent / "guesses.csv").itertuples(index=False))

VARIANTS: dict[str, Variant] = {
    "F_FD": Variant("front module, two shallow inner layers", {"inner": SHALLOW}, 1, "abdm"),
    "Deep": Variant("front module, two deep inner layers", {"inner": DEEP}, 1, "abdm"),
    "Average": Variant("no inner layers; back module sees (x' + x) / 2", BACK | {"back_input": "average"}, 1, "abeo"),
    "Flip": Variant("no inner layers; back module sees x' flipped", BACK | {"back_input": "flip"}, 1, "abfo"),
    "Mid": Variant("no inner layers; middle layer on x'", BACK | {"back_input": "middle"}, 1, "abko"),
    "Mid+Inner": Variant("middle and two inner layers, back module", BACK | {"inner": SHALLOW}, 1, "abdklmo"),
    "F_FD+R": Variant("front module with restoration as auxiliary loss", {"inner": SHALLOW, "restoration": True}, 1, "abdglm"),
    "F": Variant("the whole framework", WHOLE, 2, "dklo"),
    "ReLU": Variant("the plain CNN", {}, 1, "bcn"),
    "ELU": Variant("the plain CNN with ELU", {"activation": "elu"}, 1, "bcn"),
    "ELU+Tanh": Variant("the plain CNN with ELU and tanh logits", FINAL, 1, "bcn"),
    "F_2IB-Mid": Variant("F with bottleneck inner layers", WHOLE | IB, 2, "dhiklo"),
    "F_2IB": Variant("bottleneck, no middle layer", WHOLE | IB | NO_MIDDLE, 2, "dhilo"),
    "F_4IB": Variant("four bottleneck layers, no middle layer", WHOLE | IB | NO_MIDDLE | {"inner": ALL}, 2, "dhilo"),
    "F_OnePhase": Variant("F, first training phase only", WHOLE, 1, "dklo"),
    "X": Variant("four non-local blocks (Xie et al. 2019)", {"inner": ALL, "denoiser": "xie"}, 1, "bjnq"),
    # other readings of the same rows, and one control; none of them is a row of the paper
    "F_FD (stem)": Variant("F_FD with the release's placement: stem and stage 1", RELEASE, 1, "abm"),
    "Deep (stem)": Variant("Deep, the stem counted as a block: stages 2 and 3", {"inner": ("stage2", "stage3")}, 1, "abm"),
    "F_2IB (stem)": Variant("F_2IB with the release's placement", WHOLE | IB | NO_MIDDLE | RELEASE, 2, "hilo"),
    "F_4IB (stem)": Variant("F_4IB, the stem counted as a block: stem and stages 1 to 3",
                            WHOLE | IB | NO_MIDDLE | {"inner": ("stem", *ALL[:3])}, 2, "hilo"),
    "F (release)": Variant("F as the released code has it: stem placement, raw middle input, shared BatchNorm",
                           WHOLE | RELEASE | {"middle": "raw", "statistics": "shared"}, 2),
    "F (shared BN)": Variant("F with one set of BatchNorm statistics for all passes", WHOLE | {"statistics": "shared"}, 2, "dkl"),
    # what the text claims and no table shows (Sec. 3.1, 3.4; "applies to all block-based CNNs")
    "F (separate)": Variant("F with separate weights for F_FD and F_BD", WHOLE | {"sharing": "separate"}, 2, "dkl"),
    "F (gaussian)": Variant("F with Gaussian non-local means", WHOLE | {"similarity": "gaussian"}, 2, "dklor"),
    "F (gate)": Variant("F whose gate closes above 0.06 of the initial error, as T = 3 is of ResNet-101's", WHOLE, 2, "dklo",
                        {"threshold_share": 0.06}),
    "F (no noise)": Variant("F trained without noise", WHOLE, 2, "dklo", {"noise": 0.0}),
    "F (no residual)": Variant("F whose denoising layers do not add their input", WHOLE | {"residual": False}, 2, "dklo"),
}  # fmt: skip


def alike(name: str, title: str, network: dict | None = None, **changes) -> Variant:
    """Another variant with something of it changed."""
    return replace(VARIANTS[name], title=title, network=VARIANTS[name].network | (network or {}), **changes)


# What keeps a deep F from learning: F with one of its ingredients left out or changed.
CHANGED: dict[str, dict] = {
    "F without inner layers": {"inner": ()}, "F without middle layer": NO_MIDDLE, "F with ReLU": {"activation": "relu"},
    "F without tanh": {"squeeze": "none"}, "F with a front classifier": {"classifier": "front"},
}  # fmt: skip
QUARTER = "F with a quarter of the step size"
VARIANTS |= {name: alike("F", name, changed) for name, changed in CHANGED.items()} | {QUARTER: alike("F", QUARTER, step=0.25)}
LEARNING = ("ReLU", "F_FD", "F_FD+R", "F", *CHANGED, QUARTER, "F_OnePhase", "F (no noise)", "F (shared BN)")
# O and F trained for longer: whether attacks fail on F only once its logits have had the time to saturate.
LONGER = {"three times as long": 3, "ten times as long": 10}
VARIANTS |= {f"{name} ({words})": alike(name, f"{VARIANTS[name].title}, trained {words}", length=times)
             for words, times in LONGER.items() for name in ("ReLU", "F")}  # fmt: skip
# The step size falls to zero over the planned length, so that what trains longer is chosen nearer to its peak: here it stays there.
CONSTANT = {"F": "F (constant step)", "ReLU": "ReLU (constant step)"}
VARIANTS |= {name: alike(of, f"{VARIANTS[of].title}, the step size at its peak to the end", training={"schedule": "constant"})
             for of, name in CONSTANT.items()}  # fmt: skip
# What networks need that do not learn like the others: each differs from its base in one thing. One of the second describes.
NEEDED = {
    "F_4IB (quarter step)": alike("F_4IB", "F_4IB with a quarter of the step size", step=0.25),
    "F_4IB (longer)": alike("F_4IB", "F_4IB trained three times as long", length=3),
    "F_4IB (clipped)": alike("F_4IB", "F_4IB, gradients clipped at a norm of 1 (else 10)", training={"clip": 1.0}),
    "F_4IB (gaussian)": alike("F_4IB", "F_4IB with Gaussian non-local means, which are normalised", {"similarity": "gaussian"}),
}
SHARED = {"F (shared BN, longer)": alike("F (shared BN)", "F with shared statistics trained three times as long", length=3)}
VARIANTS |= NEEDED | SHARED
# Five other CNN families, at a size that two processors can train; the same in every profile.
FAMILIES: dict[str, dict] = {
    "DenseNet": {"backbone": "densenet121", "backbone_args": (("growth_rate", 8), ("block_config", (2, 2, 2, 2)))},
    "RegNet": {"backbone": "regnetx_002", "backbone_args": ()},
    "ConvNeXt": {"backbone": "convnext_atto",
                 "backbone_args": (("depths", (1, 1, 1, 1)), ("dims", (16, 32, 64, 128)), ("patch_size", 2))},
    "EfficientNet": {"backbone": "tinynet_e", "backbone_args": ()},
    "MobileNetV3": {"backbone": "mobilenetv3_small_050", "backbone_args": ()},
}  # fmt: skip
for _family, _backbone in FAMILIES.items():
    VARIANTS[f"{_family} O"] = Variant(f"the plain {_family}", _backbone, 1)
    VARIANTS[f"{_family} F"] = Variant(f"FPD around {_family}", WHOLE | _backbone, 2, "dklo")

# Known answers, trained from nothing on adversarial images alone; how many epochs says `settings.anchor`.
ANCHOR_RECIPE = {"optimizer": "adam", "lr": 5e-3, "batch_size": 100, "schedule": "cyclic", "noise": 0.0, "weight_decay": 0.0}
FAST_AT = Variant("small CNN with fast adversarial training (Wong et al. 2020)", {"kind": "wong"},
                  training=ANCHOR_RECIPE | {"adversary": FAST})  # fmt: skip
VARIANTS |= {
    "CNN (fast AT)": FAST_AT,
    "CNN (fast AT, 30 epochs)": replace(FAST_AT, title="the same, trained three times as long", length=3),
    "CNN (PGD AT)": Variant("small CNN with PGD training (Madry et al. 2018)", {"kind": "madry"},
                            training=ANCHOR_RECIPE | {"adversary": MADRY, "lr": 1e-3}, length=6),
}  # fmt: skip

# Adversarially trained networks (Sec. 4.2); `ReLU` is O, the original CNN.
VARIANTS |= {
    f"{base}_{attack.upper()}": alike(begin, f"{base}, adversarially trained with L-inf {attack.upper()}", phases=1,
                                      adversary=attack, begin=begin)
    for base, begin in (("O", "ReLU"), ("F", "F")) for attack in ("fgsm", "pgd")
}  # fmt: skip
for _name, _one in VARIANTS.items():  # whatever trains with Algorithm 1's noise
    VARIANTS[_name] = replace(_one, guesses=_one.guesses + "p" * (_one.training.get("noise") != 0.0))
