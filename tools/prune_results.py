"""Delete what no experiment of today's code reads any more from the committed stores: after a recipe or an attack was changed.

python tools/prune_results.py [laptop ...]      prints what it deletes (git has it)
"""

import shutil
import sys
from pathlib import Path

from fpdlib.report.publish import orphans

ROOT = Path(__file__).parent.parent
SEEDS = tuple(range(10))

if __name__ == "__main__":
    for profile in sys.argv[1:] or ("laptop",):
        for folder in orphans(profile, SEEDS, ROOT / "results" / profile / "store"):
            print(f"{profile}: {folder.parent.name}/{folder.name}")
            shutil.rmtree(folder)
