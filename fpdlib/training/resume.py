"""The state of an unfinished training run in one safetensors file; a stopped run continues from it with the same bits."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from fpdlib.errors import FPDError
from fpdlib.files import replace_file


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
