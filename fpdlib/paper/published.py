"""The paper's printed numbers, one a row, and what recomputing its averages shows.

`published/*.csv` are typed from the paper: table, section, network, attack, metric, value (percent or minutes). A row
with metric `average` averages the metric named in its attack column over the network's attacks; Table 3 also prints
averages over its six networks (network `all`). Clean accuracy is not part of an average over attacks.
"""

from decimal import Decimal
from pathlib import Path

import pandas as pd

from fpdlib.errors import choose

FOLDER = Path(__file__).parent / "published"
TABLES = ("1", "2", "3", "4", "text")


def load(table: str | int | None = None) -> pd.DataFrame:
    """Numbers of one table ('1' to '4', 'text') or of all; `printed` keeps the digits as the paper has them."""
    wanted = TABLES if table is None else [choose("table", str(table), TABLES)]
    files = [FOLDER / f"{name if name == 'text' else 'table' + name}.csv" for name in wanted]
    frame = pd.concat([pd.read_csv(file, dtype=str, keep_default_na=False) for file in files], ignore_index=True)
    return frame.assign(printed=frame["value"], value=frame["value"].astype(float))


def claims() -> pd.DataFrame:
    """Every claim of the paper: id, place, the claim, its test, and what it compares."""
    return pd.read_csv(FOLDER / "claims.csv", keep_default_na=False)


def value(table, network: str, attack: str, section: str | None = None, metric: str = "accuracy") -> float:
    """One printed number. Raises KeyError if the paper does not print exactly one such number."""
    frame = load(table)
    match = (frame["network"] == network) & (frame["attack"] == attack) & (frame["metric"] == metric)
    if section is not None:
        match &= frame["section"] == section
    if match.sum() != 1:
        raise KeyError(f"Table {table} prints {match.sum()} numbers for {network!r}, {attack!r}, {metric!r}")
    return float(frame.loc[match, "value"].iloc[0])


def recomputed_averages() -> pd.DataFrame:
    """Every printed average with the mean of the numbers it averages, and whether they agree as printed.

    They agree if the printed number is the mean to two digits, however its author rounded a half. Table 3's
    last cell is checked twice: over the six row averages and over the fifteen column averages.
    """
    numbers = load()
    checks = []
    for _, row in numbers[numbers["metric"] == "average"].iterrows():
        same = numbers[numbers["table"] == row["table"]]
        cells = same[same["metric"].isin(("accuracy", "time_min"))]
        if row["network"] == "all" and row["attack"] == "accuracy":
            rows = same[(same["metric"] == "average") & (same["attack"] == "accuracy") & (same["network"] != "all")]
            columns = same[(same["network"] == "all") & ~same["attack"].isin(("accuracy", "clean"))]
            checks += [(row, "rows", rows), (row, "columns", columns)]
        elif row["network"] == "all":
            checks.append((row, "networks", cells[cells["attack"] == row["attack"]]))
        else:
            mine = cells[(cells["network"] == row["network"]) & (cells["section"] == row["section"])]
            mine = mine[(mine["metric"] == row["attack"]) & (mine["attack"] != "clean")]
            checks.append((row, "attacks", mine))
    return pd.DataFrame([_check(*check) for check in checks])


def _check(row, over: str, cells: pd.DataFrame) -> dict:
    # in decimal: 16.385 is exactly half-way between two printed values, and no binary float is
    mean = sum(map(Decimal, cells["printed"])) / len(cells)
    printed = Decimal(row["printed"])
    digits = Decimal(1).scaleb(-2)
    rounded = {mean.quantize(digits, rounding) for rounding in ("ROUND_HALF_UP", "ROUND_HALF_EVEN", "ROUND_HALF_DOWN")}
    return {
        "table": row["table"], "section": row["section"], "network": row["network"], "of": row["attack"], "over": over,
        "numbers": len(cells), "printed": float(printed), "recomputed": round(float(mean), 4),
        "matches": printed.quantize(digits) in rounded,
    }  # fmt: skip
