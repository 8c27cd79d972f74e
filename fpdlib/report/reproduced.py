"""Whether what was computed elsewhere agrees with the committed evidence: what "reproduced" means; and attacks made again here."""

import random
from dataclasses import astuple
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from fpdlib import evaluation
from fpdlib.attacks.radius import Radius
from fpdlib.data.datasets import DATASETS
from fpdlib.errors import NotComputed
from fpdlib.results.committed import Committed
from fpdlib.results.inputs import Inputs, device_of
from fpdlib.results.provenance import provenance
from fpdlib.results.store import Store

SHORT = 60  # seconds that an attack took, to be made again
BOUNDARY = "l2-deepfool"  # of ART: it returns images at the boundary between two classes, where rounding decides (notebook 09)
EXACT = 1e-6  # of a mean of shares, in float64, where the interval is a point
ACCEPTED = 0.01  # of the images of an attack, or one image: another processor rounds otherwise


def reproduced(rows: pd.DataFrame, store: Store) -> pd.DataFrame:
    """A line per number that a store computed itself and the committed evidence of the same plan has too (percent).

    `committed` with its 95 % interval [low, high] and `here`: clean accuracy, or what an attack leaves (Wilson's), or of a search for
    radii the area under its robustness curve (t, over images), of each network and seed; `inside`: whether the interval contains what
    was computed here. Studies are not compared. Raises NotComputed if there is nothing to compare.
    """
    own, lines = Store(store.root, Committed(store.root / "none")), []
    for line in rows[rows["kind"].isin(["networks", "outcomes"])].drop_duplicates("key").itertuples():
        if own.has(line.result) and store.committed.has(line.key):
            before, here = (scores(line, where) for where in (store, own))
            if searches(line):
                value, half = before.mean(), 0.0
                if len(before) > 1:
                    half = stats.t.ppf(0.975, len(before) - 1) * stats.sem(before)
                low, high = value - half, value + half
            else:
                value, _, low, high = astuple(evaluation.rate(before))
            lines.append({
                "setting": line.setting, "network": line.network, "seed": line.seed, "n": len(before),
                "what": f"area ({line.attack})" if searches(line) else line.attack or "clean",
                "committed": 100 * value, "low": 100 * low, "high": 100 * high, "here": 100 * float(here.mean()),
                "inside": bool(low - EXACT <= here.mean() <= high + EXACT),
            })  # fmt: skip
    if not lines:
        raise NotComputed(
            f"nothing in the store {store.root} is also in {store.committed.folder}; compute a part of it anew with FPD_RESULTS "
            "naming another folder, e.g. `FPD_RESULTS=none python -m fpdlib work --profile laptop --plan table1 --networks F`."
        )
    return pd.DataFrame(lines)


def again(rows: pd.DataFrame, committed: Committed, folder: Path, count: int, device: str = "auto",
          draw: int | None = None) -> pd.DataFrame:  # fmt: skip
    """Attack some networks of the committed checkpoints again and hold every image against the committed outcome.

    The cells are drawn among the outcomes that took less than a minute and rest on bundled images and committed weights alone: a
    substitute of a transfer is trained anew, and another processor trains it otherwise. folder: of what is made. A line each: `n`
    images, how many stood then and here, on how many the answer or fate is `different`, and on how many it differs `at the
    boundary` alone: DeepFool returned an image as far away as then. NotComputed if no such outcome is committed.
    """
    short = [line for line in rows[rows["kind"] == "outcomes"].drop_duplicates("key").itertuples()
             if committed.has(line.key) and line.result.attack.surrogate is None and committed.checkpoint(line.result.network.key)
             and DATASETS[line.result.network.dataset].bundled and committed.entry(line.key)["meta"]["seconds"] < SHORT]  # fmt: skip
    if not short:
        raise NotComputed(f"{committed.folder} has no outcome of a committed checkpoint on bundled images to be made again.")
    store, known, own = Store(folder, committed), Store(folder / "none", committed), Store(folder, Committed(folder / "none"))
    store.prepare()
    inputs, lines = Inputs(store, device_of(device)), []
    for line in random.Random(draw).sample(short, min(count, len(short))):
        store.add(line.result, inputs, provenance(inputs.device))
        before, here = (where.outcome(line.result).set_index(["index", "eps"]).sort_index() for where in (known, own))
        answer, fate = (before[column] != here[column] for column in ("clean_prediction", "broken"))
        rounded = fate & ~answer & np.isclose(before["l2"], here["l2"], rtol=1e-3) & line.attack.endswith(BOUNDARY)
        lines.append({"network": line.network, "attack": line.attack, "n": len(here), "stood then": int((~before["broken"]).sum()),
                      "stood here": int((~here["broken"]).sum()), "different": int(((answer | fate) & ~rounded).sum()),
                      "at the boundary": int(rounded.sum())})  # fmt: skip
    return pd.DataFrame(lines)


def otherwise(found: pd.DataFrame) -> pd.DataFrame:
    """The lines of `again` with more images that are different than another processor explains."""
    return found[found["different"] > np.maximum(1, ACCEPTED * found["n"])]


def searches(line) -> bool:
    """Whether a row of the plan is a search for radii, whose epsilon is no bound that anything could stand at."""
    return line.kind == "outcomes" and isinstance(line.result.attack.method, Radius)


def scores(line, where: Store) -> np.ndarray:
    """Per test image whether a network is right; per attacked image whether it stands at the largest epsilon, or its radius as a
    share of the epsilon that the suite's sound attack has, at most 1."""
    if line.kind == "networks":
        test = where.entry(line.result)["meta"]["test"]
        return np.arange(test["images"]) < test["correct"]
    outcome = where.outcome(line.result)
    if searches(line):
        reach = line.experiment.attacks[line.attack.replace("radius", "sound", 1)].eps[-1]
        return evaluation.radii(outcome, line.result.attack.norm).clip(upper=reach).to_numpy() / reach
    return evaluation.robust(outcome).iloc[:, -1].to_numpy()


def spoken(frame: pd.DataFrame) -> str:
    """Every number outside the committed interval by name, and how many there are."""
    outside = frame[~frame["inside"]]
    names = [
        f"outside: {line.setting} {line.network} seed {line.seed} {line.what}: {line.here:.1f} %, committed {line.committed:.1f} % "
        f"[{line.low:.1f}, {line.high:.1f}], n = {line.n}"
        for line in outside.itertuples()
    ]
    share = f"{len(frame) - len(outside)} of {len(frame)} numbers lie inside the committed 95 % interval."
    return "\n".join([*names, share])
