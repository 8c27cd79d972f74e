"""How a comparison of two methods is decided: seeds and images are crossed, and both enter the interval.

Outcomes are scores in [0, 1] by seed and image: 0/1 under an attack, or a radius, whose mean is the area under the robustness
curve. The interval's coverage was checked by simulation (`tests/test_statistics.py` repeats a small one).
"""

import functools
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from fpdlib.errors import FPDError

CONFIDENCE = 0.95
SEEDS = 3  # of each method, below which trained networks are described and no verdict on the method is given


@dataclass(frozen=True)
class Comparison:
    """Mean of the first method minus mean of the second, with its 95 % interval, degrees of freedom and two-sided p.

    seeds: of each; n: images. variance: of the effect; spread: of one more trained network of each. decides: whether a verdict may
    rest on it (three seeds each, and not everything at one bound).
    """

    effect: float
    low: float
    high: float
    df: float
    p: float
    seeds: tuple[int, int]
    n: int
    variance: float
    spread: float
    decides: bool

    @property
    def smallest(self) -> float:
        """The smallest difference that such a comparison finds with 80 % power."""
        return float((stats.t.ppf((1 + CONFIDENCE) / 2, self.df) + stats.t.ppf(0.8, self.df)) * np.sqrt(self.variance))

    @property
    def prediction(self) -> tuple[float, float]:
        """Where the difference of one more pair of networks would lie (95 %): what a number printed for one run is compared with."""
        half = stats.t.ppf((1 + CONFIDENCE) / 2, self.df) * np.sqrt(self.variance + self.spread)
        return float(self.effect - half), float(self.effect + half)


def components(scores: np.ndarray) -> tuple[float, float]:
    """Variance of the per-network means, and what of it the images alone explain (residual mean square / (seeds x images))."""
    seeds, images = scores.shape
    if seeds == 1:
        return 0.0, 0.0
    residual = scores - scores.mean(0) - scores.mean(1, keepdims=True) + scores.mean()
    return float(scores.mean(1).var(ddof=1)), float((residual**2).sum() / ((seeds - 1) * (images - 1)) / (seeds * images))


def compare(a: np.ndarray, b: np.ndarray) -> Comparison:
    """The first method against the second on the same images: (seeds, images) each.

    V = V_img + max(0, s2_A / k_A + s2_B / k_B - V_res_A - V_res_B) with Satterthwaite's degrees of freedom, clipped to
    [min(k) - 1, k_A + k_B - 2]; own variances, since seed spreads of networks differ by factors of ten. One seed each: of these two
    networks, the paired t interval, or exact McNemar and Bonett-Price for 0/1. Raises FPDError for other shapes.
    """
    a, b = np.atleast_2d(np.asarray(a, float)), np.atleast_2d(np.asarray(b, float))
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1] or a.shape[1] < 2:
        raise FPDError(f"scores have shapes {a.shape} and {b.shape}; accepted: (seeds, images) twice, the same two or more images.")
    (k_a, n), k_b = a.shape, b.shape[0]
    binary = np.isin(a, (0, 1)).all() and np.isin(b, (0, 1)).all()
    floor = 1 / n**2 if binary else 0.0
    difference = a.mean(0) - b.mean(0)
    effect, v_img = float(difference.mean()), max(float(difference.var(ddof=1) / n), floor)
    if k_a == k_b == 1:
        variance, spread, df = v_img, 0.0, n - 1.0
    else:
        (s2_a, res_a), (s2_b, res_b) = components(a), components(b)
        parts = [max(s2, floor) / k for s2, k in ((s2_a, k_a), (s2_b, k_b))]
        variance, spread = v_img + max(0.0, sum(parts) - res_a - res_b), s2_a + s2_b
        below = sum(part**2 / (k - 1) for part, k in zip(parts, (k_a, k_b), strict=True) if k > 1) + v_img**2 / (n - 1)
        df = float(np.clip(variance**2 / below if below else np.inf, max(min(k_a, k_b) - 1, 1), k_a + k_b - 2))
    if k_a == k_b == 1 and binary:
        return two_networks(difference, effect)
    half = stats.t.ppf((1 + CONFIDENCE) / 2, df) * np.sqrt(variance)
    p = float(2 * stats.t.sf(abs(effect) / np.sqrt(variance), df)) if variance else float(effect == 0)
    bound = binary and len(np.unique(np.concatenate([a.ravel(), b.ravel()]))) == 1
    decides = min(k_a, k_b) >= SEEDS and not bound
    return Comparison(effect, effect - half, effect + half, df, p, (k_a, k_b), n, variance, spread, decides)


def two_networks(difference: np.ndarray, effect: float) -> Comparison:
    """One network against another, images robust or not: exact McNemar test and the interval of Bonett and Price (2012)."""
    n, wins, losses = len(difference), int((difference > 0).sum()), int((difference < 0).sum())
    a, b = (wins + 1) / (n + 2), (losses + 1) / (n + 2)
    variance = (a + b - (a - b) ** 2) / (n + 2)
    half = stats.norm.ppf((1 + CONFIDENCE) / 2) * np.sqrt(variance)
    p = stats.binomtest(wins, wins + losses).pvalue if wins + losses else 1.0
    return Comparison(effect, a - b - half, a - b + half, n - 1.0, float(p), (1, 1), n, variance, 0.0, False)


def holm(p: list[float]) -> list[float]:
    """Holm-adjusted p values, in the order given."""
    order = np.argsort(p)
    stepped = np.maximum.accumulate(np.minimum(np.asarray(p)[order] * np.arange(len(p), 0, -1), 1.0))
    return stepped[np.argsort(order)].tolist()


def average(parts: list[pd.DataFrame]) -> pd.DataFrame:
    """One (images, seeds) frame whose means are the average over attacks, whose image variance is that of the average.

    parts: an attack each, (its images, seeds), on nested subsets of the images. Centred within each attack; the deviations are added
    image by image, weighted by how many fewer images an attack has.
    """
    images = functools.reduce(lambda a, b: a.union(b), (part.index for part in parts))
    weighted = (part.mean() + ((part - part.mean()) * len(images) / len(part)).reindex(images, fill_value=0.0) for part in parts)
    return sum(weighted) / len(parts)


def masked(broken_by_worst_only: np.ndarray) -> bool:
    """Whether a protocol's number hides what the worst case finds on one network: (images,) whether only the worst case broke it.

    The Clopper-Pearson lower limit (95 %) of the share lies above one point: 2 of 20, 3 of 50, 4 of 100, 6 of 200.
    """
    hits, n = int(np.sum(broken_by_worst_only)), len(broken_by_worst_only)
    return bool(hits and stats.binomtest(hits, n, alternative="greater").proportion_ci(CONFIDENCE).low > 0.01)
