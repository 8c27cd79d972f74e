"""How long a plan takes on one processor: as these very results took, as alike ones did, or by what they compute."""

import functools
import json

import numpy as np
import pandas as pd

from fpdlib import network, training
from fpdlib.data.datasets import DATASETS
from fpdlib.data.images import HELD_OUT
from fpdlib.files import project
from fpdlib.paper import FPD
from fpdlib.results.committed import Committed
from fpdlib.results.plan import missing, plan, results
from fpdlib.results.store import Store
from fpdlib.results.values import Network, Outcome, Result

COSTS = {"networks": 3.0, "crafted": 0.7, "outcomes": 0.6, "studies": 3.5}  # mean seconds in smoke; where nothing better is known
REFERENCE = "laptop"  # whose evidence says how fast a processor is, and how many passes an attack takes


def costs(rows: pd.DataFrame, store: Store) -> tuple[dict[str, float], set[str]]:
    """Seconds on one processor by key: as evidence has them, else as alike results took (a training by its length, one of another
    network by its multiply-accumulates), else by passes and multiply-accumulates; and the keys whose own seconds are known. What the
    kit's own evidence took counts also where FPD_RESULTS names another folder, to compute it anew."""
    everything, known, spent = results(rows), {}, {}
    for evidence in (shipped(rows["experiment"].iat[0].name), store.committed):
        entries = {key: evidence.entry(key)["meta"] for key in everything if evidence.has(key)}
        spent |= {key: max(meta["seconds"], meta.get("elapsed", 0.0)) for key, meta in entries.items()}
    measured = set(spent)
    for key in spent:
        for group in alike(everything[key]):
            known.setdefault(group, []).append(everything[key])
    for result in (everything[key] for key in everything.keys() - measured):
        nearest, *others = alike(result)
        group = next((group for group in (nearest, *others) if group in known), None)
        size = length if group == nearest else macs  # the network is the same, or is counted
        each = [spent[other.key] / size(other) for other in known.get(group, ())]
        spent[result.key] = float(np.median(each)) * size(result) if each else counted(result, rows["experiment"].iat[0].name)
    return spent, measured


def alike(result: Result) -> tuple[tuple, ...]:
    """What results that take about as long have in common, nearest first: the name, the architecture, that they are such results."""
    network = result.network.network
    architecture = ((network.dataset, network.spec, result.what),) if isinstance(result, Network) else ()
    return (network.dataset, network.name, result.what), *architecture, (network.dataset, result.what)


def length(result: Result) -> float:
    """Images times epochs of a training, at most (it may end before); 1 for what costs about the same wherever it is alike."""
    if not isinstance(result, Network):
        return 1.0
    return min(result.recipe.images or np.inf, DATASETS[result.dataset].train * (1 - HELD_OUT)) * result.recipe.epochs


def macs(result: Result) -> float:
    """Multiply-accumulates of a training, at most; 1 as in `length`."""
    if not isinstance(result, Network):
        return 1.0
    return length(result) * training.training_macs(result.recipe, network.cost(result.spec))


def shipped(profile: str) -> Committed:
    """The evidence that the kit comes with."""
    return Committed(project() / "results" / profile / "evidence")


def counted(result: Result, profile: str) -> float:
    """Seconds of a training or an attack of a profile by its multiply-accumulates."""
    rate, passes = reference() if profile != "smoke" else (0.0, {})
    if not rate or not isinstance(result, Network | Outcome):
        return COSTS[result.kind]
    if isinstance(result, Network):
        return macs(result) / rate
    cost, (forward, backward) = network.cost(result.network.spec), passes.get(result.what, (0, 0))
    return max(result.attack.images * (forward * cost["forward_macs"] + backward * cost["pixel_macs"]) / rate, COSTS[result.kind])


@functools.cache
def reference() -> tuple[float, dict[str, tuple[float, float]]]:
    """Of the reference's evidence: multiply-accumulates a second in training, and the forward and backward passes that
    each attack takes an image (medians); (0, {}) if there is none."""
    committed, rates, passes = shipped(REFERENCE), [], {}
    for result in results(plan("table1", profile=REFERENCE, seeds=[0], paper=FPD)).values():
        if isinstance(result, Network) and result.name in ("F", "ReLU") and committed.has(result.key):
            rates.append(macs(result) / committed.entry(result.key)["meta"]["seconds"])
    for line in committed.results.values():
        meta = json.loads(line["meta"])
        if line["kind"] == "outcomes" and "forwards" in meta["counts"]:
            attack = meta["spec"]["attack"]
            each = meta["counts"]["forwards"] / attack["images"], meta["counts"]["backwards"] / attack["images"]
            passes.setdefault(attack["name"], []).append(each)
    return float(np.median(rates)) if rates else 0.0, {name: tuple(np.median(counts, axis=0)) for name, counts in passes.items()}


def summary(rows: pd.DataFrame, store: Store) -> tuple[pd.DataFrame, str]:
    """How much of each setting is there, is being computed, has failed, and what the rest costs, a line a setting; and the whole in
    one sentence."""
    spent, measured = costs(rows, store)
    todo = {result.key for result in missing(results(rows), set(rows["key"]), store)}
    failed = {path.stem for path in (store.root / "failed").glob("*.txt")}
    once = rows.drop_duplicates("key")
    frame = pd.DataFrame({
        "table": once["table"], "setting": once["setting"], "results": 1, "there": ~once["key"].isin(todo),
        "running": [key in todo and store.busy(key) for key in once["key"]], "failed": once["key"].isin(failed & todo),
        "minutes left": [spent[key] / 60 * (key in todo) for key in once["key"]],
    }).groupby(["table", "setting"], sort=False).sum().round(1)  # fmt: skip
    total, own = sum(spent[key] for key in todo), sum(spent[key] for key in todo & measured)
    share = f" ({100 * own / total:.0f} % of it as these very results took, the rest estimated from alike ones)" if total else ""
    anew = f"All {len(spent)} anew: {sum(spent.values()) / 3600:.1f}."
    return frame, f"{len(todo)} results missing: {total / 3600:.1f} hours on one processor{share}. {anew}"
