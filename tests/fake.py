"""Evidence whose outcomes are given, for tests of measures and verdicts."""

import functools
from types import SimpleNamespace

import numpy as np
import pandas as pd

from fpdlib import evaluation
from fpdlib.errors import NotComputed
from fpdlib.paper import FPD


def spec(norm="linf", eps=0.3, images=400):
    return SimpleNamespace(norm=norm, space="network", eps=(eps,), images=images, order="seeded", protocol="", surrogate=None)


class Fake:
    """hits: {network: {attack: share that stands at eps 0.3, or the radius of each image}} of `count` images, one dictionary a seed.

    clean: clean accuracy of 1,000 images, or by network; the same share of the attacked images is right. missing: (network, seed)
    that are not there. absent: (network, attack) that are planned and not there.
    """

    setting, paper = "fake", FPD

    def __init__(self, *hits, clean=0.99, count=400, missing=(), absent=(), stand_in=False, attacks=None, counts=None, mse=None):
        self.hits, self.count, self._clean, self._missing, self._absent = hits, count, clean, missing, absent
        self._counts, self._mse = counts, mse
        names = dict.fromkeys(name for of in hits for suite in of.values() for name in suite)
        self.profile = SimpleNamespace(
            attacks=attacks or {name: spec() for name in names},
            stand_in=stand_in,
            dataset="fake",
            name="fake",
            scale=SimpleNamespace(norms=("linf", "l2")),
        )
        self.names = tuple(dict.fromkeys(name for of in hits for name in of))
        self.planned_seeds = list(range(len(hits)))
        self.remember = functools.cache(lambda function, *arguments: function(self, *arguments))

    def at(self, setting):
        return self

    def whole(self, *settings):
        return self

    def planned(self, name, attack, seed):
        return attack in self.hits[seed].get(name, {})

    def has(self, name, attack, seed):
        return self.planned(name, attack, seed) and (name, attack) not in self._absent

    def seeds(self, *names, attacks=()):
        def there(name, seed):
            return (name, seed) not in self._missing and all(self.has(name, attack, seed) for attack in attacks or ())

        return [seed for seed in self.planned_seeds if all(name in self.hits[seed] and there(name, seed) for name in names)]

    def complete(self, *names, attacks=()):
        if not self.seeds(*names, attacks=attacks):
            raise NotComputed("not there")
        return self.seeds(*names, attacks=attacks)

    def right(self, name):
        return self._clean if np.isscalar(self._clean) else self._clean[name]

    def outcome(self, name, attack, seed):
        given = self.hits[seed][name][attack]
        if np.isscalar(given):  # each find lies at the attack's epsilon
            given = np.where(np.arange(self.count) < given * self.count, np.inf, self.profile.attacks[attack].eps[-1])
        radius = np.asarray(given, float)
        fell, right = np.isfinite(radius), np.arange(self.count) < self.right(name) * self.count
        return pd.DataFrame({
            "index": range(self.count), "eps": self.profile.attacks[attack].eps[-1], "label": 0,
            "clean_prediction": np.where(right, 0, 1), "adversarial_prediction": fell.astype(int), "broken": fell,
            "linf": np.where(fell, radius, 0.0), "l2": np.where(fell, radius, 0.0),
        })  # fmt: skip

    def clean(self, name, seed):
        return evaluation.rate(np.arange(1000) < self.right(name) * 1000)

    def meta(self, name, what, seed):
        if self._mse:
            return {"test": {"mse": self._mse[name][seed]}}
        return {"counts": self._counts[name]}
