"""How a notebook starts: check its parameters, set up display. Works in JupyterLab and under papermill."""

from __future__ import annotations

import ast

import pandas as pd

from fpdlib.errors import FPDError, choose
from fpdlib.paper import FPD
from fpdlib.results.inputs import device_of

PARAMETERS = {"profile": str, "seed": int, "device": str, "store": str, "compute": bool}


def start(namespace: dict) -> tuple[int, ...]:
    """Check a notebook's parameters: `seeds = fpdlib.start(globals())`. A seed of the profile's stands for all of them.

    namespace: the notebook's globals, with profile, seed, device, store and compute.
    Raises FPDError for a parameter that is missing, of the wrong type or of an unknown value, and for one that papermill injected
    but no notebook has (papermill itself only warns).
    """
    accepted = ", ".join(f"{name} ({kind.__name__})" for name, kind in PARAMETERS.items())
    for name in injected(namespace.get("In", [])):
        if name not in PARAMETERS:
            raise FPDError(f"unknown notebook parameter {name!r}; accepted: {accepted}.")
    values = {}
    for name, kind in PARAMETERS.items():
        if name not in namespace:
            raise FPDError(f"notebook parameter {name!r} is missing; run the cell tagged 'parameters' first.")
        values[name] = namespace[name]
        if type(values[name]) is not kind:
            found = type(values[name]).__name__
            raise FPDError(
                f"notebook parameter {name!r} is {values[name]!r} ({found}); accepted: {accepted}. "
                "With papermill, -p converts numbers and -r keeps text."
            )
    profile = FPD.profiles[choose("profile", values["profile"], FPD.profiles)]
    if values["seed"] < 0:
        raise FPDError(f"seed is {values['seed']!r}; accepted: an integer from 0.")
    device_of(values["device"])
    pd.set_option("display.max_colwidth", None, "display.max_columns", None, "display.max_rows", 100)
    return profile.seeds if values["seed"] in profile.seeds else (values["seed"],)


def injected(history: list[str]) -> set[str]:
    """Names assigned by the cell that papermill injects, found in IPython's input history."""
    names = set()
    for source in history:
        if source.startswith("# Parameters\n"):
            for node in ast.walk(ast.parse(source)):
                if isinstance(node, ast.Assign):
                    names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return names
