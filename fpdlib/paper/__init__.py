"""The paper as data: networks of every row, settings, profiles, attack suites, printed numbers, claims, forensics, Theorem 1.

May import: the specifications of network, training, attacks, data and evaluation; nothing here is computed on images. `FPD` is all
of it as one value, which plan, evidence and verdicts are given: a second defence is a second `Paper` (examples/kwta.py).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import pandas as pd

from fpdlib.errors import FPDError
from fpdlib.evaluation.studies import Study
from fpdlib.paper import experiments, published, settings
from fpdlib.paper.experiments import Headline
from fpdlib.paper.profiles import Profile
from fpdlib.paper.suites import NETWORKS
from fpdlib.paper.variants import Variant


def complete(claims: pd.DataFrame, setting: str) -> pd.DataFrame:
    """A paper's claims with the columns that it leaves out."""
    if lacking := [column for column in ("id", "claim", "test", "better") if column not in claims]:
        raise FPDError(f"claims have the columns {', '.join(claims)}; missing: {', '.join(lacking)}.")
    others = {"worse": "", "where": "", "place": "", "setting": setting, "printed": ""}
    return claims.assign(**{column: value for column, value in others.items() if column not in claims})


@dataclass(frozen=True)
class Paper:
    """A defence as its paper has it: networks, experiments, what they are attacked with, and what is claimed.

    variants: networks by name, each with `spec(profile)` (a frozen value with `build()`) and `recipe(profile)`. profiles: scales by
    name, each with its data, radii and attacks; threads of a process belong to them. claims: gives a frame with the columns of
    `published/claims.csv`: id, claim, test and better, and where a test asks for it worse, where (attacks), place (in the paper),
    setting (the first) and printed (the size that the paper states, in points). `report.claims.TESTS` has the tests. FPDError for a
    frame that lacks one of the first four.

    The rest has defaults. settings: experiments by name. setting: (profile, setting) -> the experiment at that scale. networks:
    setting -> the variants that it compares (all). rows: (setting, variant) -> the printed rows that it stands for (its name).
    studies: experiment -> (study, variant, further variants). seeds: (experiment, variant) -> the seeds that are trained unless
    others are asked for (the profile's). tables: printed table -> settings. read: claim -> settings, variants, study. plain: variant
    -> the undefended network of the same budget, against which `undertrained` is measured ('': none). names: of the claims'
    networks -> variants. headlines: the main comparisons, which are tested together (Holm).
    """

    name: str
    variants: Mapping[str, Variant]
    profiles: Mapping[str, Profile]
    claims: Callable[[], pd.DataFrame]
    plain: Callable[[str], str] = lambda variant: ""
    settings: tuple[str, ...] = ("main",)
    setting: Callable[[Profile, str], Profile] = lambda profile, name: replace(profile, setting=name)
    networks: Callable[[str], tuple[str, ...]] | None = None
    rows: Callable[[str, str], tuple[str, ...]] = lambda setting, variant: (variant,)
    studies: Callable[[Profile], list[tuple[Study, str, tuple[str, ...]]]] = lambda here: []
    seeds: Callable[[Profile, str], tuple[int, ...]] = lambda here, variant: here.seeds
    tables: Mapping[str, tuple[str, ...]] | None = None
    read: Callable[[pd.Series], tuple[tuple[str, ...], tuple[str, ...], str]] = lambda claim: (
        (claim["setting"],), tuple(name for name in (claim["better"], claim["worse"]) if name), "")  # fmt: skip
    names: Mapping[str, str] = field(default_factory=dict)
    headlines: tuple[Headline, ...] = ()

    def __post_init__(self):
        stated = self.claims
        object.__setattr__(self, "claims", lambda: complete(stated(), self.settings[0]))
        if self.networks is None:
            object.__setattr__(self, "networks", lambda setting: tuple(self.variants))
        if self.tables is None:
            object.__setattr__(self, "tables", {setting: (setting,) for setting in self.settings})

    def variant(self, name: str) -> str:
        """The network that a claim calls so."""
        return self.names.get(name, name)


FPD = Paper(
    "fpd", experiments.VARIANTS, experiments.PROFILES, published.claims, experiments.plain_of, settings.SETTINGS, settings.setting,
    settings.networks_of, settings.rows_of, settings.studies_of, settings.seeds_of, settings.TABLES, settings.read_by, NETWORKS,
    experiments.HEADLINES,
)  # fmt: skip
