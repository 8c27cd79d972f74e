"""Run what a table needs, from the store where it is there: profile + seed + device + store -> networks, outcomes.

`Lab` is what notebooks and the command line share. Asking for an outcome trains the network only if the outcome is
not in the store yet.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import io
import os
import platform
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from tqdm import tqdm

from fpdlib.paper import settings, experiments
from fpdlib import data, evaluation, runtime, training
from fpdlib.attacks.spec import AttackSpec
from fpdlib.data.datasets import DATASETS
from fpdlib.errors import Busy, FPDError, NotComputed, choose
from fpdlib.evaluation.outcomes import Rate
from fpdlib.network.fpd import FPD, build
from fpdlib.runtime import Budget
from fpdlib.results.evidence import Evidence
from fpdlib.results.store import Store, key_of
from fpdlib.files import project_folder

LIBRARIES = ("torch", "torchvision", "timm", "adversarial-robustness-toolbox", "numpy", "pandas", "scipy")


@functools.cache
def code_version() -> str:
    """The last commit that changed the package, and the hash of its source, which is what a result depends on."""
    root = Path(__file__).parent.parent  # the package
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(path.relative_to(root).as_posix().encode() + path.read_bytes())
    try:
        git = functools.partial(subprocess.run, cwd=root, capture_output=True, text=True, timeout=10, check=True)
        commit = git(["git", "log", "-1", "--format=%h", "--", "."]).stdout.strip()
        commit += "-changed" if git(["git", "status", "--porcelain", "--", "."]).stdout.strip() else ""
    except (OSError, subprocess.SubprocessError):
        commit = "no-git"
    return f"{commit} source:{digest.hexdigest()[:12]}"


def provenance(device: torch.device) -> dict:
    """Where a result comes from: code, libraries, hardware, threads, time (UTC)."""
    processor = platform.processor() or platform.machine()
    if os.path.exists("/proc/cpuinfo"):
        with open("/proc/cpuinfo") as file:
            names = [line.split(":", 1)[1].strip() for line in file if line.startswith("model name")]
        processor = names[0] if names else processor
    return {
        "code": code_version(),
        "libraries": {name: importlib.metadata.version(name) for name in LIBRARIES},
        "python": platform.python_version(),
        "hardware": torch.cuda.get_device_name(device) if device.type == "cuda" else processor,
        "threads": torch.get_num_threads(),
        "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


@functools.cache
def committed(profile: str, results: Path) -> Evidence:
    """The evidence of a profile in a results folder; read once."""
    return Evidence(results / profile / "evidence")


def named_network(spec: AttackSpec) -> tuple[str, str] | None:
    """(setting, network) whose adversarial images an attack transfers, or None."""
    return tuple(spec.surrogate.split("/", 1)) if spec.surrogate and "/" in spec.surrogate else None


class Lab:
    """One profile with one seed on one device and store.

    profile: 'smoke', 'laptop', 'paper-short' or 'paper'. device: 'auto', 'cpu' or 'cuda'. store: folder, '' for the
    default (FPD_STORE, else `store/`). budget: seconds, None for no limit. setting: which of the paper's experiments
    (`settings.SETTINGS`); where its data set can neither be found nor has results in the store, the bundled stand-in takes
    its place and `profile.stand_in` says so. stored_only: compute nothing, raise NotComputed instead (None: if the environment has
    FPD_COMPUTE=0).
    Raises FPDError on any other value.
    """

    def __init__(self, profile: str = "smoke", seed: int = 0, device: str = "auto", store: str = "",
                 budget: float | Budget | None = None, progress: bool = True, setting: str = "table1",
                 stored_only: bool | None = None):  # fmt: skip
        self.profile = settings.setting(profile, setting)
        if type(seed) is not int or seed < 0:
            raise FPDError(f"seed is {seed!r}; accepted: an integer from 0.")
        if not isinstance(store, (str, os.PathLike)):
            raise FPDError(f"store is {store!r}; accepted: the path of a folder, or '' for the default.")
        choose("device", device, ("auto", "cpu", "cuda"))
        if device == "cuda" and not torch.cuda.is_available():
            raise FPDError("device is 'cuda', but torch sees no GPU here; accepted: 'auto', 'cpu'.")
        self.device = torch.device("cuda" if device != "cpu" and torch.cuda.is_available() else "cpu")
        self.seed = seed
        stored_only = os.environ.get("FPD_COMPUTE") == "0" if stored_only is None else stored_only
        self.store = Store(store, stored_only, committed(self.profile.name, project_folder("results", "FPD_RESULTS")))
        self.budget = budget if isinstance(budget, Budget) else Budget(budget)
        self.progress = progress
        self.stored_only = stored_only
        code_version()  # now: the source on disk may change while a long run is under way
        if self.device.type == "cpu":  # bits depend on it, so it belongs to the profile
            torch.set_num_threads(self.profile.threads or runtime.processors())
        self._models: dict[str, FPD] = {}
        self._surrogates: dict = {}
        self._siblings: dict[str, Lab] = {setting: self}
        self._busy = False
        here = DATASETS[self.profile.dataset].available(project_folder("data", "FPD_DATA"))
        every = {seed, *self.profile.seeds}  # one answer for all seeds: real images and stand-ins are never compared
        if not here and not any(self.store.has("networks", self.network_key(name, s)) for name in self.networks for s in every):
            self.profile = settings.setting(profile, setting, stand_in=True)  # MNIST has none, and can be downloaded

    @property
    def title(self) -> str:
        """Profile, setting (Table 1 unnamed), seed, and whether the images are a stand-in."""
        setting = "" if self.profile.setting == "table1" else f" {self.profile.setting}"
        mark = f" (stand-in: {self.profile.dataset})" if self.profile.stand_in else ""
        return f"{self.profile.name}{setting}{mark}, seed {self.seed}"

    @property
    def networks(self) -> tuple[str, ...]:
        """The variants that this setting's tables need."""
        return settings.networks_of(self.profile.setting)

    def at(self, setting: str) -> Lab:
        """The lab of another of the paper's experiments with the same profile, seed, device, store and budget."""
        if setting not in self._siblings:
            other = Lab(self.profile.name, self.seed, self.device.type, self.store.root, self.budget, self.progress, setting,
                        self.stored_only)  # fmt: skip
            other._siblings = self._siblings
            self._siblings[setting] = other
        return self._siblings[setting]

    def seeds(self) -> list[Lab]:
        """This lab and those of the profile's other seeds; alone if its seed is none of them."""
        if self.seed not in self.profile.seeds:
            return [self]
        others = {
            seed: Lab(self.profile.name, seed, self.device.type, self.store.root, self.budget, self.progress, self.profile.setting,
                      self.stored_only)
            for seed in self.profile.seeds if seed != self.seed
        }  # fmt: skip
        return [others.get(seed, self) for seed in self.profile.seeds]

    @functools.cached_property
    def splits(self) -> data.Splits:
        return data.load(self.profile.dataset, self.profile.network.image_size, self.device)

    # ------------------------------------------------------------------------------------------ networks

    def spec(self, name: str):
        """NetworkSpec of one of `experiments.VARIANTS` in this profile."""
        return experiments.VARIANTS[choose("network", name, experiments.VARIANTS)].spec(self.profile)

    def recipe(self, name: str):
        return experiments.VARIANTS[choose("network", name, experiments.VARIANTS)].recipe(self.profile)

    def network_key(self, name: str, seed: int | None = None) -> str:
        """The key of a network trained with this lab's seed, or another."""
        seed = self.seed if seed is None else seed
        recipe = self.recipe(name)
        spec = {"network": self.spec(name), "recipe": recipe, "dataset": self.profile.dataset}
        if recipe.begin:
            spec["begin"] = self.network_key(recipe.begin, seed)
        return key_of(f"{name}-s{seed}", spec | {"seed": seed})

    def train(self, name: str) -> str:
        """Train a network unless its checkpoint is in the store; returns its key."""
        key = self.network_key(name)
        if self.store.has("networks", key, "model.safetensors"):
            return key
        with self._lock(key):
            if self.store.has("networks", key, "model.safetensors"):
                return key
            self._begin()
            spec, recipe, label = self.spec(name), self.recipe(name), f"{name} seed {self.seed}"
            model = build(spec, self.seed)
            if recipe.begin:
                model.load_state_dict(self.model(recipe.begin).state_dict())
            state = self.store.partial(key, ".safetensors")
            log = training.train(model, recipe, self.splits, self.seed, state, self.budget, label * self.progress)
            accuracy, loss, mse = training.measure(model, self.splits.test)
            weights = {k: v.detach().cpu().contiguous() for k, v in model.state_dict().items()}
            count = len(self.splits.test)
            meta = {
                "name": name,
                "profile": self.profile.name,
                "dataset": self.profile.dataset,
                "seed": self.seed,
                "network": spec,
                "recipe": recipe,
                "test": {"correct": round(accuracy * count), "images": count, "loss": loss, "mse": mse},
                "best_epoch": training.best_epoch(log),
                "seconds": log[-1]["seconds"],
                "provenance": provenance(self.device),
            }
            if mse != mse:  # no restoration module; JSON has no nan
                meta["test"]["mse"] = None
            self.store.write(
                "networks",
                key,
                {
                    "model.safetensors": lambda path: save_file(weights, path),
                    "log.csv": lambda path: pd.DataFrame(log).to_csv(path, index=False),
                },
                meta,
            )
            state.unlink(missing_ok=True)
            self._models = {key: model}
        return key

    @contextmanager
    def _lock(self, key: str) -> Iterator[None]:
        """Hold a result's lock, waiting for it as the budget allows; a budget that a wait has used up is spent."""
        if self.stored_only:
            self._begin()
        try:
            with self.store.lock(key, self.budget.patience()):
                yield
        except Busy:
            if self.budget.waits:
                self.budget.check()
            raise

    def _begin(self) -> None:
        """Start no further piece of work when the budget is gone; the first one always gets somewhere."""
        if self.stored_only:
            raise NotComputed(f"{self.title}: a result is not in the store {self.store.root}; run it without --stored.")
        if self._busy:
            self.budget.check()
        self._busy = True

    def model(self, name: str) -> FPD:
        """A trained network in evaluation mode, on this lab's device."""
        key = self.train(name)
        if key not in self._models:
            path = self.store.file("networks", key, "model.safetensors")
            model = build(self.spec(name), self.seed)
            try:
                model.load_state_dict(load_file(path))
            except (SafetensorError, RuntimeError, OSError) as error:
                raise FPDError(
                    f"{path} does not fit {name} ({str(error).splitlines()[0]}). "
                    f"Delete the folder {path.parent} to train it again."
                ) from error
            self._models = {key: model.to(self.device, memory_format=torch.channels_last).eval()}
        return self._models[key]

    def _trained(self, name: str) -> str:
        key = self.network_key(name)
        return key if self.store.has("networks", key) else self.train(name)

    def log(self, name: str) -> pd.DataFrame:
        """Training log, one row an epoch."""
        key = self._trained(name)
        if not self.store.local("networks", key):
            return self.store.evidence.log(key)
        return pd.read_csv(self.store.file("networks", key, "log.csv"))

    def facts(self, name: str) -> dict:
        """What the store knows of a trained network: test accuracy and MSE, best epoch, seconds, provenance."""
        return self.store.entry("networks", self._trained(name), "test", "seconds")["meta"]

    def clean(self, name: str) -> Rate:
        """Clean accuracy on the whole test set of this profile."""
        test = self.facts(name)["test"]
        return evaluation.rate([True] * test["correct"] + [False] * (test["images"] - test["correct"]))

    def undertrained(self, name: str) -> bool:
        return self.clean(name).value < self.profile.clean_floor

    # ------------------------------------------------------------------------------------------ outcomes

    def outcome_key(self, name: str, attack: str) -> str:
        attacked = self.profile.attacks[attack]
        spec = {"network": self.network_key(name), "attack": attacked}
        if source := named_network(attacked):
            spec["source"] = self.at(source[0]).network_key(source[1])
        return key_of(f"{name}-s{self.seed}-{attacked.name}", spec)

    def outcome(self, name: str, attack: str) -> pd.DataFrame:
        """Per-example outcome of a network under one attack of the profile (see `evaluation`), computed if missing."""
        choose("attack", attack, self.profile.attacks)
        key = self.outcome_key(name, attack)
        if not self.store.has("outcomes", key, "outcome.parquet"):
            with self._lock(key):
                if not self.store.has("outcomes", key, "outcome.parquet"):
                    self._attack(name, attack, key)
        self._check_weights(name, key)
        if not self.store.local("outcomes", key, "outcome.parquet"):
            return self.store.evidence.outcome(key)
        return evaluation.read_outcome(self.store.file("outcomes", key, "outcome.parquet"))

    def _weights(self, name: str) -> str:
        return self.store.entry("networks", self._trained(name))["sha256"].get("model.safetensors", "")

    def _check_weights(self, name: str, key: str, kind: str = "outcomes") -> None:
        # a network trained again elsewhere (other threads, a GPU) has other bits than the one that was attacked
        attacked = self.store.entry(kind, key)["meta"].get("weights")
        if attacked is not None and attacked != self._weights(name):
            remedy = f"Delete {self.store.folder(kind, key)} to use the present ones."
            if not self.store.local(kind, key):
                folder = self.store.folder("networks", self.network_key(name))
                remedy = (f"It is committed evidence, and {name} was trained again here with other bits: delete {folder} to read the "
                          "evidence, or name another folder in FPD_RESULTS to compute everything anew.")  # fmt: skip
            raise FPDError(
                f"{key} was computed on other weights of {name} (SHA-256 {attacked[:12]}) than the store has now "
                f"({self._weights(name)[:12]}). {remedy}"
            )

    def _attack(self, name: str, attack: str, key: str) -> None:
        self._begin()
        spec = self.profile.attacks[attack]
        partial = self.store.partial(key, ".parquet")
        label = f"{name} seed {self.seed}" * self.progress
        model = self.model(name)
        surrogate, fit, crafted = None, {}, None
        if source := named_network(spec):
            crafted, fit = self.at(source[0]).craft(source[1], spec)
        elif spec.surrogate:
            surrogate, fit = self._surrogate(name, spec.surrogate, spec.surrogate_epochs)
        frame, counts = evaluation.evaluate(
            model, self.splits, spec, self.seed, partial, self.budget, label, surrogate, crafted
        )
        meta = {
            "name": name, "profile": self.profile.name, "dataset": self.profile.dataset, "seed": self.seed,
            "network": self.network_key(name), "weights": self._weights(name), "attack": spec, "counts": counts | fit,
            "provenance": provenance(self.device),
        }  # fmt: skip
        self.store.write("outcomes", key, {"outcome.parquet": lambda path: frame.to_parquet(path, index=False)}, meta)
        partial.unlink(missing_ok=True)

    def crafted_key(self, name: str, spec: AttackSpec) -> str:
        return key_of(f"{name}-s{self.seed}", {"network": self.network_key(name), "attack": spec})

    def craft(self, name: str, spec: AttackSpec) -> tuple[torch.Tensor, dict]:
        """Adversarial images of this lab's network for the first `spec.images` test images, to be transferred (Table 3)."""
        key = self.crafted_key(name, spec)
        if not self.store.has("crafted", key, "images.safetensors"):
            with self._lock(key):
                if not self.store.has("crafted", key, "images.safetensors"):
                    self._begin()
                    images, counts = evaluation.craft(self.model(name), self.splits, spec, self.seed)
                    meta = {"name": name, "network": self.network_key(name), "weights": self._weights(name), "attack": spec,
                            "counts": counts, "provenance": provenance(self.device)}  # fmt: skip
                    content = {"images": images.cpu().contiguous()}
                    self.store.write("crafted", key, {"images.safetensors": lambda path: save_file(content, path)}, meta)
        self._check_weights(name, key, "crafted")
        counts = self.store.entry("crafted", key, "counts")["meta"]["counts"]
        images = load_file(self.store.file("crafted", key, "images.safetensors"))["images"].to(self.device)
        return images, {"crafted_" + k: v for k, v in counts.items()}

    def _surrogate(self, name: str, labels: str, epochs: int):
        # trained on true labels it does not depend on the target, so one serves every network
        cached = self._surrogates.get((labels, epochs))
        if cached is None or labels == "oracle":
            cached = self._surrogates[labels, epochs] = evaluation.train_surrogate(
                self.model(name), self.splits, labels, self.seed, epochs
            )
        surrogate, accuracy = cached
        return surrogate, {
            "surrogate_accuracy": accuracy,
            "surrogate_agreement": evaluation.agreement(surrogate, self.model(name), self.splits.test),
        }

    def counts(self, name: str, attack: str) -> dict:
        """Forward and backward passes, seconds, and the surrogate's fit of an outcome."""
        self.outcome(name, attack)
        return self.store.entry("outcomes", self.outcome_key(name, attack), "counts")["meta"]["counts"]

    # ------------------------------------------------------------------------------------------ studies

    def study(self, name: str, kind: str, spec, compute) -> dict[str, Path | io.BytesIO]:
        """The files of a study of a network (`kind` and `spec` name it), computed by `compute(model)` if they are missing.

        compute returns {file name: function that writes it}. Checkpoints are needed only to compute.
        """
        key = key_of(f"{name}-s{self.seed}-{kind}", {"network": self.network_key(name), "study": kind, "spec": spec})
        if not self.store.has("diagnostics", key):
            with self._lock(key):
                if not self.store.has("diagnostics", key):
                    self._begin()
                    started = time.monotonic()
                    files = compute(self.model(name))
                    meta = {"name": name, "study": kind, "profile": self.profile.name, "setting": self.profile.setting,
                            "dataset": self.profile.dataset, "seed": self.seed, "network": self.network_key(name),
                            "weights": self._weights(name), "spec": spec, "seconds": time.monotonic() - started,
                            "provenance": provenance(self.device)}  # fmt: skip
                    self.store.write("diagnostics", key, files, meta)
        self._check_weights(name, key, "diagnostics")
        if not self.store.local("diagnostics", key):
            return self.store.evidence.files(key)
        files = self.store.entry("diagnostics", key)["sha256"]
        return {file: self.store.file("diagnostics", key, file) for file in files}

    def missing(self, names, attacks=None) -> list[tuple[str, str]]:
        """(network, attack) pairs whose outcome is not in the store."""
        attacks = attacks or self.profile.attacks
        return [
            (name, attack)
            for name in names
            for attack in attacks
            if not self.store.has("outcomes", self.outcome_key(name, attack), "outcome.parquet")
        ]

    def run(self, names=None, attacks=None) -> None:
        """Train and attack these networks (default: all of the setting), with one progress bar; skips what is there."""
        names = list(names or self.networks)
        for attack in attacks or ():
            choose("attack", attack, self.profile.attacks)
        todo = self.missing(names, attacks)
        if todo and self.stored_only:
            print(f"{self.title}: not computed: {', '.join(dict.fromkeys(name for name, _ in todo))}")
            return
        if not todo:
            print(f"{len(names)} networks, {self.title}: all from the store")
            return
        before = {lab: lab.progress for lab in self._siblings.values()}
        bar = tqdm(todo, desc=self.title, mininterval=10, disable=not self.progress)
        for lab in before:  # one bar, also for networks of other settings
            lab.progress = False
        try:
            for name, attack in bar:
                bar.set_postfix_str(f"{name} {attack}", refresh=False)
                self.outcome(name, attack)
        finally:
            for lab in self._siblings.values():
                lab.progress = before.get(lab, before[self])
