"""Evidence whose outcomes are given, for tests of measures and verdicts."""

from types import SimpleNamespace

import numpy as np
import pandas as pd

from fpdlib import evaluation
from fpdlib.errors import NotComputed


class Fake:
    """hits: {network: {attack: share that stands, or {eps: share}}} of `count` images, one dictionary a seed.

    clean: clean accuracy of 1,000 images, or by network. missing: (network, seed) that are not there.
    """

    setting = "fake"

    def __init__(self, *hits, clean=0.99, count=400, missing=(), stand_in=False, attacks=None, counts=None):
        self.hits, self.count, self._clean, self._missing, self._counts = hits, count, clean, missing, counts
        names = attacks or dict.fromkeys(("white-box", "sound-pgd", "curve"))
        self.profile = SimpleNamespace(attacks=names, stand_in=stand_in, dataset="fake", name="fake", clean_floor=0.95)

    def at(self, setting):
        return self

    def seeds(self, *names):
        return [seed for seed in range(len(self.hits)) if not any((name, seed) in self._missing for name in names)]

    def complete(self, *names):
        if not self.seeds(*names):
            raise NotComputed("not there")
        return self.seeds(*names)

    def outcome(self, name, attack, seed):
        shares = self.hits[seed][name][attack]
        frames = []
        for eps, share in shares.items() if isinstance(shares, dict) else ((0.3, shares),):
            fell = np.arange(self.count) >= share * self.count
            columns = {"index": range(self.count), "eps": eps, "label": 0, "adversarial_prediction": fell.astype(int), "broken": fell}
            frames.append(pd.DataFrame(columns))
        return pd.concat(frames, ignore_index=True)

    def clean(self, name, seed):
        return evaluation.rate(np.arange(1000) < (self._clean if np.isscalar(self._clean) else self._clean[name]) * 1000)

    def meta(self, name, what, seed):
        return {"counts": self._counts[name]}
