"""A replication of *Enhancing Intrinsic Adversarial Robustness via Feature Pyramid Decoder* (CVPR 2020).

    plan = fpdlib.plan("table2", profile="laptop")  # a data frame: a row per number, with the key of its result
    fpdlib.compute(plan)                            # workers compute what is missing; nothing where evidence is there
    evidence = fpdlib.load(plan)                    # what is there; `evidence.outcomes` is a row per attacked image

The packages, from below: `network`, `data`, `training`, `attacks`, `evaluation`, `paper`, `results`, `report`.
"""

import importlib
import warnings

__version__ = "0.1.0"

# A dependency looks for notebook widgets as it is imported and warns that there are none; our bars are plain text.
warnings.filterwarnings("ignore", message="IProgress not found")

# What a notebook needs, imported when it is asked for: torch and its like take seconds.
_PLACES = {
    "plan": "results", "compute": "results", "load": "results", "load_network": "results", "Evidence": "results", "FPD": "paper",
    "NetworkSpec": "network", "build": "network", "Recipe": "training", "train": "training", "AttackSpec": "attacks",
    "View": "attacks", "evaluate": "evaluation", "judge": "judgement", "start": "report.notebook",
}  # fmt: skip
__all__ = list(_PLACES)


def __getattr__(name: str):
    if name not in _PLACES:
        raise AttributeError(f"module 'fpdlib' has no attribute {name!r}; it offers {', '.join(_PLACES)}")
    return getattr(importlib.import_module(f"fpdlib.{_PLACES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_PLACES])
