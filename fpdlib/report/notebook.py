"""How a notebook starts: check its parameters, say what was asked for. Works in JupyterLab and under papermill."""

import ast
import os
from dataclasses import dataclass

import matplotlib.pyplot as plt
import pandas as pd
import torch

from fpdlib.errors import FPDError, choose
from fpdlib.files import replace_file
from fpdlib.paper import FPD
from fpdlib.paper.changes import CHANGES, changed
from fpdlib.paper.profiles import Profile
from fpdlib.report import publish
from fpdlib.results.inputs import device_of

PARAMETERS = {"profile": (str,), "seeds": (str, int), "device": (str,), "store": (str,), "compute": (bool,)}


@dataclass(frozen=True)
class Run:
    """What a notebook was asked for: `plan(..., profile=run.profile, seeds=run.seeds)`.

    profile: the scale, with what the parameters change of it. seeds: None for the profile's own.
    """

    profile: Profile
    seeds: tuple[int, ...] | None

    @property
    def publishes(self) -> bool:
        """Whether tables and figures are written: to `results/<profile>/` only those of the profile as it is, with its own seeds;
        to a folder that FPD_PUBLISH names, all."""
        return bool(os.environ.get("FPD_PUBLISH")) or (self.seeds is None and not self.profile.changes)

    def table(self, name: str, frame: pd.DataFrame, shown: pd.DataFrame | None = None, words: str = "") -> None:
        """Publish a table: every number, and the same for people under a caption (see `publish.table`)."""
        if self.publishes:
            publish.table(publish.results_folder(self.profile.name), name, frame, shown, words)

    def page(self, name: str, text: str) -> None:
        """Publish Markdown."""
        if self.publishes:
            publish.page(publish.results_folder(self.profile.name), name, text)

    def figure(self, name: str, drawn: plt.Figure) -> None:
        """Publish a figure."""
        if self.publishes:
            target = publish.results_folder(self.profile.name) / "figures" / f"{name}.png"
            replace_file(target, lambda path: drawn.savefig(path, dpi=110, format="png"))


def start(namespace: dict) -> Run:
    """Check a notebook's parameters: `run = fpdlib.start(globals())`.

    namespace: the notebook's globals, with profile, seeds ('' for the profile's, else such as '0,1,2'), device, store and compute,
    those of `paper.changes` that the notebook has, and others of its own, which it checks itself. Raises FPDError for a parameter
    that is missing, of the wrong type or of an unknown value, and for one that papermill injected but the notebook does not have
    (papermill itself only warns).
    """
    history = namespace.get("In", [])
    injected = [source for source in history if source.startswith("# Parameters\n")]  # by papermill
    own = assigned(next((source for source in history if "profile" in assigned(source) and source not in injected), ""))
    mine = [*PARAMETERS, *sorted((own or set(CHANGES) & set(namespace)) - set(PARAMETERS))]
    for name in sorted({name for source in injected for name in assigned(source)}):
        if name not in mine:
            raise FPDError(f"unknown notebook parameter {name!r}; accepted: {', '.join(mine)}.")
    for name, types in PARAMETERS.items():
        if name not in namespace:
            raise FPDError(f"notebook parameter {name!r} is missing; run the cell tagged 'parameters' first.")
        if type(value := namespace[name]) not in types:
            accepted = ", ".join(f"{one} ({' or '.join(kind.__name__ for kind in kinds)})" for one, kinds in PARAMETERS.items())
            raise FPDError(
                f"notebook parameter {name!r} is {value!r} ({type(value).__name__}); accepted: {accepted}. "
                "With papermill, -p converts numbers and -r keeps text."
            )
    profile = FPD.profiles[choose("profile", namespace["profile"], FPD.profiles)]
    changes = {name: namespace[name] for name in CHANGES if name in mine and namespace.get(name) is not None}
    device_of(namespace["device"])
    torch.set_num_threads(1)  # its own cells run small networks: more gain nothing, and collapse beside another process
    pd.set_option("display.max_colwidth", None, "display.max_columns", None, "display.max_rows", 100)
    return Run(changed(profile, **changes), seeds_of(namespace["seeds"]))


def seeds_of(value: str | int) -> tuple[int, ...] | None:
    """'' -> None (the profile's own); '0,1,2', '0 1 2' or 0, since papermill makes a number of it."""
    parts = str(value).replace(",", " ").split()
    if not all(part.isdigit() for part in parts):
        raise FPDError(f"seeds is {value!r}; accepted: integers from 0 such as '0,1,2', or '' for the profile's.")
    return tuple(dict.fromkeys(map(int, parts))) or None


def assigned(source: str) -> set[str]:
    """Names that a cell assigns at its top level (none if it is no plain Python, such as one with a magic)."""
    try:
        nodes = ast.parse(source).body
    except SyntaxError:
        return set()
    return {target.id for node in nodes if isinstance(node, ast.Assign) for target in node.targets if isinstance(target, ast.Name)}
