"""Theorem 1 (Sec. 3.3): as printed, tested on random fully connected networks; a bound that holds; what tanh changes.

The theorem bounds how much output k of a softmax network changes under noise xi on the input x,

    V_k = |softmax(theta(x))_k - softmax(theta(x + xi))_k|  <=  e^{theta_k(x)} (e^eta - e^-eta) / sum_p e^{theta_p(x + xi)},

with eta = max_k [w_L C^{L-1} |w_{L-1} ... w_1 xi| + b_L]_k, theta the input of the softmax and C the Lipschitz constant of the
hidden activation. Two steps of it cannot hold for every network: the absolute value of a product of matrices applied to xi does
not bound what the activations pass on (entries of opposite sign cancel in the product but not behind a ReLU), and neither the
sign of w_L nor b_L, which may be negative, is accounted for, so eta can even be negative. `sound_eta` repairs both: with
|W| taken entry by entry and no bias, eta' = max_k [|w_L| C^{L-1} |w_{L-1}| ... |w_1| |xi|]_k bounds |theta_k(x + xi) - theta_k(x)|
for every k, and the inequality then follows. A squeeze with Lipschitz constant C_s multiplies eta' by C_s; tanh has C_s = 1.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
import pandas as pd
from scipy.special import softmax

from fpdlib.errors import check

ACTIVATIONS = {
    "relu": lambda z: np.maximum(z, 0.0),
    "elu": lambda z: np.where(z > 0, z, np.expm1(np.minimum(z, 0.0))),
    "tanh": np.tanh,
}  # all with Lipschitz constant 1
NEGATIVE, BELOW = "eta is negative, so the bound is", "eta is below the change of the logits"  # which step of the theorem fails
TOLERANCE = 1e-12  # relative rounding of double precision, so that an equality is not a violation


@dataclass(frozen=True)
class Trial:
    """A family of random networks: layers, width, classes, the standard deviations of weights (per fan-in) and biases, noise."""

    layers: int = 3
    width: int = 16
    inputs: int = 16
    classes: int = 5
    activation: Literal["relu", "elu", "tanh"] = "relu"
    weight_scale: float = 1.0
    bias_scale: float = 0.1
    noise: float = 0.1
    squeeze: bool = False

    __post_init__ = check


def theta(trial: Trial, weights: list[np.ndarray], biases: list[np.ndarray], x: np.ndarray) -> np.ndarray:
    """The input of the softmax, (classes,), squeezed by tanh if the trial says so."""
    for w, b in zip(weights[:-1], biases[:-1], strict=True):
        x = ACTIVATIONS[trial.activation](w @ x + b)
    out = weights[-1] @ x + biases[-1]
    return np.tanh(out) if trial.squeeze else out


def printed_eta(weights: list[np.ndarray], biases: list[np.ndarray], xi: np.ndarray, squeeze: bool = False) -> float:
    """eta as printed (C = 1); with the squeeze, the paper's second form max_k [C_s |w_L ... w_1 xi|]_k with C_s = 1."""
    product = xi
    for w in weights[:-1]:
        product = w @ product
    if squeeze:
        return float(np.abs(weights[-1] @ product).max())
    return float((weights[-1] @ np.abs(product) + biases[-1]).max())


def sound_eta(weights: list[np.ndarray], xi: np.ndarray) -> float:
    """A bound of every |theta_k(x + xi) - theta_k(x)| for hidden activations and a squeeze of Lipschitz constant at most 1."""
    change = np.abs(xi)
    for w in weights:
        change = np.abs(w) @ change
    return float(change.max())


def bound(theta_x: np.ndarray, theta_noisy: np.ndarray, eta: float) -> np.ndarray:
    """The right-hand side of Theorem 1, (classes,)."""
    shift = theta_noisy.max()
    return np.exp(theta_x - shift) * (np.exp(eta) - np.exp(-eta)) / np.exp(theta_noisy - shift).sum()


def run(trial: Trial, networks: int, seed: int = 0) -> pd.DataFrame:
    """One line per random network: both etas, the largest V_k / bound_k of each, and the kind of violation of the printed one."""
    rng = np.random.default_rng(seed)
    lines = []
    sizes = [trial.inputs] + [trial.width] * (trial.layers - 1) + [trial.classes]
    for number in range(networks):
        weights = [rng.normal(0, trial.weight_scale / np.sqrt(a), (b, a)) for a, b in pairwise(sizes)]
        biases = [rng.normal(0, trial.bias_scale, b) for b in sizes[1:]]
        x, xi = rng.uniform(0, 1, trial.inputs), rng.uniform(-trial.noise, trial.noise, trial.inputs)
        before, after = theta(trial, weights, biases, x), theta(trial, weights, biases, x + xi)
        change = np.abs(softmax(before) - softmax(after))
        line = {"network": number, "variation": change.max(), "logit_change": np.abs(after - before).max()}
        for name, eta in (("printed", printed_eta(weights, biases, xi, trial.squeeze)), ("sound", sound_eta(weights, xi))):
            allowed = bound(before, after, eta)
            line[f"{name}_eta"] = eta
            line[f"{name}_violated"] = bool((change > allowed + TOLERANCE * (1 + np.abs(allowed))).any())
            line[f"{name}_bound"] = allowed.max()
        lines.append(line)
    frame = pd.DataFrame(lines)
    steps = [~frame["printed_violated"], frame["printed_eta"] < 0, frame["logit_change"] > frame["printed_eta"]]
    return frame.assign(why=np.select(steps, ["", NEGATIVE, BELOW], "other"))


TRIALS = {
    "two layers": Trial(layers=2),
    "three layers": Trial(),
    "five layers": Trial(layers=5),
    "three layers, ELU": Trial(activation="elu"),
    "three layers, no biases": Trial(bias_scale=0.0),
    "three layers, small weights": Trial(weight_scale=0.3),
    "three layers, tanh before softmax": Trial(squeeze=True),
}


def survey(networks: int, seed: int = 0, trials: dict[str, Trial] | None = None) -> pd.DataFrame:
    """Violations of the printed and of the sound bound per family of networks, and how tight the sound one is."""
    lines = []
    for name, trial in (trials or TRIALS).items():
        found = run(trial, networks, seed)
        reasons = found["why"].value_counts()
        lines.append(
            {"networks": name, "n": networks, "violations as printed": int(found["printed_violated"].sum()),
             "of them eta < 0": int(reasons.get(NEGATIVE, 0)),
             "of them eta below the logits' change": int(reasons.get(BELOW, 0)),
             "violations of the sound bound": int(found["sound_violated"].sum()),
             "median sound bound / variation": float((found["sound_bound"] / found["variation"]).median())}
        )  # fmt: skip
    return pd.DataFrame(lines)


def tanh_effect(networks: int, seed: int = 0, scales: tuple[float, ...] = (0.3, 1.0, 3.0, 10.0)) -> pd.DataFrame:
    """What tanh does to the same random networks: its bound (none), the variation of the outputs, and the input gradient.

    scales: standard deviation of the last layer's logits. tanh' = 1 - tanh^2 is 1 at 0 and dies for large logits: the outputs
    move less and so do the gradients, by a factor that an attacker removes by differentiating the logits instead.
    """
    lines = []
    for scale in scales:
        rng = np.random.default_rng(seed)
        trial, rows = Trial(bias_scale=0.0), []
        sizes = [trial.inputs] + [trial.width] * (trial.layers - 1) + [trial.classes]
        for _ in range(networks):
            weights = [rng.normal(0, 1 / np.sqrt(a), (b, a)) for a, b in pairwise(sizes)]
            biases = [np.zeros(b) for b in sizes[1:]]
            x, xi = rng.uniform(0, 1, trial.inputs), rng.uniform(-trial.noise, trial.noise, trial.inputs)
            size = theta(trial, weights, biases, x).std()
            weights[-1] = weights[-1] * scale / max(size, 1e-9)
            before, after = theta(trial, weights, biases, x), theta(trial, weights, biases, x + xi)
            plain = np.abs(softmax(before) - softmax(after)).max()
            squeezed = np.abs(softmax(np.tanh(before)) - softmax(np.tanh(after))).max()
            rows.append((plain, squeezed, np.median(1 - np.tanh(before) ** 2), before.argmax() != after.argmax(),
                         np.tanh(before).argmax() != np.tanh(after).argmax()))  # fmt: skip
        values = np.array(rows, dtype=float)
        lines.append(
            {"logit scale": scale, "n": networks, "mean V without tanh": values[:, 0].mean(), "mean V with tanh": values[:, 1].mean(),
             "median tanh'": np.median(values[:, 2]), "decisions changed without tanh": int(values[:, 3].sum()),
             "decisions changed with tanh": int(values[:, 4].sum())}
        )  # fmt: skip
    return pd.DataFrame(lines)
