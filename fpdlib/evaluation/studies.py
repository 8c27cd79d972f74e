"""Measurements of a trained network beside its outcomes, each a frozen value that runs on it: the gradient-masking checks, the
restored images of Fig. 5, and what the text claims and no table shows: smoothness (Sec. 3.3), stability in a neighbourhood
(Sec. 3.4), the threshold on badly restored images that Sec. 5 proposes; and what rounding does to the published attack.

`run(model, splits, seed, others)` gives {name: data frame or arrays}; `save` and `read` keep them as files.
"""

import io
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch import Tensor, nn

from fpdlib.attacks import adapters
from fpdlib.attacks.methods import PGD, AutoAttack, MadeForFPD
from fpdlib.attacks.spec import AttackSpec
from fpdlib.attacks.views import View, loss_gradient
from fpdlib.data.images import Images, Splits
from fpdlib.evaluation.diagnostics import TANH_IS_ONE, DiagnosisSpec, diagnose
from fpdlib.evaluation.outcomes import craft, evaluate, test_order
from fpdlib.network.answers import NOT_A_NUMBER, OVERFLOWS, attacked, in_float64, predict
from fpdlib.runtime import generator

Found = dict[str, pd.DataFrame | dict[str, np.ndarray]]


PAIRS = {
    "adversarial / clean": ("adversarial", "clean"),
    "restored(adversarial) / clean": ("restored_adversarial", "clean"),
    "restored(clean) / clean": ("restored_clean", "clean"),
    "restored(adversarial) / restored(clean)": ("restored_adversarial", "restored_clean"),
}
GALLERY = 3  # images per class that are kept for the pictures


class Study:
    """version: raised when what `run` computes changes on purpose (part of the key). several: made on every trained network of its
    kind; else it describes one, the first seed's."""

    version: ClassVar[int] = 1
    several: ClassVar[bool] = False

    @property
    def what(self) -> str:
        return type(self).__name__.lower()

    def run(self, model: nn.Module, splits: Splits, seed: int, others: list[nn.Module]) -> Found: ...


class PerImage(Study):
    """A study that measures its first `images` test images, a hundred at a time: `measure(model, x, y, index, seed)` -> frame."""

    def run(self, model: nn.Module, splits: Splits, seed: int, others: list[nn.Module]) -> Found:
        test, measure = splits.test, attacked(self.measure)
        index = test_order(len(test))[: self.images].to(test.labels.device)
        frames = [measure(model, test.batch(part), test.labels[part], part, seed) for part in index.split(100)]
        return {"study": pd.concat(frames, ignore_index=True)}


@dataclass(frozen=True)
class Diagnosis(Study):
    """The gradient-masking checks of a network and its loss landscape (see `diagnostics`); the other network is for transfers."""

    spec: DiagnosisSpec

    def run(self, model: nn.Module, splits: Splits, seed: int, others: list[nn.Module]) -> Found:
        checks, grid = diagnose(model, splits.test, self.spec, seed, *others)
        return {"checks": checks, "landscape": grid}


@dataclass(frozen=True)
class Overflow(Study):
    """Outcomes of an attack by what an output that is not a number counts as: column `overflow`, 'broken' or 'confirmed'
    (see `answers.wrong`; then the attack goes on where float64 is right)."""

    attack: AttackSpec

    def run(self, model: nn.Module, splits: Splits, seed: int, others: list[nn.Module]) -> Found:
        found = {how: evaluate(model, splits, replace(self.attack, overflow=how), seed)[0] for how in OVERFLOWS}
        return {"overflow": pd.concat(found, names=["overflow"]).reset_index(0)}


@dataclass(frozen=True)
class Restoration(Study):
    """PSNR and SSIM of what a network restores from attacked images, and pictures (see `restore`)."""

    attack: AttackSpec

    def run(self, model: nn.Module, splits: Splits, seed: int, others: list[nn.Module]) -> Found:
        frame, pictures = restore(model, splits, self.attack, seed)
        return {"restoration": frame, "pictures": pictures}


@dataclass(frozen=True)
class Smoothness(PerImage):
    """Per image, how much the loss gradient turns within `radius`: 1 - cosine between the gradients at x and at x + noise.

    On the logits before tanh with bounded margins, so that saturation does not count as smoothness. 0 is a plane.
    """

    images: int
    radius: float = 0.01

    def measure(self, model: nn.Module, x: Tensor, y: Tensor, part: Tensor, seed: int) -> pd.DataFrame:
        view = View(model, "pre-squeeze").eval()
        _, here = loss_gradient(view, x, y)
        draws, turns = generator(x.device, seed, int(part[0])), []
        for _ in range(5):
            _, there = loss_gradient(view, (x + noise(x, self.radius, draws)).clamp(0, 1), y)
            turns.append(1 - F.cosine_similarity(here.flatten(1), there.flatten(1)))
        return pd.DataFrame({"index": part.cpu().numpy(), "turn": torch.stack(turns).mean(0).cpu().numpy()})


@dataclass(frozen=True)
class Neighbourhood(PerImage):
    """Per image and delta, the share of uniform draws within delta that leave the network's answer as it is (Sec. 3.4).

    deltas: in pixel units; the training noise is 0.01.
    """

    images: int
    draws: int = 20
    deltas: tuple[float, ...] = (0.01, 0.05, 0.1, 0.3)

    def measure(self, model: nn.Module, x: Tensor, y: Tensor, part: Tensor, seed: int) -> pd.DataFrame:
        answer, frames = predict(model, x), []
        for number, delta in enumerate(self.deltas):
            draws, same = generator(x.device, seed, int(part[0]), number), torch.zeros(len(x), device=x.device)
            for _ in range(self.draws):
                same += predict(model, (x + noise(x, delta, draws)).clamp(0, 1)) == answer
            stable = (same / self.draws).cpu().numpy()
            frames.append(pd.DataFrame({"index": part.cpu().numpy(), "delta": delta, "stable": stable}))
        return pd.concat(frames, ignore_index=True)


@dataclass(frozen=True)
class Filter(PerImage):
    """Per image, clean, attacked (PGD before tanh, 40 steps) and evading (the same, which at once lowers what the filter sees): the
    restoration error against the network's own input, and right.

    What a deployed filter can see is the distance of the restored image from the image it was given, not from the clean one.
    """

    images: int
    eps: float = 0.1
    version: ClassVar[int] = 2

    def measure(self, model: nn.Module, x: Tensor, y: Tensor, part: Tensor, seed: int) -> pd.DataFrame:
        view, frames = View(model, "pre-squeeze").eval(), []
        run = partial(adapters.pgd, view, x, y, self.eps, 40, None, True, seed + int(part[0]), classes := model.spec.num_classes)
        attacked = run()
        with view.seeing("restored"):
            evading = run(loss=adapters.RestorationLoss(classes, -1.0))
        for kind, images in (("clean", x), ("attacked", attacked), ("evading", evading)):
            with torch.no_grad():
                error = (model.front(images).restored - images).square().flatten(1).mean(1)
            right = (predict(model, images) == y).cpu().numpy()
            frames.append(pd.DataFrame({"index": part.cpu().numpy(), "images": kind, "error": error.cpu().numpy(), "right": right}))
        return pd.concat(frames, ignore_index=True)


@dataclass(frozen=True)
class Adaptive(Study):
    """Per image, which attacks break it within an epsilon at which some of F's stand: each of those made for FPD alone, with the
    gradient of its denoising layers replaced among them (Sec. 2), PGD with as many steps, and AutoAttack; and whether the image is
    right unattacked, with and without the denoising layers.

    attack: the epsilon, the images and the protocol; auto: AutoAttack's parts and cost; steps: of the others. The frame has a row per
    image and attack, with `stands`.
    """

    attack: AttackSpec
    auto: AutoAttack
    steps: int
    several = True
    version: ClassVar[int] = 2

    def run(self, model: nn.Module, splits: Splits, seed: int, others: list[nn.Module]) -> Found:
        methods = {"PGD": PGD(((self.steps, self.attack.eps[0] / 10, 1),)), "AutoAttack": self.auto}
        methods |= {f"through {part}": MadeForFPD(self.steps, (part,)) for part in model.parts}
        methods |= {"momentum": MadeForFPD(self.steps, ("pre-squeeze",))}
        found = {name: evaluate(model, splits, replace(self.attack, method=method), seed)[0] for name, method in methods.items()}
        frame = pd.concat(found, names=["attack"]).reset_index(0).assign(stands=lambda frame: ~frame["broken"])
        clean = found["PGD"].assign(attack="none", stands=lambda frame: frame["clean_prediction"] == frame["label"])
        bare = clean.assign(attack="none, without denoising", stands=without(model, splits.test, clean))
        return {"study": pd.concat([clean, bare, frame])[["attack", "index", "label", "stands"]]}


@dataclass(frozen=True)
class Precision(PerImage):
    """Per image, Table 1's PGD as published (Sec. 4.1: from the image itself, the softmax of the deployed output) with the network's
    arithmetic in float32 and in float64: whether the deployed network, in float32, still gives the returned image its label, and
    whether it came back as it was. Where only more digits set the attack going, its gradient was lost to rounding: `saturated` says
    where tanh is 1 or -1 in float32 for every class of the clean image. Not by ART, whose images and gradients are float32."""

    images: int
    eps: float = 0.3
    steps: int = 40
    step_size: float = 0.01
    several = True

    def measure(self, model: nn.Module, x: Tensor, y: Tensor, part: Tensor, seed: int) -> pd.DataFrame:
        with torch.no_grad():
            saturated = (model.pre_squeeze(x).abs() >= TANH_IS_ONE).all(1)
        frames = []
        for precision, network in (("float32", model), ("float64", in_float64(model))):
            view, z = View(network, "softmax").eval(), x.to(next(network.parameters()).dtype)
            for _ in range(self.steps):
                _, gradient = loss_gradient(view, z, y)
                z = (z + self.step_size * gradient.sign()).clamp(x - self.eps, x + self.eps).clamp(0, 1)
            returned = z.to(x.dtype)
            stands, unmoved = predict(model, returned) == y, (returned == x).flatten(1).all(1)
            columns = {"index": part, "stands": stands, "unmoved": unmoved, "saturated": saturated}
            frames.append(pd.DataFrame({"precision": precision} | {name: value.cpu().numpy() for name, value in columns.items()}))
        return pd.concat(frames, ignore_index=True)


@attacked
def without(model: nn.Module, test: Images, frame: pd.DataFrame) -> np.ndarray:
    """Whether the network without its denoising layers is right on the images of an outcome."""
    with model.without_denoising() if "bare" in model.parts else nullcontext():
        said = torch.cat([predict(model, test.batch(part)) for part in torch.tensor(frame["index"].to_numpy()).split(100)])
    return said.cpu().numpy() == frame["label"].to_numpy()


def noise(x: Tensor, size: float, draws: torch.Generator) -> Tensor:
    return (torch.rand(x.shape, generator=draws, device=x.device) * 2 - 1) * size


@attacked
def restore(model: nn.Module, splits: Splits, attack: AttackSpec, seed: int) -> tuple[pd.DataFrame, dict[str, np.ndarray]]:
    """PSNR (dB) and SSIM of each attacked image and its restorations, and the pictures of the first three per class as uint8.

    attack: white-box, one attempt. The frame has a row per image and pair of `PAIRS`, with label and both predictions.
    """
    index = test_order(len(splits.test), attack.order)[: attack.images].to(splits.test.labels.device)
    images = {"clean": splits.test.batch(index), "adversarial": craft(model, splits, attack, seed)[0]}
    with torch.no_grad():
        for name in ("adversarial", "clean"):
            restored = [model.front(part).restored.clamp(0, 1) for part in images[name].split(100)]
            images[f"restored_{name}"] = torch.cat(restored)
    labels = splits.test.labels[index].cpu().numpy()
    answers = {name: torch.cat([predict(model, p) for p in images[name].split(100)]).cpu().numpy()
               for name in ("clean", "adversarial")}  # fmt: skip
    lines = []
    for pair, (a, b) in PAIRS.items():
        for position, (first, second) in enumerate(zip(_arrays(images[a]), _arrays(images[b]), strict=True)):
            lines.append(
                {"index": int(index[position]), "label": int(labels[position]), "pair": pair,
                 "psnr": psnr(first, second), "ssim": structural_similarity(first, second, channel_axis=2, data_range=1.0),
                 "clean_prediction": int(answers["clean"][position]),
                 "adversarial_prediction": int(answers["adversarial"][position])}
            )  # fmt: skip
    kept = np.concatenate([np.flatnonzero(labels == label)[:GALLERY] for label in np.unique(labels)])
    pictures = {name: (255 * _arrays(value[kept])).round().astype(np.uint8) for name, value in images.items()}
    pictures |= {"labels": labels[kept], **{f"{name}_prediction": values[kept] for name, values in answers.items()}}
    return pd.DataFrame(lines), pictures


def _arrays(images: Tensor) -> np.ndarray:
    return images.permute(0, 2, 3, 1).cpu().numpy().astype(np.float32)


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    """Peak signal-to-noise ratio in dB for images in [0, 1]; 100 for equal ones."""
    return 100.0 if np.array_equal(a, b) else float(min(peak_signal_noise_ratio(b, a, data_range=1.0), 100.0))


def survivors(frame: pd.DataFrame) -> dict[str, int]:
    """How many breaks of `Overflow` rest on an output that is not a number, and what the same weights say in float64."""
    first, second = (frame[frame["overflow"] == how] for how in ("broken", "confirmed"))
    silent = first[first["broken"] & (first["adversarial_prediction"] == NOT_A_NUMBER)]
    finite = silent["float64_prediction"] != NOT_A_NUMBER
    right = silent["float64_prediction"] == silent["label"]
    return {
        "images": len(first), "broken": int(first["broken"].sum()), "of them by NaN alone": len(silent),
        "in float64: wrong": int((finite & ~right).sum()), "in float64: not finite": int((~finite).sum()),
        "in float64: right": int(right.sum()), "broken when the attack goes on": int(second["broken"].sum()),
    }  # fmt: skip


def save(folder: Path, found: Found) -> None:
    """Frames as CSV, arrays as compressed NumPy files."""
    for name, content in found.items():
        if isinstance(content, pd.DataFrame):
            content.to_csv(folder / f"{name}.csv", index=False, float_format="%.6g")
        else:
            np.savez_compressed(folder / f"{name}.npz", **content)


def read(files: dict[str, Path | io.BytesIO]) -> Found:
    """What `save` wrote, by name."""
    found: Found = {}
    for name, file in files.items():
        if name.endswith(".csv"):
            found[Path(name).stem] = pd.read_csv(file)
        elif name.endswith(".npz"):
            with np.load(file, allow_pickle=False) as arrays:
                found[Path(name).stem] = dict(arrays)
    return found
