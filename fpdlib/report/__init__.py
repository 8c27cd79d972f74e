"""From outcomes to what a reader sees: measures, verdicts, claims, tables, figures, the front page, and how a notebook starts.

May import: everything below.
"""

from fpdlib.report.explorations import (
    caption,
    comparisons,
    curve_points,
    finding,
    notes,
    plot_curves,
    plot_restored,
    plot_training,
    protocol_table,
    readable,
    table1,
    verdict_table,
)  # fmt: skip

__all__ = [
    "caption", "comparisons", "curve_points", "finding", "notes", "plot_curves", "plot_restored", "plot_training", "protocol_table",
    "readable", "table1", "verdict_table",
]  # fmt: skip
