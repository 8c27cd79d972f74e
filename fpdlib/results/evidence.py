"""What is known of a plan's results, from store and committed evidence alike: all that reports read. Nothing here computes.

`load(plan)` gives it: `outcomes` is one tidy frame, a row an attacked image; `at(setting)` has the same by network, attack and seed.
"""

import functools

import numpy as np
import pandas as pd
from torch import nn

from fpdlib import evaluation
from fpdlib.errors import FPDError, NotComputed, choose
from fpdlib.evaluation.outcomes import Rate
from fpdlib.evaluation.studies import Found
from fpdlib.paper import FPD, Paper
from fpdlib.paper.profiles import Profile
from fpdlib.results.inputs import Inputs, device_of
from fpdlib.results.plan import plan
from fpdlib.results.store import Store
from fpdlib.results.values import Network, Outcome, Result
from fpdlib.results.worker import store_of


class Evidence:
    """The results of a plan's rows that are there. One setting's: give it a plan of one, or take `at(setting)`."""

    def __init__(self, rows: pd.DataFrame, store: Store, setting: str = "", paper: Paper = FPD):
        self.plan, self.store, self.paper = rows, store, paper
        self.setting = setting or next(iter(rows["setting"]), "")
        mine = rows[rows["setting"] == self.setting]
        self.planned_seeds = list(dict.fromkeys(rows["seed"]))
        self.names = tuple(dict.fromkeys(mine["network"]))
        self.experiments: dict[str, Profile] = dict(zip(rows["setting"], rows["experiment"], strict=True))
        self._results = {(line.network, line.column if line.kind == "studies" else line.attack, line.seed): line.result
                         for line in mine.itertuples()}  # fmt: skip
        self._siblings = {self.setting: self}
        self.remember = functools.cache(lambda function, *arguments: function(self, *arguments))
        self.outcome, self._seeds = functools.cache(self._outcome), functools.cache(self._is_complete)

    @property
    def profile(self) -> Profile:
        """The experiment at its scale."""
        if self.setting not in self.experiments:
            raise NotComputed(f"the plan has nothing of {self.setting}; it has: {', '.join(self.experiments)}.")
        return self.experiments[self.setting]

    def at(self, setting: str) -> "Evidence":
        """The same plan's results of another of the paper's experiments."""
        if setting not in self._siblings:
            other = Evidence(self.plan, self.store, setting, self.paper)
            other._siblings = self._siblings
            self._siblings[setting] = other
        return self._siblings[setting]

    def whole(self, *settings: str) -> "Evidence":
        """All that the paper plans of these settings at this scale, whatever part of it this evidence was asked for."""
        mine = next(iter(self.experiments.values()), None)
        scale = self.paper.profiles.get(mine.name) if mine else None
        if scale is None or mine.changes:  # a profile of one's own
            return self
        seeds = None if set(self.planned_seeds) <= set(scale.seeds) else self.planned_seeds
        return Evidence(plan(*settings, profile=scale, seeds=seeds, paper=self.paper), self.store, paper=self.paper)

    def result(self, name: str, what: str, seed: int) -> Result:
        """what: an attack, a study, or '' for the trained network."""
        found = self._results.get((name, what, seed))
        if found is None and name not in self.names and name in self.paper.variants:
            raise NotComputed(f"{self.setting}: {name} is not in the plan, which has {', '.join(self.names) or 'nothing'}.")
        if found is None:
            choose("network", name, self.names)
            raise FPDError(f"the plan has no {what or 'network'!r} of {name} seed {seed} in {self.setting}; ask for it in the plan.")
        return found

    def seeds(self, *names: str, attacks: tuple[str, ...] | None = None) -> list[int]:
        """The planned seeds of which, for each of these networks, the outcomes of these attacks are there; None: all planned."""
        return [seed for seed in self.planned_seeds if all(self._seeds(name, seed, attacks) for name in names)]

    def _is_complete(self, name: str, seed: int, attacks: tuple[str, ...] | None) -> bool:
        mine = {what: r for (n, what, s), r in self._results.items() if (n, s) == (name, seed) and isinstance(r, (Network, Outcome))}
        asked = mine if attacks is None else ("", *attacks)
        return bool(mine) and all(what in mine and self.store.has(mine[what]) for what in asked)

    def planned(self, name: str, attack: str, seed: int) -> bool:
        return (name, attack, seed) in self._results

    def has(self, name: str, what: str, seed: int | None = None) -> bool:
        """Whether one result is there (what: see `result`); the first planned seed's by default."""
        found = self._results.get((name, what, self.planned_seeds[0] if seed is None else seed))
        return found is not None and self.store.has(found)

    def complete(self, *names: str, attacks: tuple[str, ...] | None = None) -> list[int]:
        """`seeds`, or NotComputed if there is none."""
        if not (seeds := self.seeds(*names, attacks=attacks)):
            raise NotComputed(f"{self.setting}: not everything is there of {', '.join(names)}; `python -m fpdlib work` computes it.")
        return seeds

    def missing(self) -> list[str]:
        """The networks of which no seed is complete."""
        return [name for name in self.names if not self.seeds(name)]

    def _outcome(self, name: str, attack: str, seed: int) -> pd.DataFrame:
        """Per-example outcome of a network under one attack (see `evaluation.outcomes`); do not change it."""
        return self.store.outcome(self.result(name, attack, seed))

    def meta(self, name: str, what: str, seed: int) -> dict:
        """What is known of a result: seconds, provenance; of a network `test`, of an outcome `counts`."""
        return self.store.entry(self.result(name, what, seed))["meta"]

    def log(self, name: str, seed: int) -> pd.DataFrame:
        return self.store.log(self.result(name, "", seed))

    def study(self, name: str, what: str, seed: int | None = None) -> Found:
        seed = self.planned_seeds[0] if seed is None else seed
        return self.store.study(self.result(name, what, seed))

    def clean(self, name: str, seed: int) -> Rate:
        """Clean accuracy on the whole test set of the profile."""
        test = self.meta(name, "", seed)["test"]
        return evaluation.rate(np.arange(test["images"]) < test["correct"])

    @property
    def outcomes(self) -> pd.DataFrame:
        """One tidy frame over all settings of the plan: setting, network, attack, protocol, seed, and the outcome's columns."""
        parts, named = [], ("setting", "network", "attack", "protocol", "seed")
        for line in self.plan[self.plan["kind"] == "outcomes"].drop_duplicates(["setting", "network", "attack", "seed"]).itertuples():
            if self.store.has(line.result):
                parts.append(self.store.outcome(line.result).assign(**{name: getattr(line, name) for name in named}))
        return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=[*evaluation.COLUMNS, *named])


def load(rows: pd.DataFrame, store: str = "", paper: Paper = FPD) -> Evidence:
    """What is there of a paper's plan, in a store ('' for the default) or as committed evidence."""
    return Evidence(rows, store_of(rows, store), paper=paper)


def load_network(name: str, profile: str = "laptop", seed: int = 0, setting: str = "table1", device: str = "auto", store: str = "",
                 paper: Paper = FPD) -> nn.Module:  # fmt: skip
    """A trained network in evaluation mode. NotComputed if no such checkpoint is in the store."""
    rows = plan(choose("setting", setting, paper.settings), profile=profile, seeds=[seed], paper=paper)
    if rows.empty:
        raise NotComputed(
            f"the profile {profile!r} leaves {setting} out; `python -m fpdlib plan --profile {profile}` lists what it has."
        )
    mine = rows[(rows["network"] == choose("network", name, dict.fromkeys(rows["network"]))) & (rows["kind"] == "networks")]
    return Inputs(store_of(rows, store), device_of(device)).model(mine["result"].iat[0])
