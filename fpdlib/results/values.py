"""What can be computed, as frozen values: a trained network, adversarial images to be transferred, an outcome, a study of a network.

A result knows its key, which results it needs, and how it is computed into a folder from them (`Inputs`). Nothing else makes keys.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import pandas as pd
from safetensors.torch import save_file

from fpdlib import data, evaluation, training
from fpdlib.attacks.spec import AttackSpec
from fpdlib.data.datasets import DATASETS
from fpdlib.evaluation import studies
from fpdlib.keys import key_of
from fpdlib.network.fpd import build
from fpdlib.network.reference import AnchorSpec
from fpdlib.network.spec import NetworkSpec
from fpdlib.results.inputs import Inputs
from fpdlib.training import Recipe


@dataclass(frozen=True)
class Network:
    """A network trained from a seed, or from the weights of another (`begin`). name: for people and in the key's readable part."""

    name: str
    spec: NetworkSpec | AnchorSpec
    recipe: Recipe
    dataset: str
    seed: int
    begin: "Network | None" = None

    kind: ClassVar[str] = "networks"
    what: ClassVar[str] = "training"
    file: ClassVar[str] = "model.safetensors"

    @property
    def identity(self) -> dict:
        return {"network": self.spec, "recipe": self.recipe, "seed": self.seed, "begin": self.begin and self.begin.key,
                "dataset": self.dataset, "data": DATASETS[self.dataset].version}  # fmt: skip

    @cached_property
    def key(self) -> str:
        return key_of(f"{self.name}-s{self.seed}", self.identity)

    @property
    def network(self) -> "Network":
        return self

    @property
    def needs(self) -> "tuple[Network, ...]":
        return (self.begin,) if self.begin else ()

    def compute(self, folder: Path, inputs: Inputs) -> dict:
        splits, model = inputs.splits(self), build(self.spec, self.seed)
        if self.begin:
            model.load_state_dict(inputs.model(self.begin).state_dict())
        log = training.train(model, self.recipe, splits, self.seed, inputs.store.partial(self), inputs.budget)
        measured = data.first(splits.test, self.recipe.measured)
        accuracy, loss, mse = training.measure(model, measured)
        save_file({k: v.detach().cpu().contiguous() for k, v in model.state_dict().items()}, folder / self.file)
        pd.DataFrame(log).to_csv(folder / "log.csv", index=False)
        count = len(measured)
        test = {"correct": round(accuracy * count), "images": count, "loss": loss}
        return {"test": test | {"mse": None if mse != mse else mse},  # no restoration module; JSON has no nan
                "best_epoch": training.best_epoch(log), "seconds": log[-1]["seconds"]}  # fmt: skip


class OfNetwork:
    """What is measured on a network."""

    @property
    def what(self) -> str:
        return self.attack.name

    @cached_property
    def key(self) -> str:
        return key_of(f"{self.network.name}-s{self.network.seed}-{self.what}", self.identity)


@dataclass(frozen=True)
class Crafted(OfNetwork):
    """A network's adversarial images for the first test images, to be transferred to others (Table 3)."""

    network: Network
    attack: AttackSpec

    kind: ClassVar[str] = "crafted"
    file: ClassVar[str] = "images.safetensors"

    @property
    def identity(self) -> dict:
        return {"network": self.network.key, "attack": self.attack}

    @property
    def needs(self) -> tuple[Network, ...]:
        return (self.network,)

    def compute(self, folder: Path, inputs: Inputs) -> dict:
        images, counts = evaluation.craft(inputs.model(self.network), inputs.splits(self.network), self.attack, self.network.seed)
        save_file({"images": images.cpu().contiguous()}, folder / self.file)
        return {"counts": counts, "seconds": counts["seconds"]}


@dataclass(frozen=True)
class Outcome(OfNetwork):
    """What an attack does to each image; source: the images to be transferred, if the attack names another network."""

    network: Network
    attack: AttackSpec
    source: Crafted | None = None

    kind: ClassVar[str] = "outcomes"
    file: ClassVar[str] = "outcome.parquet"

    @property
    def identity(self) -> dict:
        return {"network": self.network.key, "attack": self.attack, "source": self.source and self.source.key}

    @property
    def needs(self) -> tuple[Network | Crafted, ...]:
        return (self.network, self.source) if self.source else (self.network,)

    def compute(self, folder: Path, inputs: Inputs) -> dict:
        surrogate, fit, crafted = None, {}, None
        if self.source:
            crafted, fit = inputs.images(self.source)
        elif self.attack.surrogate:
            surrogate, fit = inputs.surrogate(self.network, self.attack)
        frame, counts = evaluation.evaluate(
            inputs.model(self.network), inputs.splits(self.network), self.attack, self.network.seed,
            inputs.store.partial(self), inputs.budget, surrogate=surrogate, crafted=crafted,
        )  # fmt: skip
        frame.to_parquet(folder / self.file, index=False)
        return {"counts": counts | fit, "seconds": counts["seconds"]}


@dataclass(frozen=True)
class Study(OfNetwork):
    """A measurement of a network beside its outcomes (`evaluation.studies`); others: further networks that it looks at."""

    network: Network
    spec: studies.Study
    others: tuple[Network, ...] = ()

    kind: ClassVar[str] = "studies"
    file: ClassVar[str] = ""

    @property
    def identity(self) -> dict:
        return {"network": self.network.key, "study": self.spec, "others": [other.key for other in self.others]}

    @property
    def what(self) -> str:
        return self.spec.what

    @property
    def needs(self) -> tuple[Network, ...]:
        return (self.network, *self.others)

    def compute(self, folder: Path, inputs: Inputs) -> dict:
        others = [inputs.model(other) for other in self.others]
        found = self.spec.run(inputs.model(self.network), inputs.splits(self.network), self.network.seed, others)
        studies.save(folder, found)
        return {}


Result = Network | Crafted | Outcome | Study
MEANS = (Network, Crafted)  # what is computed for other results alone


def named_network(attack: AttackSpec) -> tuple[str, str] | None:
    """(setting, network) whose adversarial images an attack transfers, or None."""
    return tuple(attack.surrogate.split("/", 1)) if attack.surrogate and "/" in attack.surrogate else None


def label(result: Result) -> str:
    return f"{result.network.name} seed {result.network.seed}: {result.what}"


def closure(results) -> dict[str, Result]:
    """Results and all that they need, by key, each after what it needs."""
    found: dict[str, Result] = {}

    def add(result: Result) -> None:
        if result.key not in found:
            for need in result.needs:
                add(need)
            found[result.key] = result

    for result in results:
        add(result)
    return found
