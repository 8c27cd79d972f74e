"""What an attack does to each image, and whether what it leaves is real: outcomes, intervals, diagnostics, restoration.

May import: attacks, training, data, network, the ground.
"""

from fpdlib.evaluation.outcomes import (
    COLUMNS,
    Rate,
    agreement,
    craft,
    evaluate,
    paired,
    radii,
    rate,
    read_outcome,
    robust,
    test_order,
    train_surrogate,
)  # fmt: skip
from fpdlib.network.answers import predict

__all__ = [
    "COLUMNS", "Rate", "agreement", "craft", "evaluate", "paired", "predict", "radii", "rate",
    "read_outcome", "robust", "test_order", "train_surrogate",
]  # fmt: skip
