"""Algorithm 1: gated two-phase training with epsilon-neighbourhood noise (Sec. 3.4, Fig. 4).

`step` is the algorithm's loop body. `train` adds epochs, model selection on held-out images, and an exact resume:
every random draw is a function of (seed, epoch, step), and the state is saved only between steps, so a run that was
stopped and continued ends with the same bits (on the CPU, with the same number of threads) as one that was not.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from fpdlib.data.images import Images, Splits, augment
from fpdlib.errors import BudgetExhausted, FPDError, choose
from fpdlib.network.fpd import FPD
from fpdlib.runtime import Budget, between_steps, generator
from fpdlib.training.adversarial import Adversary, adversarial_step, craft
from fpdlib.training.resume import load_state, save_state, set_lr

OPTIMIZERS = {"adamax": torch.optim.Adamax, "adam": torch.optim.Adam, "sgd": torch.optim.SGD}
SAVE_EVERY = 20.0  # seconds between saved states: what a killed run can lose
SUMS = (
    "steps", "gated", "images", "correct", "loss", "ce", "mse", "ce_second", "mse_second", "ce_adversarial",
    "correct_adversarial",
)  # fmt: skip
LOG = (
    "epoch", "loss", "ce", "mse", "ce_second", "mse_second", "ce_adversarial", "gate_share", "train_accuracy",
    "adversarial_accuracy",
    "held_out_accuracy", "held_out_loss", "held_out_mse", "lr", "seconds",
)  # fmt: skip


@dataclass(frozen=True)
class Recipe:
    """How a network is trained, as plain values.

    phases: 1 (first phase only, 'one phase' of Table 1) or 2 (Alg. 1 lines 14-17).
    gate: when lines 9-10 restrict a step to F_FD and F_R: 'step' (l2 > T at this step, Alg. 1), 'latch' (until l2 <= T
        for the first time, Sec. 3.4 "once the L2 loss reaches the T") or 'none'.
    threshold: T, on the mean squared error of pixels in [0, 1].
    alpha1, alpha2, alpha2_second: weights of cross-entropy and of L2; the second phase may weigh L2 differently.
    noise: half-width of the uniform noise (lines 3-6), pixel units.
    clip: largest gradient norm. images: train on that many of the training images (None: all).
    selection: choose the epoch on 'held-out' training images, or on 'test' as the release does (not sound, offered for
        comparison). patience: epochs without improvement before stopping.
    adversary: adversarial training instead of Algorithm 1's steps (Sec. 4.2); begin: the network whose weights it starts
        from ('' from scratch); the epoch is then chosen on held-out accuracy under that adversary.
    schedule: 'plateau' (x0.1 after `plateau` epochs without a better loss), 'one-cycle' (10 % warm-up, cosine to zero)
        'cyclic' (linear up over 40 %, linear down to zero) or 'constant'. precision: 'float32' or 'bfloat16' (autocast).
    """

    name: str = "paper"
    phases: int = 2
    gate: str = "step"
    threshold: float = 3.0
    alpha1: float = 1.0
    alpha2: float = 1.0
    alpha2_second: float = 1.0
    noise: float = 0.01
    optimizer: str = "adamax"
    lr: float = 1e-3
    weight_decay: float = 1e-5
    clip: float = 10.0
    batch_size: int = 300
    epochs: int = 100
    schedule: str = "plateau"
    plateau: int = 10
    patience: int = 20
    images: int | None = None
    selection: str = "held-out"
    augment: bool = False
    precision: str = "float32"
    adversary: Adversary | None = None
    begin: str = ""
    version: ClassVar[int] = 1  # of what a step and the choice of the epoch compute (see `keys`)

    def __post_init__(self):
        choose("phases", self.phases, (1, 2))
        choose("gate", self.gate, ("step", "latch", "none"))
        choose("optimizer", self.optimizer, OPTIMIZERS)
        choose("schedule", self.schedule, ("plateau", "one-cycle", "cyclic", "constant"))
        choose("selection", self.selection, ("held-out", "test"))
        choose("precision", self.precision, ("float32", "bfloat16"))
        for name in ("lr", "batch_size", "epochs", "clip", "patience"):
            if not getattr(self, name) > 0:
                raise FPDError(f"recipe {self.name!r}: {name} is {getattr(self, name)!r}; accepted: a number above 0.")


# Algorithm 1 as printed. Everything below it that the text does not give is the released value for that dataset.
PAPER_SILENT = {
    "threshold": "T = 3 (MNIST, SVHN) or 1 (Caltech) on a mean squared error that starts at 30-70 (ResNet-101, 64 pixels)",
    "alpha1, alpha2": "1 and 1; Caltech's second phase 0.1",
    "noise": "0.01 (MNIST, SVHN) or 0.03 (Caltech)",
    "optimizer, lr, weight_decay": "Adamax 1e-3, 1e-5 (MNIST); Adam 1e-4, none (SVHN, Caltech)",
    "clip": "10 (MNIST) or 5",
    "batch_size": "300 (MNIST, SVHN), 24 (Caltech)",
    "epochs, plateau, patience": "100; x0.1 after 10 (15) epochs; stop after 20",
    "phase 2 input": "detached: the released code back-propagates through an overwritten graph",
}


def paper_recipe(dataset: str = "mnist", **changes) -> Recipe:
    """Algorithm 1; values on which the text is silent (`PAPER_SILENT`) are the release's for this dataset."""
    family = dataset.split("-")[0]  # its samples, stand-ins and other splits are trained alike
    values = {
        "mnist": {},
        "svhn": {"optimizer": "adam", "lr": 1e-4, "weight_decay": 0.0, "clip": 5.0},
        "caltech101": {
            "optimizer": "adam", "lr": 1e-4, "weight_decay": 0.0, "clip": 5.0, "threshold": 1.0, "noise": 0.03,
            "batch_size": 24, "alpha2_second": 0.1, "plateau": 15,
        },
    }  # fmt: skip
    values["caltech256"] = values["caltech101"]
    choose("dataset", family, values)
    return replace(Recipe(**values[family]), **changes)


def released_recipe(dataset: str = "mnist", **changes) -> Recipe:
    """`paper_recipe` plus what only the release does: augmentation on MNIST and Caltech, epochs chosen on test images."""
    family = dataset.split("-")[0]
    return paper_recipe(dataset, **{"name": "released", "augment": family != "svhn", "selection": "test", **changes})


def step(model: FPD, optimizer, recipe: Recipe, x: Tensor, y: Tensor, noise: Tensor, latched: bool) -> dict:
    """One iteration of Algorithm 1 (lines 3-18) on clean images x (B, 3, H, W), labels y (B,), noise like x.

    Returns the losses before each update, whether the gate was closed, and the number of correct predictions.
    Networks without restoration have no L2 term, gate or second phase.
    """
    autocast = torch.autocast(x.device.type, torch.bfloat16, enabled=recipe.precision == "bfloat16")
    zero = x.new_zeros(())
    with autocast:
        front = model.front(x + noise)  # lines 6-7
        l2 = F.mse_loss(front.restored.float(), x) if front.restored is not None else zero  # line 8
    gated = front.restored is not None and recipe.gate != "none" and not latched and bool(l2 > recipe.threshold)
    if gated:  # lines 9-10: no gradient reaches the classifier, so only F_FD and F_R move
        update(model, optimizer, recipe, recipe.alpha2 * l2)
        return {"gated": 1.0, "mse": l2, "loss": recipe.alpha2 * l2}
    with autocast:
        logits = model.squeeze(model.classify(front)).float()
    l1 = F.cross_entropy(logits, y)  # line 12
    loss = recipe.alpha1 * l1 + recipe.alpha2 * l2
    update(model, optimizer, recipe, loss)  # line 13
    result = {"mse": l2, "ce": l1, "loss": loss, "correct": (logits.argmax(1) == y).sum(), "images": len(y)}
    if recipe.phases == 2 and front.restored is not None:
        restored = front.restored.detach().float()
        with autocast, model.second_phase():
            second = model.front(restored)  # line 14
            logits = model.squeeze(model.classify(second)).float()
            l2 = F.mse_loss(second.restored.float(), x)  # line 15
        l1 = F.cross_entropy(logits, y)  # line 16
        update(model, optimizer, recipe, recipe.alpha1 * l1 + recipe.alpha2_second * l2)  # line 17
        result |= {"ce_second": l1, "mse_second": l2}
    return result


def strength(recipe: Recipe, progress: float) -> float:
    """Share of the adversary's eps at this point of the training (its warm-up)."""
    return min(progress / recipe.adversary.warmup, 1.0) if recipe.adversary.warmup else 1.0


def harden(model: FPD, optimizer, recipe: Recipe, x, y, noise, draws, scale: float) -> dict:
    """One step of adversarial training: craft, then one update on clean and adversarial images together."""
    autocast = torch.autocast(x.device.type, torch.bfloat16, enabled=recipe.precision == "bfloat16")
    with autocast:
        adversarial = craft(model, x, y, recipe.adversary, draws, scale)
        result = adversarial_step(model, recipe, x, y, noise, adversarial)
    update(model, optimizer, recipe, result["loss"])
    return result


def resist(model: FPD, adversary: Adversary, images: Images, seed: int, count: int = 500, batch_size: int = 250) -> float:
    """Accuracy under the training adversary (or PGD) on the first `count` of these images, by which epochs are compared."""
    correct, judge = 0, replace(adversary, labels="true")
    if adversary.select == "pgd":
        judge = Adversary("judge", adversary.eps, 10, adversary.eps / 4)
    for number, part in enumerate(torch.arange(min(count, len(images)), device=images.labels.device).split(batch_size)):
        x, y = images.batch(part), images.labels[part]
        draws = generator(x.device, seed, number)
        adversarial = craft(model, x, y, judge, draws)
        model.eval()
        with torch.no_grad():
            correct += int((model(adversarial).argmax(1) == y).sum())
        model.train()
    return correct / min(count, len(images))


def passes(recipe: Recipe) -> dict[str, float]:
    """Passes through the network per training image and epoch: forward, backward to parameters, and backward to pixels alone.

    Adversarial training takes the last for every attack step, and the first two for the clean and the adversarial half of its
    loss (gated steps not deducted).
    """
    if recipe.adversary is None:
        return {"forward": float(recipe.phases), "backward": float(recipe.phases), "pixel": 0.0}
    crafting = float(recipe.adversary.steps)
    return {"forward": 2.0 + crafting, "backward": 2.0, "pixel": crafting}


def training_macs(recipe: Recipe, macs: dict[str, float]) -> float:
    """Multiply-accumulates per training image and epoch, with the network's `macs` (`network.cost`)."""
    return sum(count * macs[f"{kind}_macs"] for kind, count in passes(recipe).items())


def update(model: FPD, optimizer, recipe: Recipe, loss: Tensor) -> None:
    if not torch.isfinite(loss):
        raise FPDError(
            f"the training loss became {loss.item()} with recipe {recipe.name!r} (lr {recipe.lr}, clip {recipe.clip}). "
            "No update was made with it. Lower lr or clip, or use precision 'float32'; the saved state is from before."
        )
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.clip)
    optimizer.step()


@torch.no_grad()
def measure(model: FPD, images: Images, batch_size: int = 500) -> tuple[float, float, float]:
    """Accuracy, cross-entropy and restoration MSE (nan without restoration) on clean images, in evaluation mode."""
    training = model.training
    model.eval()
    sums = torch.zeros(3, dtype=torch.float64)
    for start in range(0, len(images), batch_size):
        part = slice(start, start + batch_size)
        x, y = images.batch(part), images.labels[part]
        front = model.front(x)
        logits = model.squeeze(model.classify(front))
        mse = F.mse_loss(front.restored, x) if front.restored is not None else torch.tensor(math.nan)
        loss = F.cross_entropy(logits, y)
        sums += torch.tensor([(logits.argmax(1) == y).sum().item(), loss.item() * len(y), mse.item() * len(y)])
    model.train(training)
    return tuple((sums / len(images)).tolist())


def train(
    model: FPD, recipe: Recipe, splits: Splits, seed: int, state: Path | None = None, budget: Budget | None = None, label: str = ""
) -> list[dict]:
    """Train `model` in place and leave the best epoch's weights in it; returns the log, one row (`LOG`) an epoch.

    splits: on the model's device. state: file that holds the run's state; if it exists, the run continues from it.
    Raises FPDError on a non-finite loss or an unusable state file, BudgetExhausted or KeyboardInterrupt after saving.
    """
    budget = budget or Budget()
    images = splits.train
    if recipe.images is not None:
        images = images.subset(torch.arange(min(recipe.images, len(images)), device=images.labels.device))
    selection = splits.test if recipe.selection == "test" else splits.held_out
    device = images.labels.device
    model.to(device, memory_format=torch.channels_last).train()
    optimizer = OPTIMIZERS[recipe.optimizer](model.parameters(), recipe.lr, weight_decay=recipe.weight_decay)
    plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.1, patience=recipe.plateau)
    run = {"epoch": 0, "step": 0, "latched": False, "best": -1.0, "best_epoch": -1, "log": [], "seconds": 0.0}
    sums = torch.zeros(len(SUMS), dtype=torch.float64, device=device)
    best = {}
    if state is not None and state.exists():
        run, sums, best = load_state(state, model, optimizer, plateau, device)
    steps = max(len(images) // recipe.batch_size, 1)
    started = saved = time.monotonic()
    before = run["seconds"]
    bar = tqdm(total=recipe.epochs * steps, initial=run["epoch"] * steps + run["step"], desc=f"train {label}",
               mininterval=2, leave=False, disable=not label)  # fmt: skip

    def save() -> None:
        run["seconds"] = before + time.monotonic() - started
        if state is not None:
            save_state(state, model, optimizer, plateau, run, sums, best)

    with between_steps() as stop, torch.random.fork_rng(devices=[device] if device.type == "cuda" else []), bar:
        while run["epoch"] < recipe.epochs and run["epoch"] - 1 - run["best_epoch"] < recipe.patience:
            order = torch.randperm(len(images), generator=generator("cpu", seed, run["epoch"])).to(device)
            while run["step"] < steps:
                done = run["epoch"] * steps + run["step"]
                if recipe.schedule in CYCLES:
                    set_lr(optimizer, recipe.lr * CYCLES[recipe.schedule](done / (recipe.epochs * steps)))
                draws = generator(device, seed, run["epoch"], run["step"])
                torch.manual_seed(int(draws.initial_seed() % 2**63))  # dropout
                index = order[run["step"] * recipe.batch_size :][: recipe.batch_size]
                x, y = images.batch(index), images.labels[index]
                if recipe.augment:
                    x = augment(x, draws)
                x = x.contiguous(memory_format=torch.channels_last)
                noise = (torch.rand(x.shape, generator=draws, device=device) * 2 - 1) * recipe.noise  # lines 3-5
                if recipe.adversary is not None and run["epoch"] >= recipe.adversary.delay:
                    scale = strength(recipe, done / (recipe.epochs * steps))
                    result = harden(model, optimizer, recipe, x, y, noise, draws, scale)
                else:
                    result = step(model, optimizer, recipe, x, y, noise, run["latched"])
                run["latched"] |= recipe.gate == "latch" and not result.get("gated")
                row = [1.0, *(result.get(name, 0.0) for name in SUMS[1:])]
                sums += torch.stack([torch.as_tensor(v, dtype=torch.float64, device=device).detach() for v in row])
                run["step"] += 1
                bar.update()
                expired = budget.expired()  # after a step, so that the shortest budget still makes progress
                if stop.is_set() or expired or time.monotonic() - saved > SAVE_EVERY:
                    save()
                    saved = time.monotonic()
                    if stop.is_set():
                        raise KeyboardInterrupt
                    if expired:
                        raise BudgetExhausted
            run["seconds"] = before + time.monotonic() - started
            log_epoch(run, sums, optimizer, measure(model, selection))
            row = run["log"][-1]
            if recipe.adversary is not None:
                row["held_out_adversarial"] = resist(model, recipe.adversary, selection, seed)
            if recipe.schedule == "plateau":
                plateau.step(row["held_out_loss"])
            if score(row) > run["best"]:
                run["best"], run["best_epoch"] = score(row), run["epoch"]
                best = {name: tensor.clone() for name, tensor in model.state_dict().items()}
            sums.zero_()
            run["epoch"], run["step"] = run["epoch"] + 1, 0
            bar.set_postfix(accuracy=f"{row['held_out_accuracy']:.3f}", refresh=False)
        if stop.is_set():  # asked for while the last epoch was measured
            save()
            raise KeyboardInterrupt
    model.load_state_dict(best)
    model.eval()
    return run["log"]


def score(row: dict) -> float:
    """What chooses the epoch, from its line of the log: accuracy on held-out images, attacked ones if it trained on such."""
    return row.get("held_out_adversarial", row["held_out_accuracy"])


def best_epoch(log: list[dict]) -> int:
    return max(log, key=score)["epoch"]


def one_cycle(progress: float) -> float:
    """Factor on the learning rate: linear warm-up over the first tenth, then a cosine down to zero."""
    return progress / 0.1 + 0.01 if progress < 0.1 else 0.5 * (1 + math.cos(math.pi * (progress - 0.1) / 0.9))


def cyclic(progress: float) -> float:
    """Factor on the learning rate: linear up over the first 40 %, linear down to zero (Wong et al. 2020)."""
    return progress / 0.4 + 0.001 if progress < 0.4 else (1 - progress) / 0.6


CYCLES = {"one-cycle": one_cycle, "cyclic": cyclic}


def log_epoch(run: dict, sums: Tensor, optimizer, measured: tuple[float, float, float]) -> None:
    total = dict(zip(SUMS, sums.tolist(), strict=True))
    open_steps = max(total["steps"] - total["gated"], 1)
    accuracy, loss, mse = measured
    row = {
        "epoch": run["epoch"],
        "loss": total["loss"] / total["steps"],
        "mse": total["mse"] / total["steps"],
        **{name: total[name] / open_steps for name in ("ce", "ce_second", "mse_second")},
        "gate_share": total["gated"] / total["steps"],
        "train_accuracy": total["correct"] / max(total["images"], 1),
        "ce_adversarial": total["ce_adversarial"] / open_steps,
        "adversarial_accuracy": total["correct_adversarial"] / max(total["images"], 1),
        "held_out_accuracy": accuracy,
        "held_out_loss": loss,
        "held_out_mse": mse,
        "lr": optimizer.param_groups[0]["lr"],
        "seconds": run["seconds"],
    }
    run["log"].append({name: row[name] for name in LOG})
