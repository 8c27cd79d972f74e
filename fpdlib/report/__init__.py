"""From evidence to what a reader sees: measures, verdicts, claims, tables, figures, the answer, and how a notebook starts.

May import: everything below. Nothing here computes a result: all are functions of `results.Evidence`.
"""

from fpdlib.report.explorations import comparisons, finding
from fpdlib.report.figures import curve_points, plot_curves, plot_training
from fpdlib.report.tables import caption, notes, readable, table1

__all__ = [
    "caption", "comparisons", "curve_points", "finding", "notes", "plot_curves", "plot_training", "readable",
    "table1",
]  # fmt: skip
