"""What the paper compares: the rows of Table 1, the eight explorations it draws from them, and what we take for its main claims."""

from dataclasses import dataclass, field

import pandas as pd

from fpdlib.errors import choose
from fpdlib.paper import published
from fpdlib.paper.profiles import PROFILES, Profile
from fpdlib.paper.variants import CONSTANT, FAMILIES, LONGER, VARIANTS
from fpdlib.paper.variants import GUESSES as GUESSES
from fpdlib.paper.variants import QUARTER as QUARTER


@dataclass(frozen=True)
class Row:
    """A row of the printed Table 1 and the networks that can stand for it (the first is our main reading)."""

    section: str
    name: str
    variants: tuple[str, ...]


@dataclass(frozen=True)
class Headline:
    """What we take for one of the paper's main claims, by one measure and one protocol: `better` over `worse`. When the list was
    fixed, and what was known then: REPRODUCE, 'What was decided after results had been seen'."""

    claim: str
    better: str
    worse: str
    setting: str = "table1"
    measure: str = "radius"

    @property
    def comparison(self) -> tuple[str, str, str, str]:
        return self.setting, self.better, self.worse, self.measure


# `ReLU` is O, the plain CNN.
HEADLINES = tuple(Headline(*line) for line in pd.read_csv(published.FOLDER.parent / "headlines.csv").itertuples(index=False))
HEADLINE = tuple(dict.fromkeys(name for line in HEADLINES for name in (line.better, line.worse)))

PLACEMENT, DENOISING, ABLATION = "Inner denoising layer position", "Denoising approach", "Ablation"
ACTIVATION, BOTTLENECK, LAYERS = "Activation function", "Bottleneck", "Number of inner layers"
STRATEGY, RELATED = "Training strategy", "Comparison with Xie et al."

# Row -> the networks that can stand for it (the first is our main reading), where that is not the one of its name alone.
READINGS = {
    "Shallow": ("F_FD", "F_FD (stem)"), "Deep": ("Deep", "Deep (stem)"), "Mid+Inner": ("Mid+Inner", "F_FD+R"),
    "F_FD": ("F_FD", "F_FD (stem)"), "F_FD+R": ("F_FD+R", "Mid+Inner"), "F_2IB": ("F_2IB", "F_2IB (stem)"),
    "F_4IB": ("F_4IB", "F_4IB (stem)"), **dict.fromkeys(("F", "F_2I-Mid", "F_TwoPhase"), ("F", "F (release)", "F (shared BN)")),
}  # fmt: skip
PRINTED = published.load(1)[["section", "network"]].drop_duplicates()
TABLE1 = tuple(Row(section, name, READINGS.get(name, (name,))) for section, name in PRINTED.itertuples(index=False))


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
    longer = {f"F ({words})": f"ReLU ({words})" for words in LONGER} | {CONSTANT["F"]: CONSTANT["ReLU"]}
    other = ({f"{family} F": f"{family} O" for family in FAMILIES} | longer).get(name, "ReLU")
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
        back, middle = spec.classifier == "back", spec.classifier == "back" and spec.back_input == "middle"
        lines.append({
            "network": name, "rows of Table 1": ", ".join(rows) or "(another reading)", "inner layers": ", ".join(spec.inner) or "-",
            "kind": spec.denoiser if spec.inner else "-", "decoder": "yes" if spec.restoration else "-",
            "classifier": spec.classifier, "back input": spec.back_input if back else "-", "middle": spec.middle if middle else "-",
            "activation": spec.activation, "squeeze": spec.squeeze, "BatchNorm": spec.statistics if back else "-",
            "phases": variant.phases, "losses": "CE + L2" if spec.restoration else "CE", "guesses": " ".join(variant.guesses) or "-",
        })  # fmt: skip
    return pd.DataFrame(lines).set_index("network")
