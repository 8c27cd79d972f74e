"""The plan's rows become results: values that know how they are computed, the store, equal workers, committed evidence."""

from fpdlib.results.evidence import Evidence, load, load_network
from fpdlib.results.plan import plan
from fpdlib.results.worker import compute
