"""The front page: short, made from verdicts, and the same as what the committed results say."""

import re
import shutil
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

import fpdlib
from fpdlib.paper import experiments
from fpdlib.paper.experiments import EXPLORATIONS
from fpdlib.paper.published import claims
from fpdlib.report import answer, explorations, figures, publish

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
LAPTOP = ROOT / "results" / "laptop" / "tables"


@pytest.fixture
def verdicts():
    return pd.read_csv(LAPTOP / "claims.csv")


def test_readme_is_one_page():
    assert len(README.splitlines()) <= 120
    assert max(len(line) for line in README.splitlines() if line.startswith("|")) <= 100
    assert README.index("answer.md") < README.index("headlines.png") < README.index("headlines.md") < README.index("make reproduce")


def test_the_code_in_readme_runs():
    blocks = re.findall(r"```python\n(.*?)```", README, re.S)
    assert len(blocks) == 2
    scope = {}
    for block in blocks:
        exec(block, scope)
    assert scope["restored"].shape == (2, 3, 64, 64)
    assert set(scope["outcomes"]["attack"]) == {"white-box", "transfer-oracle", "transfer-true", "current", "sound", "radius"}


@pytest.mark.parametrize("page", ["README.md", "REPRODUCE.md"])
def test_pages_show_the_committed_tables_and_their_links_lead_somewhere(page, tmp_path):
    shutil.copytree(ROOT / "results" / "laptop" / "tables", tmp_path / "results" / "laptop" / "tables")
    shutil.copyfile(ROOT / page, tmp_path / page)
    assert not publish.include(tmp_path / page), "run `python -m fpdlib pages`"
    text = (ROOT / page).read_text()
    heads = {re.sub(r"[^\w\- ]", "", line.lstrip("# ").lower()).replace(" ", "-") for line in text.splitlines() if line[:1] == "#"}
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        path, _, anchor = target.partition("#")
        assert not path or (ROOT / path).exists(), target
        assert path or anchor in heads, target


def test_no_table_is_cut_in_two():
    """A blank line inside a Markdown table ends it; its other rows would be shown as text."""
    for page in ("README.md", "REPRODUCE.md"):
        blocks = re.split(r"\n(?!\|)", (ROOT / page).read_text())
        tables = [block[block.index("|") :].splitlines() for block in blocks if "\n|" in block or block.startswith("|")]
        assert tables
        for rows in tables:
            assert re.fullmatch(r"[|:\- ]+", rows[1]), rows[0]
            assert len({row.count("|") for row in rows}) == 1, rows[0]


def test_the_answer_is_five_sentences_that_follow_the_verdicts(verdicts, tmp_path):
    evidence = fpdlib.load(fpdlib.plan(profile="laptop"), str(tmp_path))
    alone = [answer.alone(evidence.at(name)) for name in ("table1", "caltech101")]
    text = answer.answer(verdicts, *alone)
    assert (LAPTOP / "answer.md").read_text() == text + "\n"
    assert len(text.splitlines()) == 5 and all(line.startswith(f"{n}. **") for n, line in enumerate(text.splitlines(), 1))
    worst = pd.read_csv(LAPTOP / "table1.csv").query("network == 'F'").iloc[0]
    assert f"**{worst['worst']:.1f} %** [{worst['worst_low']:.1f}, {worst['worst_high']:.1f}] (n = {worst['worst_n']}," in alone[0]
    turned = answer.answer(verdicts.assign(verdict=verdicts["verdict"].replace("not decided", "holds")))
    assert (
        "not decided" in text.splitlines()[0] and "*holds*" in turned.splitlines()[0] and "not decided" not in turned.splitlines()[0]
    )
    counts = [int(number) for number in re.findall(r"(\d+) (?:hold|do|is|are)", text.splitlines()[4])]
    assert sum(counts) == verdicts["id"].nunique() == len(claims()) and len(counts) == 4


def test_nothing_stands_alone_where_nothing_is_there(tmp_path, monkeypatch):
    monkeypatch.setenv("FPD_RESULTS", str(tmp_path))
    assert answer.alone(fpdlib.load(fpdlib.plan("table2"), str(tmp_path))) == ""


def test_no_committed_verdict_on_a_method_rests_on_one_or_two_seeds(verdicts):
    decided = verdicts[verdicts["verdict"].isin(["holds", "does not hold"])]
    assert len(decided) and set(decided["seeds"]) <= {0, *range(3, 10)}


def test_a_claim_that_no_protocol_tests_is_counted_as_such(verdicts):
    none = verdicts.assign(verdict="not tested", effect=np.nan)
    assert f"{verdicts['id'].nunique()} are not tested" in answer.answer(none)
    assert "as published *not tested*;" in answer.answer(none)


def test_tallies_are_sentences():
    words = pd.Series(["holds", "does not hold", "does not hold", "not decided"])
    assert answer.tally(words) == "1 holds, 2 do not hold, 1 is not decided"


def ordered():
    lines = []
    for exploration in EXPLORATIONS:
        for better, worse in exploration.pairs:
            for protocol, verdict in (("published", "holds"), ("current", "not tested"), ("sound", "not decided")):
                known = np.nan if verdict == "not tested" else 1.0
                lines.append({"exploration": exploration.section, "better": better, "worse": worse, "paper": 5.0,
                              "protocol": protocol, "difference": known, "low": known, "high": 2 * known,
                              "verdict": verdict})  # fmt: skip
    return pd.DataFrame(lines)


def test_explorations_as_words_and_as_a_picture():
    table = explorations.narrow(ordered())
    assert len(table) == 11 and set(table["current"]) == {"not tested"} and table["exploration"].nunique() == 8
    figure = figures.plot_order(ordered(), "title")
    panels = figure.axes
    assert [axes.get_title().split("\n")[0] for axes in panels] == ["as published", "today's library", "sound"]
    ticks = [line for line in panels[0].lines if line.get_marker() == "|"]
    assert len(ticks) == 11 and all(tick.get_xdata() == [5.0] for tick in ticks)
    assert not [line for axes in panels[1:] for line in axes.lines if line.get_marker() == "|"]
    assert panels[0].get_xlim()[1] > 5
    plt.close(figure)


def test_the_headline_claims_follow_their_adjusted_p():
    found = pd.read_csv(LAPTOP / "headlines.csv", keep_default_na=False, na_values=[""])
    assert len(found) == 10 and list(found["better"]) == [line.better for line in experiments.HEADLINES]
    tested = found[found["verdict"] != "not tested"]
    assert (tested["p_adjusted"] >= tested["p"]).all() and (tested["smallest"] > 0).all()
    decided = tested[tested["verdict"].isin(["holds", "does not hold"])]
    assert (decided["p_adjusted"] < 0.05).all() and (decided["seeds"] >= 3).all()
    assert ((decided["difference"] > 0) == (decided["verdict"] == "holds")).all()
    page = explorations.narrow_headlines(found)
    assert list(page["verdict"]) == list(found["verdict"]) and (page["ours, points"] != "-").sum() == len(tested)


def test_headlines_as_a_picture():
    frame = pd.DataFrame({
        "claim": ["one", "two", "three"], "better": "F", "worse": ["ReLU", "X", "Deep"], "difference": [-5.0, 1.0, np.nan],
        "low": [-7.0, -1.0, np.nan], "high": [-3.0, 3.0, np.nan], "smallest": [1.0, 4.0, np.nan],
        "verdict": ["does not hold", "not decided", "not tested"],
    })  # fmt: skip
    figure = figures.plot_headlines(frame, "title")
    (axes,) = figure.axes
    assert [text.get_text() for text in axes.get_yticklabels()] == ["one  (F > O)", "two  (F > X)", "three  (F > Deep)"]
    assert {line.get_marker() for line in axes.lines} >= {"v", "o"}
    words = {text.get_text() for text in figure.legends[0].get_texts()}
    assert {"does not hold", "not decided", "not tested", "too small to be found (80 % power)"} == words
    plt.close(figure)


def test_the_papers_difference_is_that_of_its_averages():
    """25.55 and 62.72 for F, 5.72 and 62.39 for X."""
    committed = pd.read_csv(LAPTOP / "order.csv").query("better == 'F' and worse == 'X'")
    assert committed["paper"].tolist() == pytest.approx([44.135 - 34.055] * 3)


def test_licence_and_citation():
    import tomllib

    import yaml

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert project["license"] == citation["license"] == "MIT" and project["version"] == citation["version"]
    assert "The FPD reproducibility kit authors" in (ROOT / "LICENSE").read_text()
    assert citation["cff-version"] == "1.2.0" and citation["references"][0]["year"] == 2020
    for page in ("CHANGELOG.md", "CONTRIBUTING.md"):
        assert page in README
