"""What a result is computed from on this machine: the device, images, trained networks, and how long it may take."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from fpdlib import data, evaluation
from fpdlib.attacks.spec import AttackSpec
from fpdlib.errors import FPDError, choose
from fpdlib.network.fpd import build
from fpdlib.results.store import Store
from fpdlib.runtime import Budget

if TYPE_CHECKING:
    from fpdlib.results.values import Crafted, Network


def device_of(name: str) -> torch.device:
    """'auto', 'cpu' or 'cuda'. Raises FPDError for any other, and for 'cuda' without a GPU."""
    choose("device", name, ("auto", "cpu", "cuda"))
    if name == "cuda" and not torch.cuda.is_available():
        raise FPDError("device is 'cuda', but torch sees no GPU here; accepted: 'auto', 'cpu'.")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


class Inputs:
    """Keeps the last images and the last network, since results that follow each other mostly share them.

    used: what was read for the present result, key -> SHA-256.
    """

    def __init__(self, store: Store, device: torch.device, budget: Budget | None = None):
        self.store, self.device, self.budget = store, device, budget or Budget()
        self.used: dict[str, str] = {}
        self.images_of = ""
        self._splits: tuple[tuple[str, int], data.Splits] | None = None
        self._model: tuple[str, nn.Module] | None = None
        self._surrogates: dict = {}

    def splits(self, network: Network) -> data.Splits:
        which = network.dataset, network.spec.image_size
        if self._splits is None or self._splits[0] != which:
            self._splits = which, data.load(*which, self.device)
        self.images_of = self._splits[1].sha256
        return self._splits[1]

    def model(self, network: Network) -> nn.Module:
        """A trained network in evaluation mode, on this device. FPDError if its file is damaged or does not fit."""
        path = self.store.file(network)
        self.used[network.key] = self.store.near(network)["sha256"][network.file]
        if self._model is None or self._model[0] != network.key:
            model = build(network.spec, network.seed)
            try:
                model.load_state_dict(load_file(path))
            except (SafetensorError, RuntimeError, OSError) as error:
                raise FPDError(
                    f"{path} does not fit {network.name} ({str(error).splitlines()[0]}). "
                    f"Delete the folder {path.parent} to train it again."
                ) from error
            self._model = network.key, model.to(self.device, memory_format=torch.channels_last).eval()
        return self._model[1]

    def images(self, crafted: Crafted) -> tuple[Tensor, dict]:
        """Adversarial images (n, 3, H, W) on this device, and what crafting them took."""
        path, entry = self.store.file(crafted), self.store.near(crafted)
        self.used[crafted.key] = entry["sha256"][crafted.file]
        return load_file(path)["images"].to(self.device), {f"crafted_{k}": v for k, v in entry["meta"]["counts"].items()}

    def surrogate(self, network: Network, attack: AttackSpec) -> tuple[nn.Module, dict]:
        """The substitute of an attack on a network (Sec. 4.1), and how well it fits."""
        # trained on true labels it does not depend on the target, so one serves every network
        of = network.key if attack.surrogate == "oracle" else (network.dataset, network.spec.image_size, network.seed)
        which = (of, attack.surrogate, attack.surrogate_epochs, attack.surrogate_width, attack.surrogate_images)
        model, splits = self.model(network), self.splits(network)
        if which not in self._surrogates:
            made = evaluation.train_surrogate(model, splits, attack, network.seed)
            self._surrogates = {which: made} | {k: v for k, v in self._surrogates.items() if k[1] == "true"}
        surrogate, accuracy = self._surrogates[which]
        agreement = evaluation.agreement(surrogate, model, splits.test, attack.surrogate_images)
        return surrogate, {"surrogate_accuracy": accuracy, "surrogate_agreement": agreement}
