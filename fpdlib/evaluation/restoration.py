"""What the restoration module does to attacked images (Sec. 4.2, Fig. 5): pictures, PSNR and SSIM.

Images are float (B, 3, H, W) in [0, 1]; restored images are clipped to it, since the decoder has no clamp.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch import Tensor, nn

from fpdlib.attacks.adapters import project
from fpdlib.attacks.spec import AttackSpec
from fpdlib.attacks.views import View
from fpdlib.evaluation.outcomes import predict, test_order
from fpdlib.network.answers import attacked

PAIRS = {
    "adversarial / clean": ("adversarial", "clean"),
    "restored(adversarial) / clean": ("restored_adversarial", "clean"),
    "restored(clean) / clean": ("restored_clean", "clean"),
    "restored(adversarial) / restored(clean)": ("restored_adversarial", "restored_clean"),
}
GALLERY = 3  # images per class that are kept for the pictures


@attacked
def restore(model: nn.Module, test, attack: AttackSpec, seed: int) -> tuple[pd.DataFrame, dict[str, np.ndarray]]:
    """PSNR (dB) and SSIM of each attacked image and its restorations, and the pictures of the first three per class as uint8.

    attack: white-box, one attempt. The frame has a row per image and pair of `PAIRS`, with label and both predictions.
    """
    view = View(model, attack.method.sees(attack.protocol)).eval()
    ((_, attempt),) = attack.method.attempts(attack.eps[-1])
    index = test_order(len(test), attack.order)[: attack.images].to(test.labels.device)
    parts = []
    for number, part in enumerate(index.split(attack.batch_size)):
        x, y = test.batch(part), test.labels[part]
        adversarial = attempt(view, x, y, seed=seed * 100_003 + number, classes=model.spec.num_classes)
        parts.append(project(adversarial, x, attack.eps[-1], attack.norm))
    images = {"clean": test.batch(index), "adversarial": torch.cat(parts)}
    with torch.no_grad():
        for name in ("adversarial", "clean"):
            restored = [model.front(part).restored.clamp(0, 1) for part in images[name].split(100)]
            images[f"restored_{name}"] = torch.cat(restored)
    labels = test.labels[index].cpu().numpy()
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


def summary(frame: pd.DataFrame) -> pd.DataFrame:
    """Mean PSNR and SSIM per pair with 95 % bootstrap intervals."""
    rng, lines = np.random.default_rng(0), []
    for pair, group in frame.groupby("pair", sort=False):
        line = {"pair": pair, "n": len(group)}
        for name in ("psnr", "ssim"):
            values = group[name].to_numpy()
            low, high = np.quantile(rng.choice(values, (2000, len(values))).mean(1), (0.025, 0.975))
            line |= {name: values.mean(), f"{name}_low": low, f"{name}_high": high}
        lines.append(line)
    return pd.DataFrame(lines)
