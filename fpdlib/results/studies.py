"""Measurements of a trained network beside its outcomes, each kept in the store (`Lab.study`): the gradient-masking checks, the
restored images of Fig. 5, and what the text claims and no table shows: smoothness (Sec. 3.3), stability in a neighbourhood
(Sec. 3.4), the threshold on badly restored images that Sec. 5 proposes.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fpdlib.attacks import adapters
from fpdlib.evaluation import diagnostics, restoration
from fpdlib.network.answers import NOT_A_NUMBER, OVERFLOWS, predict
from fpdlib.attacks.views import View, loss_gradient
from fpdlib.errors import choose
from fpdlib.evaluation.outcomes import evaluate, test_order
from fpdlib.results.lab import Lab
from fpdlib.runtime import generator
from fpdlib.paper.suites import EPS_SVHN

IMAGES = {"smoke": 50, "laptop": 500, "paper-short": 1000, "paper": 10_000}
DELTAS = (0.01, 0.05, 0.1, 0.3)  # pixel units; the training noise is 0.01
FILTER_EPS = 0.1


def diagnosis(lab: Lab, name: str, surrogate: str = "ReLU") -> tuple[pd.DataFrame, pd.DataFrame]:
    """The gradient-masking checks of a network and its loss landscape (see `diagnostics`)."""
    spec = diagnostics.DIAGNOSES[lab.profile.name]
    spec = replace(spec, eps=0.3 if "mnist" in lab.profile.dataset else EPS_SVHN)

    def say(what: str) -> None:
        if lab.progress:
            print(f"  {name}: {what}", flush=True)

    def compute(model: nn.Module) -> dict:
        other = lab.model(surrogate) if surrogate != name else None
        checks, grid = diagnostics.diagnose(model, lab.splits.test, spec, lab.seed, other, say)
        return {"checks.csv": lambda path: checks.to_csv(path, index=False),
                "landscape.csv": lambda path: grid.to_csv(path, index=False, float_format="%.6g")}  # fmt: skip

    files = lab.study(name, "diagnosis", spec, compute)
    return pd.read_csv(files["checks.csv"]), pd.read_csv(files["landscape.csv"])


def overflow(lab: Lab, name: str, attack: str = "sound/linf", images: int = 200) -> pd.DataFrame:
    """Outcomes of an attack on a network, at most `images` of them, by what an output that is not a number counts as: column
    `overflow`, 'broken' or 'confirmed' (see `answers.wrong`; then the attack goes on where float64 is right)."""
    spec = lab.profile.attacks[choose("attack", attack, lab.profile.attacks)]
    spec = replace(spec, images=min(spec.images, images), overflow="confirmed")

    def compute(model: nn.Module) -> dict:
        found = {how: evaluate(model, lab.splits, replace(spec, overflow=how), lab.seed)[0] for how in OVERFLOWS}
        frame = pd.concat(found, names=["overflow"]).reset_index(0)
        return {"overflow.csv": lambda path: frame.to_csv(path, index=False, float_format="%.6g")}

    return pd.read_csv(lab.study(name, "overflow", spec, compute)["overflow.csv"])


def survivors(frame: pd.DataFrame) -> dict[str, int]:
    """How many breaks of `overflow` rest on an output that is not a number, and what the same weights say in float64."""
    first, second = (frame[frame["overflow"] == how] for how in ("broken", "confirmed"))
    silent = first[first["broken"] & (first["adversarial_prediction"] == NOT_A_NUMBER)]
    finite = silent["float64_prediction"] != NOT_A_NUMBER
    right = silent["float64_prediction"] == silent["label"]
    return {
        "images": len(first), "broken": int(first["broken"].sum()), "of them by NaN alone": len(silent),
        "in float64: wrong": int((finite & ~right).sum()), "in float64: not finite": int((~finite).sum()),
        "in float64: right": int(right.sum()), "broken when the attack goes on": int(second["broken"].sum()),
    }  # fmt: skip


def restored(lab: Lab, name: str, attack: str = "published/linf-pgd") -> tuple[pd.DataFrame, dict]:
    """PSNR and SSIM of what a network restores from images attacked by `attack`, and pictures (see `restoration`)."""
    spec = lab.profile.attacks[choose("attack", attack, lab.profile.attacks)]

    def compute(model: nn.Module) -> dict:
        frame, pictures = restoration.restore(model, lab.splits.test, spec, lab.seed)
        return {"restoration.csv": lambda path: frame.to_csv(path, index=False, float_format="%.6g"),
                "pictures.npz": lambda path: np.savez_compressed(path, **pictures)}  # fmt: skip

    files = lab.study(name, "restoration", spec, compute)
    with np.load(files["pictures.npz"], allow_pickle=False) as pictures:
        return pd.read_csv(files["restoration.csv"]), dict(pictures)


def chosen(lab: Lab) -> Tensor:
    count = min(IMAGES[lab.profile.name], len(lab.splits.test))
    return test_order(len(lab.splits.test))[:count].to(lab.device)


def _study(lab: Lab, name: str, kind: str, spec: dict, measure) -> pd.DataFrame:
    def compute(model: nn.Module) -> dict:
        index = chosen(lab)
        model = model.eval().requires_grad_(False)
        frame = pd.concat(
            [measure(model, lab.splits.test, part, lab.seed) for part in index.split(100)], ignore_index=True
        )
        return {"study.csv": lambda path: frame.to_csv(path, index=False, float_format="%.6g")}

    spec = spec | {"images": IMAGES[lab.profile.name]}
    return pd.read_csv(lab.study(name, kind, spec, compute)["study.csv"])


def smoothness(lab: Lab, name: str, radius: float = 0.01) -> pd.DataFrame:
    """Per image, how much the loss gradient turns within `radius`: 1 - cosine between the gradients at x and at x + noise.

    On the logits before tanh with bounded margins, so that saturation does not count as smoothness. 0 is a plane.
    """

    def measure(model, test, part: Tensor, seed: int) -> pd.DataFrame:
        x, y = test.batch(part), test.labels[part]
        view = View(model, "pre-squeeze").eval()
        _, here = loss_gradient(view, x, y)
        draws, turns = generator(x.device, seed, int(part[0])), []
        for _ in range(5):
            noise = (torch.rand(x.shape, generator=draws, device=x.device) * 2 - 1) * radius
            _, there = loss_gradient(view, (x + noise).clamp(0, 1), y)
            turns.append(1 - F.cosine_similarity(here.flatten(1), there.flatten(1)))
        return pd.DataFrame({"index": part.cpu().numpy(), "turn": torch.stack(turns).mean(0).cpu().numpy()})

    return _study(lab, name, "smoothness", {"radius": radius}, measure)


def neighbourhood(lab: Lab, name: str, draws_each: int = 20) -> pd.DataFrame:
    """Per image and delta, the share of uniform draws within delta that leave the network's answer as it is (Sec. 3.4)."""

    def measure(model, test, part: Tensor, seed: int) -> pd.DataFrame:
        x, frames = test.batch(part), []
        answer = predict(model, x)
        for number, delta in enumerate(DELTAS):
            draws, same = generator(x.device, seed, int(part[0]), number), torch.zeros(len(x), device=x.device)
            for _ in range(draws_each):
                noise = (torch.rand(x.shape, generator=draws, device=x.device) * 2 - 1) * delta
                same += predict(model, (x + noise).clamp(0, 1)) == answer
            frames.append(
                pd.DataFrame({"index": part.cpu().numpy(), "delta": delta, "stable": (same / draws_each).cpu().numpy()})
            )
        return pd.concat(frames, ignore_index=True)

    return _study(lab, name, "neighbourhood", {"draws": draws_each, "deltas": list(DELTAS)}, measure)


def restored_errors(lab: Lab, name: str, eps: float = FILTER_EPS) -> pd.DataFrame:
    """Per image, clean and attacked (PGD before tanh, 40 steps): the restoration error against the network's own input, and right.

    What a deployed filter can see is the distance of the restored image from the image it was given, not from the clean one.
    """

    def measure(model, test, part: Tensor, seed: int) -> pd.DataFrame:
        x, y = test.batch(part), test.labels[part]
        view = View(model, "pre-squeeze").eval()
        attacked = adapters.pgd(view, x, y, eps, 40, None, True, seed + int(part[0]), model.spec.num_classes)
        frames = []
        for kind, images in (("clean", x), ("attacked", attacked)):
            with torch.no_grad():
                restored = model.front(images).restored
            error = (restored - images).square().flatten(1).mean(1)
            right = predict(model, images) == y
            frames.append(pd.DataFrame({"index": part.cpu().numpy(), "images": kind, "error": error.cpu().numpy(),
                                        "right": right.cpu().numpy()}))  # fmt: skip
        return pd.concat(frames, ignore_index=True)

    return _study(lab, name, "filter", {"eps": eps}, measure)


def filtering(frame: pd.DataFrame, kept: tuple[float, ...] = (1.0, 0.95, 0.9, 0.8, 0.5)) -> pd.DataFrame:
    """Accuracy on the images that a threshold keeps, chosen on clean images so that it keeps that share of them (Sec. 5)."""
    lines = []
    clean = frame[frame["images"] == "clean"]["error"]
    for share in kept:
        threshold = np.inf if share == 1 else clean.quantile(share)
        for kind, group in frame.groupby("images", sort=False):
            inside = group[group["error"] <= threshold]
            lines.append({"images": kind, "clean images kept": share, "threshold": threshold, "kept": len(inside) / len(group),
                          "accuracy of kept": inside["right"].mean() if len(inside) else np.nan, "n kept": len(inside),
                          "wrong answers given": float((~inside["right"]).sum() / len(group))})  # fmt: skip
    return pd.DataFrame(lines)


# What notebooks and claims read: (setting, study, network, the networks whose checkpoints it needs besides).
NEEDED = (
    *(("table2", diagnosis, name, ("ReLU",)) for name in ("ReLU", "F", "F_PGD")),
    *(("table2", overflow, name, ()) for name in ("ReLU", "F")),
    *((setting, restored, "F", ()) for setting in ("table2", "svhn-resnet101")),
    ("table2", restored_errors, "F", ()),
    *(("table1", smoothness, name, ()) for name in ("ReLU", "ELU", "ELU+Tanh")),
    *(("beyond", neighbourhood, name, ()) for name in ("F", "F (no noise)", "ReLU")),
)
