"""The paper as data: networks of every row, settings, profiles, attack suites, printed numbers, claims, forensics, Theorem 1.

May import: the specifications of network, training, attacks, data and evaluation; nothing here is computed on images. `FPD` is all
of it as one value, which plan, workers and report are given: a second defence is a second `Paper`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import pandas as pd

from fpdlib.evaluation.studies import Study
from fpdlib.paper import experiments, published, settings
from fpdlib.paper.experiments import Profile, Variant


@dataclass(frozen=True)
class Paper:
    """variants: networks by name. profiles: scales by name. settings: experiments by name.

    setting: (profile, setting) -> the experiment at that scale. networks: setting -> the variants that it compares. rows: (setting,
    variant) -> the names of the printed rows that it stands for. studies: experiment -> (study, variant, further variants).
    seeds: (experiment, variant) -> the seeds that it is trained with unless others are asked for. tables: printed table ->
    settings. claims: a frame, see `published/claims.csv`; read: (claim) -> settings, variants, study.
    """

    name: str
    variants: Mapping[str, Variant]
    profiles: Mapping[str, Profile]
    settings: tuple[str, ...]
    setting: Callable[[str | Profile, str], Profile]
    networks: Callable[[str], tuple[str, ...]]
    rows: Callable[[str, str], tuple[str, ...]]
    studies: Callable[[Profile], list[tuple[Study, str, tuple[str, ...]]]]
    seeds: Callable[[Profile, str], tuple[int, ...]]
    tables: Mapping[str, tuple[str, ...]]
    claims: Callable[[], pd.DataFrame]
    read: Callable[[pd.Series], tuple[tuple[str, ...], tuple[str, ...], str]]


FPD = Paper(
    "fpd", experiments.VARIANTS, experiments.PROFILES, settings.SETTINGS, settings.setting, settings.networks_of, settings.rows_of,
    settings.studies_of, settings.seeds_of, settings.TABLES, published.claims, settings.read_by,
)  # fmt: skip
