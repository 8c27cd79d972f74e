"""Algorithm 1 and adversarial training on the device, their recipes, and a run that continues with the same bits.

May import: network, data, the ground.
"""

from fpdlib.training.algorithm1 import (
    Recipe,
    best_epoch,
    measure,
    paper_recipe,
    passes,
    released_recipe,
    step,
    train,
    training_macs,
)  # fmt: skip

__all__ = ["Recipe", "best_epoch", "measure", "paper_recipe", "passes", "released_recipe", "step", "train", "training_macs"]
