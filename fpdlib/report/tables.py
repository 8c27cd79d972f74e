"""Measured numbers beside the paper's, tidy, and how a reader is told what they are. Every notebook makes its own table of them.

A number measured on a stand-in is never put beside one of the paper's. Accuracies are percent.
"""

import math
from collections.abc import Iterable

import pandas as pd

from fpdlib.errors import NotComputed
from fpdlib.paper import published
from fpdlib.report.measures import clean, measurement
from fpdlib.results.evidence import Evidence

# our columns -> the paper's
COLUMNS = {
    "linf-fgsm": "Linf-FGSM", "linf-pgd": "Linf-PGD", "linf-cw": "Linf-C&W", "l2-fgsm": "L2-FGSM", "l2-pgd": "L2-PGD",
    "l2-cw": "L2-C&W", "l2-deepfool": "L2-DeepFool",
}  # fmt: skip
PRINTED_BACKBONES = {"resnet101": "ResNet-101", "resnet50": "ResNet-50", "resnext50": "ResNeXt-50"}


def measured(evidence: Evidence, names: Iterable[str], measures: Iterable[str] | None = None) -> pd.DataFrame:
    """A line per network and measure that is there: `value` in percent, its Wilson 95 % interval [low, high] at n images, the range
    over seeds, `nan` and `masked` (see `measures.measurement`), and the network's clean accuracy.

    measures: attacks of the suite, 'worst...', 'radius...' or 'average'; default: all of the suite, a sound attack as the worst case
    over all of its norm. What is missing is left out; NotComputed if all of it is.
    """
    lines, suite = [], evidence.profile.attacks
    for name in names:
        for measure in measures or [key.replace("sound", "worst", 1) if key.startswith("sound") else key for key in suite]:
            try:
                found, accuracy = measurement(evidence, name, measure), clean(evidence, name)
            except NotComputed:
                continue
            attack = measure.replace("worst", "sound", 1) if measure.startswith("worst") else measure
            protocol, _, column = attack.partition("/")
            base = {"network": name, "clean": accuracy["value"], "clean_n": accuracy["n"], "undertrained": accuracy["undertrained"],
                    "measure": measure, "protocol": protocol, "column": column}  # fmt: skip
            lines.append(base | {"eps": suite[attack].eps[-1] if attack in suite else math.nan} | found)
    if not lines:
        command = f"python -m fpdlib work --plan {evidence.setting} --profile {evidence.profile.name}"
        raise NotComputed(
            f"{evidence.setting}: nothing of it is in the store {evidence.store.root} or committed; `{command}` computes it."
        )
    return pd.DataFrame(lines)


def text(line: pd.Series) -> str:
    """A number of `measured` with its interval, for people."""
    return f"{line['value']:.1f} [{line['low']:.0f}, {line['high']:.0f}]" + " masked" * bool(line["masked"])


def caption(evidence: Evidence, cells: str = "") -> str:
    """What a reader has to know of a table's numbers, in a sentence or two."""
    profile, names = evidence.profile, evidence.names
    mark = "STAND-IN images, not comparable with the paper: " if profile.stand_in else ""
    changed = f" ({profile.changes})" if profile.changes else ""
    per_network = [evidence.seeds(name, attacks=()) for name in names]
    seeds = ", ".join(str(seed) for seed in evidence.planned_seeds if any(seed in of for of in per_network))
    fewer = " (some networks fewer)" if len({len(of) for of in per_network if of}) > 1 else ""
    gone = f" Not everything is there of {', '.join(evidence.missing())}." if evidence.missing() else ""
    counts = sorted({spec.images for spec in profile.attacks.values()})
    return (
        f"{mark}profile {profile.name}{changed}, {profile.dataset}, {profile.network.backbone} family at "
        f"{profile.network.image_size} pixels, seeds {seeds or 'none'}{fewer}; accuracy in percent with Wilson 95 % "
        f"intervals, n = {counts[0]} to {counts[-1]} "
        f"test images by attack (in the CSV){cells}; masked: the worst case on the same images is clearly lower. "
        f"An output that is not a number counts as broken (where float64 is wrong too on the same pixels).{gone}"
    )


def printed(evidence: Evidence, table: int | str, network: str, column: str, section: str, metric: str = "accuracy") -> float:
    """A number that the paper prints, to stand beside one of this evidence's: nan beside a stand-in, and where it prints none."""
    if evidence.profile.stand_in:
        return math.nan
    found = published.load(table).query("network == @network and section == @section and metric == @metric")
    return float(next(iter(found.loc[found["attack"] == COLUMNS.get(column, column), "value"]), math.nan))
