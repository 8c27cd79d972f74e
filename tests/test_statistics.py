"""The interval of a comparison: its reference values, its coverage in a small simulation, and what decides nothing."""

import numpy as np
import pandas as pd
import pytest

from fpdlib import statistics
from fpdlib.errors import FPDError

A, B = np.random.default_rng(1).random((3, 40)), np.random.default_rng(2).random((5, 40))


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        (A, B, (0.006928, -0.124128, 0.137984, 2.7728, 0.872135)),
        (B, A, (-0.006928, -0.137984, 0.124128, 2.7728, 0.872135)),
        (A > 0.4, B > 0.5, (0.110000, -0.147088, 0.367088, 2.4091, 0.235518)),
        (A[:1], B[:1], (-0.005785, -0.143466, 0.131896, 39.0, 0.932708)),
        (np.zeros((3, 40)), np.zeros((3, 40)), (0.0, -0.089609, 0.089609, 4.0, 1.0)),
    ],
)
def test_reference_values(a, b, expected):
    found = statistics.compare(a, b)
    assert (found.effect, found.low, found.high, found.df, found.p) == pytest.approx(expected, abs=1e-4)
    assert found.seeds == (len(a), len(b)) and found.n == 40


def test_what_decides_nothing():
    assert statistics.compare(A, B).decides
    for k in (1, 2):
        assert not statistics.compare(A[:k], B).decides and not statistics.compare(A, B[:k]).decides
    for value in (0.0, 1.0):
        assert not statistics.compare(np.full((3, 9), value), np.full((3, 9), value)).decides
    assert statistics.compare(np.zeros((3, 40)), np.ones((3, 40))).low < -0.9  # all the difference there can be


def test_other_images_are_refused():
    with pytest.raises(FPDError, match=r"shapes \(3, 40\) and \(3, 39\)"):
        statistics.compare(A, A[:, 1:])


def networks(draws, seeds, images, spread, shared):
    """Scores of trained networks: an effect of the seed, one of the image (`shared` by both methods), and a rest."""
    return 0.5 + draws.normal(0, spread, (seeds, 1)) + shared + draws.normal(0, 0.1, images) + draws.normal(0, 0.2, (seeds, images))


CASES = [(3, 3, 0.1, 0.02), (5, 5, 0.1, 0.1), (5, 5, 0.0, 0.0), (5, 3, 0.1, 0.02)]


@pytest.mark.parametrize(("k_a", "k_b", "spread_a", "spread_b"), CASES)
def test_the_interval_covers_what_it_says(k_a, k_b, spread_a, spread_b):
    """No difference between the methods: 95 of 100 intervals contain 0; those over images alone miss it far more often."""
    draws, hits, naive, rounds = np.random.default_rng(0), 0, 0, 600
    for _ in range(rounds):
        shared = draws.normal(0, 0.2, 50)
        a, b = networks(draws, k_a, 50, spread_a, shared), networks(draws, k_b, 50, spread_b, shared)
        found = statistics.compare(a, b)
        hits += found.low <= 0 <= found.high
        alone = statistics.compare(a.mean(0)[None], b.mean(0)[None])
        naive += alone.low <= 0 <= alone.high
    assert 0.92 <= hits / rounds <= 1
    if max(spread_a, spread_b) > 0:
        assert naive / rounds < 0.85


def test_an_average_over_attacks_on_fewer_images():
    rng = np.random.default_rng(3)
    many, few = pd.DataFrame(rng.random((200, 3))), pd.DataFrame(rng.random((50, 3)), index=rng.permutation(200)[:50])
    both = statistics.average([many, few])
    assert both.shape == (200, 3) and both.mean().to_numpy() == pytest.approx((many.mean() + few.mean()).to_numpy() / 2)
    expected = (many.var() / 200 + few.var() / 50) / 4
    assert (both.var() / 200).to_numpy() == pytest.approx(expected.to_numpy(), rel=0.15)  # of independent attacks
    pd.testing.assert_frame_equal(statistics.average([many]), many)


@pytest.mark.parametrize(("hits", "n"), [(2, 20), (3, 50), (4, 100), (6, 200)])
def test_masked_from_these_counts_on(hits, n):
    assert statistics.masked(np.arange(n) < hits) and not statistics.masked(np.arange(n) < hits - 1)


def test_the_prediction_interval_is_wider_by_the_seeds():
    found = statistics.compare(A, B)
    low, high = found.prediction
    assert low < found.low and high > found.high
    assert (high - low) / (found.high - found.low) == pytest.approx(np.sqrt(1 + found.spread / found.variance))


def test_holm():
    assert statistics.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert statistics.holm([0.5, 0.9]) == pytest.approx([1.0, 1.0])


def test_the_smallest_difference_that_can_be_found():
    """A difference of that size is found in four of five simulated comparisons."""
    draws, found, rounds = np.random.default_rng(1), 0, 400
    pairs = [(networks(draws, 5, 50, 0.05, 0), networks(draws, 5, 50, 0.05, 0)) for _ in range(50)]
    size = np.mean([statistics.compare(*pair).smallest for pair in pairs])
    for _ in range(rounds):
        found += statistics.compare(networks(draws, 5, 50, 0.05, 0) + size, networks(draws, 5, 50, 0.05, 0)).p < 0.05
    assert 0.7 < found / rounds < 0.9


def test_two_networks_are_compared_by_mcnemar_and_bonett_and_price():
    """3 of 50 images that only one network keeps: exactly p = 0.25."""
    a, b = np.arange(50) < 20, np.arange(50) < 17
    found = statistics.compare(a, b)
    assert found.p == pytest.approx(0.25) and found.effect == pytest.approx(0.06) and found.low < 0 < found.high
    assert (found.low, found.high) == pytest.approx((-0.0236, 0.1390), abs=2e-3) and not found.decides
