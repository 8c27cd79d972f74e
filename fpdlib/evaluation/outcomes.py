"""Per-example outcomes of a network under an attack, and the statistics that tables quote from them.

An outcome is a data frame, one row per (image, eps): `index` in the test set, `label`, `eps`, `clean_prediction`,
`adversarial_prediction`, `linf`, `l2` (of the perturbation, pixel units), `loss` (cross-entropy of the deployed
logits on the adversarial image), `gradient_is_zero` (the attacked loss has an exactly zero gradient at the clean
image), `float64_prediction` (what the same weights answer in double precision on the same pixels) and `broken` (see
`answers.wrong`). Predictions are of the deployed output, -1 where it is not a number.
"""

import json
import math
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from scipy import stats
from torch import Tensor, nn

from fpdlib import attacks
from fpdlib.attacks.adapters import project
from fpdlib.attacks.radius import Radius
from fpdlib.attacks.spec import AttackSpec
from fpdlib.attacks.views import View
from fpdlib.data.images import Images, NativeInput, Splits, first
from fpdlib.errors import FPDError
from fpdlib.files import replace_file
from fpdlib.network.answers import NOT_A_NUMBER, answer, attacked, deployed, predict, predict_in_float64, wrong
from fpdlib.network.fpd import FPD
from fpdlib.runtime import Budget, between_steps, generator, undisturbed

COLUMNS = {
    "index": "int32", "label": "int16", "eps": "float32", "clean_prediction": "int16",
    "adversarial_prediction": "int16", "linf": "float32", "l2": "float32", "loss": "float32",
    "gradient_is_zero": "bool", "float64_prediction": "int16", "broken": "bool",
}  # fmt: skip


def test_order(count: int, order: str = "seeded") -> Tensor:
    """The order in which test images are attacked: the first n of it are the n images of every outcome of that order."""
    return torch.arange(count) if order == "file" else torch.randperm(count, generator=torch.Generator().manual_seed(0))


@undisturbed()
@attacked
def evaluate(model: FPD, splits: Splits, attack: AttackSpec, seed: int, partial: Path | None = None, budget: Budget | None = None,
             surrogate: nn.Module | None = None, crafted: Tensor | None = None) -> tuple[pd.DataFrame, dict]:  # fmt: skip
    """Attack the first `attack.images` test images; returns the outcome and its counts.

    surrogate: the network that is attacked instead, if the attack is a transfer (see `train_surrogate`); crafted: the
    adversarial images of another trained network, in the order of the attack's images (see `craft`).
    partial: file for finished batches; a run that was stopped continues behind them. The second result holds
    `forwards`, `backwards` (examples passed through the attacked network), `seconds`, and `broken`: how many examples
    each attempt of the method broke that those before it had left.
    Raises FPDError when more images are asked for than the test set has, or `partial` is of another attack.
    """
    budget = budget or Budget()
    if bool(attack.surrogate) != (surrogate is not None or crafted is not None):
        raise FPDError(
            f"attack {attack.name!r} has surrogate={attack.surrogate!r}; give `surrogate` or `crafted` exactly if it names one."
        )
    if attack.images > len(splits.test):
        raise FPDError(f"attack {attack.name!r} asks for {attack.images} images; {splits.name} has {len(splits.test)} test images.")
    classes, labels = getattr(getattr(model, "spec", None), "num_classes", 0), 1 + int(splits.test.labels.max())
    if classes < labels:
        raise FPDError(
            f"the model has {classes} classes by its `spec`, {splits.name} {labels}; accepted: a network of this kit, built for "
            "these images (`fpdlib.judge` takes any other)."
        )
    target = NativeInput(model, model.spec.image_size) if attack.space == "native" else model
    counts = {"forwards": 0, "backwards": 0, "seconds": 0.0, "broken": {}}
    frames: list[pd.DataFrame] = []
    of = f"{attack.protocol} {attack.name}, eps {attack.eps}, {attack.images} images by {attack.batch_size}, seed {seed}"
    if partial is not None and partial.exists():
        frames = [read_outcome(partial)]
        if (other := frames[0].attrs.get("of", of)) != of or "counts" not in frames[0].attrs:
            raise FPDError(f"{partial} is of {other}, not of {of}; accepted: a file of the same attack. Delete it, or name another.")
        counts |= json.loads(frames[0].attrs["counts"])
    started = time.monotonic()
    before = counts["seconds"]
    view = View(surrogate or target, attack.method.sees(attack.protocol)).eval()
    view.forwards, view.backwards = counts["forwards"], counts["backwards"]
    order = test_order(len(splits.test), attack.order)[: attack.images]
    chunks = order.split(attack.batch_size)
    done = math.ceil(sum(map(len, frames)) / (len(attack.eps) * attack.batch_size))
    for number in range(done, len(chunks)):
        index = chunks[number].to(splits.test.labels.device)
        first = seed * 100_003 + number
        given = None if crafted is None else crafted[number * attack.batch_size :][: len(index)]
        batch = attack_batch(target, view, splits.test, index, attack, first, counts["broken"], given)  # Ctrl-C ends it at once
        with between_steps() as stop:
            frames.append(batch)
            counts |= {"forwards": view.forwards, "backwards": view.backwards}
            counts["seconds"] = before + time.monotonic() - started
            if partial is not None:
                whole = pd.concat(frames, ignore_index=True)
                whole.attrs = {"counts": json.dumps(counts), "of": of}
                replace_file(partial, whole.to_parquet)
        if stop.is_set():
            raise KeyboardInterrupt
        if number + 1 < len(chunks):  # after a batch, so that the shortest budget still makes progress
            budget.check()
    return pd.concat(frames, ignore_index=True)[list(COLUMNS)].astype(COLUMNS), counts


def attack_batch(target: nn.Module, view: View, test: Images, index: Tensor, attack: AttackSpec, seed: int, broken: dict,
                 crafted: Tensor | None = None):  # fmt: skip
    """Outcome rows of one batch: climb the ladder of radii, attacking only what still stands."""
    x = test.native_batch(index) if attack.space == "native" else test.batch(index)
    y = test.labels[index]
    classes = target.network.spec.num_classes if isinstance(target, NativeInput) else target.spec.num_classes
    clean = predict(target, x)
    _, gradient = attacks.loss_gradient(View(view.network, view.outputs).eval(), x, y)  # no pass of the attack's
    zero = (gradient == 0).flatten(1).all(1)
    best, standing = x.clone(), ~wrong(target, x, y, attack.overflow)
    rows, searched = [], isinstance(attack.method, Radius)
    if searched:
        search = attack.method.search(target, view, x, y, seed, classes, attack.overflow)
        broken["radius"] = broken.get("radius", 0) + int((search.found & standing).sum())
        best, standing = search.images, ~search.found
    for eps in attack.eps:
        for name, attempt in attack.method.attempts(eps) if eps > 0 and not searched else ():
            left = standing.nonzero().flatten()
            if not len(left):
                break
            seed += 1
            with view.watching(x[left], y[left], attack.norm) as seen:
                adversarial = crafted[left] if crafted is not None else attempt(view, x[left], y[left], seed=seed, classes=classes)
            # minimal-norm attacks may leave the ball: only what is still wrong within it counts
            adversarial = project(adversarial, x[left], eps, attack.norm)
            fell = wrong(target, adversarial, y[left], attack.overflow)
            if attack.iterates == "any" and (passed := ~fell & (seen.size <= eps * (1 + 1e-5))).any():
                adversarial[passed] = project(seen.images[passed], x[left][passed], eps, attack.norm)
                fell[passed] = wrong(target, adversarial[passed], y[left][passed], attack.overflow)
            # keep the last attempt on what stands, so that a row always describes an attacked image
            best[left] = adversarial
            standing[left[fell]] = False
            broken[name] = broken.get(name, 0) + int(fell.sum())
        logits, delta = deployed(target, best), (best - x).flatten(1)
        columns = {
            "index": index, "label": y, "eps": torch.full_like(x[:, 0, 0, 0], eps), "clean_prediction": clean,
            "adversarial_prediction": answer(logits), "linf": delta.abs().amax(1), "l2": delta.norm(dim=1),
            "loss": F.cross_entropy(logits, y, reduction="none"), "gradient_is_zero": zero,
            "float64_prediction": predict_in_float64(target, best), "broken": ~standing,
        }  # fmt: skip
        rows.append(pd.DataFrame({name: column.cpu().numpy() for name, column in columns.items()}))
    return pd.concat(rows, ignore_index=True)


@attacked
def craft(model: FPD, splits: Splits, attack: AttackSpec, seed: int) -> tuple[Tensor, dict]:
    """A network's adversarial images (n, 3, H, W) under an attack of one attempt, to be transferred, and its counts."""
    view = View(model, attack.method.sees(attack.protocol)).eval()
    ((_, attempt),) = attack.method.attempts(attack.eps[-1])
    started, images, right = time.monotonic(), [], 0
    for number, index in enumerate(test_order(len(splits.test), attack.order)[: attack.images].split(attack.batch_size)):
        index = index.to(splits.test.labels.device)
        x, y = splits.test.batch(index), splits.test.labels[index]
        adversarial = attempt(view, x, y, seed=seed * 100_003 + number, classes=model.spec.num_classes)
        images.append(project(adversarial, x, attack.eps[-1], attack.norm))
        right += int((predict(model, images[-1]) == y).sum())
    counts = {"forwards": view.forwards, "backwards": view.backwards, "seconds": time.monotonic() - started}
    return torch.cat(images), counts | {"source_right": right}


def train_surrogate(model: FPD, splits: Splits, attack: AttackSpec, seed: int) -> tuple[nn.Module, float]:
    """The three-layer substitute of Sec. 4.1 for one target network, trained on the training images as the attack says: on the
    target's predictions ('oracle') or the true labels. Returns it with its test accuracy."""
    images, test = (first(part, attack.surrogate_images) for part in (splits.train, splits.test))
    device = images.labels.device
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        surrogate = attacks.surrogate(3 * model.spec.image_size**2, model.spec.num_classes, attack.surrogate_width).to(device)
    y = images.labels if attack.surrogate == "true" else predict_all(model, images)
    answered = (y >= 0).nonzero().flatten()  # an output that is not a number teaches nothing
    optimizer = torch.optim.Adam(surrogate.parameters(), 1e-3)
    for epoch in range(attack.surrogate_epochs):
        order = answered[torch.randperm(len(answered), generator=generator("cpu", seed, epoch)).to(device)]
        for part in order.split(100) if len(order) else ():
            loss = F.cross_entropy(surrogate(images.batch(part)), y[part])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    surrogate.eval().requires_grad_(False)
    return surrogate, float((predict_all(surrogate, test) == test.labels).float().mean())


def agreement(surrogate: nn.Module, model: nn.Module, test: Images, count: int | None = None) -> float:
    """Share of the test images (of the first `count`) on which two networks give the same answer."""
    test = first(test, count)
    return float((predict_all(surrogate, test) == predict_all(model, test)).float().mean())


def predict_all(network: nn.Module, images: Images, batch_size: int = 500) -> Tensor:
    parts = (slice(start, start + batch_size) for start in range(0, len(images), batch_size))
    return torch.cat([predict(network, images.batch(part)) for part in parts])


def read_outcome(path: Path) -> pd.DataFrame:
    """An outcome from its Parquet file; FPDError if it is damaged or has other columns."""
    try:
        frame = pd.read_parquet(path)
        if missing := set(COLUMNS) - set(frame.columns):
            raise ValueError(f"columns missing: {sorted(missing)}")
    except (OSError, ValueError) as error:
        raise FPDError(f"{path} is damaged ({error}). Delete it to compute it again.") from error
    return frame


@dataclass(frozen=True)
class Rate:
    """An accuracy with its number of images and Wilson 95 % interval, all shares in [0, 1]."""

    value: float
    n: int
    low: float
    high: float

    def __str__(self) -> str:
        return f"{100 * self.value:.1f} % [{100 * self.low:.1f}, {100 * self.high:.1f}] n={self.n}"


def rate(hits) -> Rate:
    """Accuracy of a boolean sequence."""
    hits = np.asarray(hits, dtype=bool)
    interval = stats.binomtest(int(hits.sum()), len(hits)).proportion_ci(method="wilson")
    return Rate(float(hits.mean()), len(hits), float(interval.low), float(interval.high))


def robust(outcome: pd.DataFrame, numbers_only: bool = False) -> pd.DataFrame:
    """One row per image, one boolean column per eps: not broken by the attack.

    numbers_only: images that only an output which is not a number counts as broken are left standing.
    """
    hits = ~outcome["broken"]
    if numbers_only:
        hits |= outcome["adversarial_prediction"] == NOT_A_NUMBER
    table = pd.concat([outcome[["index", "eps"]], hits.rename("robust")], axis=1)
    return table.pivot(index="index", columns="eps", values="robust")


def radii(outcome: pd.DataFrame, norm: str = "linf", numbers_only: bool = False) -> pd.Series:
    """Per image, the size of the smallest perturbation that broke it in an outcome: 0 if misclassified, inf if nothing did; in
    float32 a find on the border of the ball may lie beyond epsilon by the last bit.

    numbers_only: see `robust`.
    """
    broken = outcome["broken"] & (outcome["adversarial_prediction"] != NOT_A_NUMBER) if numbers_only else outcome["broken"]
    rows = outcome[broken].sort_values("eps").drop_duplicates("index").set_index("index")[norm]
    return rows.reindex(outcome["index"].unique()).fillna(np.inf).astype(float).sort_index()
