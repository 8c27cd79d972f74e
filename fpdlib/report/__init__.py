"""From evidence to what a reader sees: measures, verdicts, claims, measured numbers, shared pictures, and how a notebook starts.

May import: everything below. Nothing here computes a result: all are functions of `results.Evidence`.
"""

from fpdlib.report.explorations import beside, comparisons, finding, headline_picture, headlines, picture
from fpdlib.report.figures import curve_points, curves, forest, forest_legend, heat
from fpdlib.report.measures import compare, measurement
from fpdlib.report.tables import caption, measured, text
