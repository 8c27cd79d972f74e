"""The printed numbers and the paper's own averages."""

import pytest

from fpdlib.errors import FPDError
from fpdlib.paper import published
from fpdlib.paper.experiments import TABLE1


def test_every_number_of_the_tables_is_there():
    counts = published.load().groupby("table").size().to_dict()
    assert counts == {"1": 19 * 3, "2": 6 * 16, "3": 7 * 17, "4": 12 * 6, "text": 4}
    assert list(published.load("1").columns) == ["table", "section", "network", "attack", "metric", "value", "printed"]
    assert set(published.load()["metric"]) == {"accuracy", "time_min", "average"}
    accuracies = published.load().query("metric == 'accuracy'")["value"]
    assert accuracies.between(0, 100).all()


def test_exactly_five_averages_do_not_match():
    averages = published.recomputed_averages()
    assert len(averages) == 67
    wrong = averages[~averages["matches"]]
    assert sorted(zip(wrong["table"], wrong["network"], wrong["printed"], wrong["recomputed"], strict=True)) == [
        ("1", "F_FD", 16.34, 16.385),
        ("1", "X", 32.56, 34.055),
        ("2", "F", 59.51, 59.5171),
        ("2", "O", 27.57, 28.7143),
        ("2", "O_PGD", 78.56, 78.5543),
    ]


def test_rows_with_the_same_numbers_are_the_networks_we_share():
    numbers = published.load(1).query("metric == 'accuracy'").pivot(index=["section", "network"], columns="attack", values="value")
    by_numbers = numbers.groupby(["white-box", "black-box"]).groups
    assert len(by_numbers) == 15
    main = {row.name: row.variants[0] for row in TABLE1}
    for rows in by_numbers.values():
        names = {main[name] for _, name in rows}
        assert len(names) == 1 or names == {"Mid+Inner", "F_FD+R"}  # contradictory: both readings are run


def test_every_row_of_table_1_is_an_experiment():
    printed = published.load(1).query("metric == 'average'")
    assert list(zip(printed["section"], printed["network"], strict=True)) == [(r.section, r.name) for r in TABLE1]


def test_single_values_and_their_errors():
    assert published.value(1, "X", "white-box") == 5.72
    assert published.value(2, "F", "Linf-PGD") == 0 and published.value(4, "ResNeXt-50/F", "L2-C&W") == 86
    with pytest.raises(KeyError, match="prints 0 numbers"):
        published.value(1, "F", "L2-PGD")
    with pytest.raises(FPDError, match="table is '7'"):
        published.load(7)
