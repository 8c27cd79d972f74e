"""What an attack does to each image, and whether what it leaves is real: outcomes, intervals, diagnostics, restoration."""

from fpdlib.evaluation.outcomes import COLUMNS, agreement, craft, evaluate, radii, rate, robust, test_order, train_surrogate
from fpdlib.network.answers import predict
