"""What the printed numbers say, against counts made independently."""

import pytest

from fpdlib.paper import forensics


def test_granularity():
    table = forensics.granularity().set_index("cells")
    assert tuple(table.loc["Table 2", ["n", "whole"]]) == (42, 34)
    assert tuple(table.loc["Table 4", ["n", "whole"]]) == (60, 46)
    assert table.loc["Table 1", "whole"] == 0
    both = table.loc[["Table 3, ResNeXt-50 involved", "Table 3, other"]]
    assert both["n"].sum() == 96 and both["whole"].sum() == 90
    assert both["whole"].tolist() == [47, 43] and both["even among whole"].tolist() == [47, 23]
    assert table.loc["Table 3, ResNeXt-50 involved", "p of so many even, if 1 in 2 is"] < 1e-10


def test_caltech_256_is_one_batch_again_and_again():
    table = forensics.repeated_batches().set_index("data set")
    assert tuple(table.loc["CALTECH-256", ["right", "batches of 24"]]) == (708, 59)
    assert table.loc["CALTECH-256", "right per batch"] == 12 and table.loc["CALTECH-256", "whole"]
    assert table.loc["CALTECH-101", "right"] == 535 and not table.loc["CALTECH-101", "whole"]


def test_transfer_above_clean():
    table = forensics.transfer_above_clean()
    assert table["network"].value_counts().to_dict() == {
        "ResNet-50/O_PGD": 7,
        "ResNet-50/F_PGD": 3,
        "ResNet-101/O_PGD": 1,
    }


def test_intervals_and_worst_columns():
    assert forensics.wilson(44, 100) == (pytest.approx(34.7, abs=0.05), pytest.approx(53.8, abs=0.05))
    table = forensics.intervals().set_index(["where", "network"])
    f, o = table.loc[("Table 4", "ResNet-50/F")], table.loc[("Table 4", "ResNet-50/O_PGD")]
    assert f["low"] < o["high"]  # 30 against 26 is no difference
    worst = forensics.worst_columns().set_index(["table", "network"])["worst L-inf column"]
    assert worst[("2", "F")] == 0 and worst[("2", "O_PGD")] == 76 and worst[("4", "ResNeXt-50/F")] == 80
