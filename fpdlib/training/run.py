"""A run of training: epochs, model selection on held-out images, and an exact resume.

Every random draw is a function of (seed, epoch, step), and the state is saved only between steps, so a run that was stopped and
continued ends with the same bits (on the CPU, with the same number of threads) as one that was not.
"""

import functools
import gc
import json
import math
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from fpdlib.data.images import Images, Splits, augment, first
from fpdlib.errors import BudgetExhausted, FPDError
from fpdlib.files import replace_file
from fpdlib.keys import key_of
from fpdlib.network.fpd import FPD
from fpdlib.runtime import Budget, between_steps, generator, undisturbed
from fpdlib.training.adversarial import Adversary, craft
from fpdlib.training.algorithm1 import harden, step, strength
from fpdlib.training.graphs import Captured
from fpdlib.training.recipe import OPTIMIZERS, Recipe

SAVE_EVERY, SAVE_SHARE = 20.0, 0.03  # seconds between saved states, what a killed run can lose; at most this share of the time
SUMS = (
    "steps", "gated", "images", "correct", "loss", "ce", "mse", "ce_second", "mse_second", "ce_adversarial",
    "correct_adversarial",
)  # fmt: skip
LOG = (
    "epoch", "loss", "ce", "mse", "ce_second", "mse_second", "ce_adversarial", "gate_share", "train_accuracy",
    "adversarial_accuracy", "held_out_accuracy", "held_out_loss", "held_out_mse", "lr", "seconds",
)  # fmt: skip


class Run:
    """A training run between two steps: it continues from `now`, `sums`, `best`, the model and the optimizer."""

    def __init__(self, model: FPD, recipe: Recipe, splits: Splits, seed: int, state: Path | None):
        self.model, self.seed, self.state = model, seed, state
        images = first(splits.train, recipe.images)
        self.images, self.device = images, images.labels.device
        chosen_on = splits.test if recipe.selection == "test" else splits.held_out
        self.selection = first(chosen_on, recipe.measured)
        if len(images) < recipe.batch_size * recipe.parts and recipe.parts > 1:
            raise FPDError(f"parts is {recipe.parts}; accepted: up to {len(images) // recipe.batch_size or 1}, a batch of "
                           f"{recipe.batch_size} each of {len(images)} images.")  # fmt: skip
        model.to(self.device, memory_format=torch.channels_last).train()
        if recipe.threshold_share is not None and getattr(model, "decoder", None) is None:
            raise FPDError("threshold_share is a share of the restoration error; this network restores nothing.")
        if recipe.threshold_share is not None:  # before anything is loaded: the same when the run continues
            recipe = replace(recipe, threshold=recipe.threshold_share * first_error(model, images, recipe.batch_size))
        self.recipe = recipe
        self.optimizer, self.advance = prepare(model, recipe, self.device)
        self.plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(self.optimizer, factor=0.1, patience=recipe.plateau * recipe.parts)
        self.now = {"epoch": 0, "step": 0, "latched": False, "best": -1.0, "best_epoch": -1, "log": [], "seconds": 0.0}
        self.sums, self.best = torch.zeros(len(SUMS), dtype=torch.float64, device=self.device), {}
        if state is not None and state.exists():
            self.now, self.sums, self.best = load_state(state, model, self.optimizer, self.plateau, self.device)
        if self.now.setdefault("of", of := key_of("run", [recipe, seed])) != of:
            raise FPDError(f"{state} is of another recipe or seed; accepted: the state of this run. Delete it, or name another file.")
        self.steps = max(len(images) // recipe.batch_size // recipe.parts, 1)  # of a part
        self.lines = recipe.epochs * recipe.parts
        self.started, self.before = time.monotonic(), self.now["seconds"]
        self.next_save = self.started + SAVE_EVERY

    @property
    def going_on(self) -> bool:
        stale = self.now["epoch"] - 1 - self.now["best_epoch"]
        return self.now["epoch"] < self.lines and stale < self.recipe.patience * self.recipe.parts

    def order(self) -> Tensor:
        """The images of the part that is being trained, each of an epoch once."""
        epoch, part = divmod(self.now["epoch"], self.recipe.parts)
        order = torch.randperm(len(self.images), generator=generator("cpu", self.seed, epoch))
        return order[part * self.steps * self.recipe.batch_size :].to(self.device)

    def clock(self) -> None:
        self.now["seconds"] = self.before + time.monotonic() - self.started

    def save(self) -> None:
        self.clock()
        begun = time.monotonic()
        if self.state is not None:
            save_state(self.state, self.model, self.optimizer, self.plateau, self.now, self.sums, self.best)
        self.next_save = time.monotonic() + max(SAVE_EVERY, (time.monotonic() - begun) / SAVE_SHARE)

    def step(self, order: Tensor) -> None:
        """One step of the part whose images come in this order."""
        recipe, now = self.recipe, self.now
        progress = (now["epoch"] * self.steps + now["step"]) / (self.lines * self.steps)
        if recipe.schedule in CYCLES:
            set_lr(self.optimizer, recipe.lr * CYCLES[recipe.schedule](progress))
        draws = generator(self.device, self.seed, now["epoch"], now["step"])
        torch.manual_seed(int(draws.initial_seed() % 2**63))  # dropout
        index = order[now["step"] * recipe.batch_size :][: recipe.batch_size]
        x, y = self.images.batch(index), self.images.labels[index]
        if recipe.augment:
            x = augment(x, draws)
        x = x.contiguous(memory_format=torch.channels_last)
        noise = (torch.rand(x.shape, generator=draws, device=self.device) * 2 - 1) * recipe.noise  # lines 3-5
        if recipe.adversary is not None and now["epoch"] >= recipe.adversary.delay * recipe.parts:
            result = harden(self.model, self.optimizer, recipe, x, y, noise, draws, strength(recipe, progress))
        else:
            result = self.advance(x, y, noise, now["latched"])
        now["latched"] |= recipe.gate == "latch" and not result.get("gated")
        row = [1.0, *(result.get(name, 0.0) for name in SUMS[1:])]
        self.sums += torch.stack([torch.as_tensor(v, dtype=torch.float64, device=self.device).detach() for v in row])
        now["step"] += 1

    def end_epoch(self) -> dict:
        """Measure on held-out images, keep the weights if they are the best, and return the epoch's line of the log."""
        self.clock()
        now, row = self.now, self.line(measure(self.model, self.selection))
        now["log"].append(row)
        if self.recipe.adversary is not None:
            row["held_out_adversarial"] = resist(self.model, self.recipe.adversary, self.selection, self.seed)
        if self.recipe.schedule == "plateau":
            self.plateau.step(row["held_out_loss"])
        if score(row) > now["best"]:
            now["best"], now["best_epoch"] = score(row), now["epoch"]
            self.best = {name: tensor.clone() for name, tensor in self.model.state_dict().items()}
        self.sums.zero_()
        now["epoch"], now["step"] = now["epoch"] + 1, 0
        return row

    def line(self, measured: tuple[float, float, float]) -> dict:
        """The epoch's line of the log (`LOG`)."""
        total = dict(zip(SUMS, self.sums.tolist(), strict=True))
        open_steps, images = max(total["steps"] - total["gated"], 1), max(total["images"], 1)
        row = {"epoch": self.now["epoch"], "lr": float(self.optimizer.param_groups[0]["lr"]), "seconds": self.now["seconds"]}
        row |= {name: total[name] / total["steps"] for name in ("loss", "mse")} | {"gate_share": total["gated"] / total["steps"]}
        row |= {name: total[name] / open_steps for name in ("ce", "ce_second", "mse_second", "ce_adversarial")}
        row |= {"train_accuracy": total["correct"] / images, "adversarial_accuracy": total["correct_adversarial"] / images}
        row |= dict(zip(("held_out_accuracy", "held_out_loss", "held_out_mse"), measured, strict=True))
        return {name: row[name] for name in LOG}


def set_lr(optimizer, lr: float) -> None:
    for group in optimizer.param_groups:
        if isinstance(group["lr"], Tensor):  # graphs read it where it lies
            group["lr"].fill_(lr)
        else:
            group["lr"] = lr


def save_state(path: Path, model, optimizer, plateau, run: dict, sums: Tensor, best: dict) -> None:
    """Everything a run continues from, in one safetensors file (numbers that are not tensors in its header)."""
    tensors = {f"model/{k}": v for k, v in model.state_dict().items()}
    tensors |= {f"best/{k}": v for k, v in best.items()}
    tensors |= {f"optimizer/{i}/{k}": v for i, s in optimizer.state_dict()["state"].items() for k, v in s.items()}
    tensors["sums"] = sums
    tensors = {k: v.detach().cpu().clone(memory_format=torch.contiguous_format) for k, v in tensors.items()}
    header = {
        "run": json.dumps(run),
        "plateau": json.dumps({k: v for k, v in plateau.state_dict().items() if isinstance(v, (int, float, list))}, default=float),
        "lr": json.dumps(float(optimizer.param_groups[0]["lr"])),
    }
    replace_file(path, lambda temporary: save_file(tensors, temporary, header))


def load_state(path: Path, model, optimizer, plateau, device) -> tuple[dict, Tensor, dict]:
    try:
        with safe_open(path, "pt", device=str(device)) as file:
            header = file.metadata()
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
        model.load_state_dict({k[6:]: v for k, v in tensors.items() if k.startswith("model/")})
        state = optimizer.state_dict()
        for key in tensors:
            if key.startswith("optimizer/"):
                _, index, name = key.split("/", 2)
                where = "cpu" if name == "step" and not state["param_groups"][0].get("capturable") else device
                state["state"].setdefault(int(index), {})[name] = tensors[key].to(where)
        optimizer.load_state_dict(state)
        set_lr(optimizer, json.loads(header["lr"]))
        plateau.load_state_dict(json.loads(header["plateau"]))
        best = {k[5:]: v for k, v in tensors.items() if k.startswith("best/")}
        return json.loads(header["run"]), tensors["sums"], best
    except (SafetensorError, RuntimeError, KeyError, TypeError, ValueError) as error:
        raise FPDError(f"{path} is damaged ({error}). Delete it to start this network again.") from error


def prepare(model: FPD, recipe: Recipe, device: torch.device) -> tuple[torch.optim.Optimizer, Callable]:
    """The optimizer, and Algorithm 1's step on (x, y, noise, latched) with it: as CUDA graphs where they are possible and not
    forbidden (FPD_GRAPHS=0)."""
    make = functools.partial(OPTIMIZERS[recipe.optimizer], model.parameters(), weight_decay=recipe.weight_decay)
    possible = device.type == "cuda" and recipe.optimizer in ("adam", "adamax") and recipe.adversary is None
    if possible and os.environ.get("FPD_GRAPHS") != "0":
        optimizer = make(lr=torch.tensor(recipe.lr, device=device), capturable=True)
        return optimizer, Captured(model, optimizer, recipe)
    optimizer = make(lr=recipe.lr)
    return optimizer, functools.partial(step, model, optimizer, recipe)


@undisturbed()
def train(model: FPD, recipe: Recipe, splits: Splits, seed: int, state: Path | None = None,
          budget: Budget | None = None) -> list[dict]:  # fmt: skip
    """Train `model` in place and leave the best epoch's weights in it; returns the log, one row (`LOG`) an epoch or part of one,
    numbered from 0 in its column `epoch`.

    splits: on the model's device. state: file that holds the run's state; if it exists, the run continues from it.
    Raises FPDError on a non-finite loss or an unusable state file, BudgetExhausted or KeyboardInterrupt after saving.
    """
    budget, run = budget or Budget(), Run(model, recipe, splits, seed, state)
    with between_steps() as stop:
        while run.going_on:
            order = run.order()
            while run.now["step"] < run.steps:
                run.step(order)
                expired = budget.expired()  # after a step, so that the shortest budget still makes progress
                if stop.is_set() or expired or time.monotonic() > run.next_save:
                    run.save()
                    if stop.is_set():
                        raise KeyboardInterrupt
                    if expired:
                        raise BudgetExhausted
            run.end_epoch()
        if stop.is_set():  # asked for while the last epoch was measured
            run.save()
            raise KeyboardInterrupt
    log, best = run.now["log"], run.best
    del run  # with its graphs, whose memory nothing else could use
    model.zero_grad(set_to_none=True)
    gc.collect()
    torch.cuda.empty_cache()
    model.load_state_dict(best)
    model.eval()
    return log


@torch.no_grad()
def first_error(model: FPD, images: Images, batch_size: int) -> float:
    """The restoration error with which training starts: of the first images, in training mode; the model is left as it was."""
    x, before = images.batch(slice(0, batch_size)), {name: tensor.clone() for name, tensor in model.state_dict().items()}
    error = float(F.mse_loss(model.front(x).restored, x))
    model.load_state_dict(before)  # running statistics
    return error


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


def score(row: dict) -> float:
    """What chooses the epoch, from its line of the log: accuracy on held-out images, attacked ones if it trained on such."""
    return row.get("held_out_adversarial", row["held_out_accuracy"])


def best_epoch(log: list[dict]) -> int:
    return max(log, key=score)["epoch"]


# Factors on the learning rate: linear warm-up over the first tenth, then a cosine down to zero; linear up over the first 40 %, linear
# down to zero (Wong et al. 2020).
CYCLES = {
    "one-cycle": lambda p: p / 0.1 + 0.01 if p < 0.1 else 0.5 * (1 + math.cos(math.pi * (p - 0.1) / 0.9)),
    "cyclic": lambda p: p / 0.4 + 0.001 if p < 0.4 else (1 - p) / 0.6,
}
