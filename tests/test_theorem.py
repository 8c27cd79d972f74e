"""Theorem 1: violations as printed, none of the repaired bound, by hand on a network small enough to follow."""

import numpy as np
import pytest

from fpdlib.errors import FPDError
from fpdlib.paper import theorem
from fpdlib.paper.theorem import Trial


def test_the_printed_bound_is_violated_and_the_repaired_one_is_not():
    table = theorem.survey(400).set_index("networks")
    assert table.loc["three layers", "violations as printed"] > 5
    assert (table["violations of the sound bound"] == 0).all() and (table["n"] == 400).all()
    assert table.loc["three layers", "of them eta < 0"] > 0
    assert len(table) == len(theorem.TRIALS) >= 6


def test_a_violation_by_hand():
    """Two inputs that cancel in the product and not behind the ReLU: eta is 0 and the output moves."""
    weights = [np.array([[1.0, 1.0]]), np.array([[1.0], [0.0]])]
    biases = [np.array([0.0]), np.zeros(2)]
    xi = np.array([1.0, -1.0])
    assert theorem.printed_eta(weights, biases, xi) == 0 and theorem.sound_eta(weights, xi) == 2
    weights, xi = [np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([[1.0, -1.0], [0.0, 0.0]])], np.array([1.0, 1.0])
    x = np.array([0.0, -5.0])  # the second unit is off, so nothing cancels
    trial = Trial(layers=2, width=2, inputs=2, classes=2)
    before, after = (theorem.theta(trial, weights, [np.zeros(2), np.zeros(2)], v) for v in (x, x + xi))
    assert np.abs(after - before).max() == 1 and theorem.printed_eta(weights, [np.zeros(2)] * 2, xi) == 0
    change = np.abs(theorem.softmax(before) - theorem.softmax(after))
    assert (change > theorem.bound(before, after, 0.0)).any()
    assert (change <= theorem.bound(before, after, theorem.sound_eta(weights, xi))).all()


def test_eta_can_be_negative():
    weights, biases = [np.zeros((1, 1)), np.zeros((1, 1))], [np.zeros(1), np.array([-1.0])]
    assert theorem.printed_eta(weights, biases, np.ones(1)) == -1


def test_the_bound_is_theorem_1s_right_hand_side():
    before, after, eta = np.array([0.2, -0.1]), np.array([0.3, 0.0]), 0.5
    expected = np.exp(before) * (np.exp(eta) - np.exp(-eta)) / np.exp(after).sum()
    assert np.allclose(theorem.bound(before, after, eta), expected)


def test_tanh_changes_no_decision_and_kills_gradients():
    table = theorem.tanh_effect(100)
    assert (table["decisions changed without tanh"] == table["decisions changed with tanh"]).all()
    assert table["median tanh'"].is_monotonic_decreasing and table["median tanh'"].iloc[-1] < 1e-3
    assert (table["mean V with tanh"] <= table["mean V without tanh"]).all()


def test_runs_are_seeded_and_activations_checked():
    assert theorem.run(Trial(), 5, 1).equals(theorem.run(Trial(), 5, 1))
    assert not theorem.run(Trial(), 5, 1).equals(theorem.run(Trial(), 5, 2))
    with pytest.raises(FPDError, match="activation is 'gelu'"):
        Trial(activation="gelu")
