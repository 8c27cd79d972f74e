"""The front page: short, made from verdicts, and the same as what the committed results say."""

import re
import shutil
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from fpdlib import report
from fpdlib.paper import experiments
from fpdlib.paper.published import claims
from fpdlib.report import publish

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
LAPTOP = ROOT / "results" / "laptop" / "tables"


@pytest.fixture
def verdicts():
    return pd.read_csv(LAPTOP / "claims.csv")


def test_readme_is_one_page():
    assert len(README.splitlines()) <= 120
    rows = [re.sub(r"  +", " ", line) for line in README.splitlines() if line.startswith("|") and "|:--" not in line]
    assert max(map(len, rows)) <= 134
    order = ("tables/glance.md", "tables/answer.md", "headlines.png", "tables/headlines.md", "make reproduce      #")
    assert sorted(order, key=README.index) == list(order)


def test_the_code_in_readme_runs():
    blocks = re.findall(r"```python\n(.*?)```", README, re.S)
    assert len(blocks) == 1
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


def test_the_answer_follows_the_verdicts(verdicts):
    """Notebook 18 writes it from the verdicts; here it is read back and held against them."""
    lead, short, words, items = (LAPTOP / "answer.md").read_text().split("\n\n")
    lines = re.split(r"\n(?=\d\. )", items)
    assert len(lines) == 5 and all(line.startswith(f"{n}. **") for n, line in enumerate(lines, 1))
    for name, table, worst in (("MNIST, 32", "table1", "worst"), ("Caltech-101, 64", "caltech", "worst/linf")):
        frame = pd.read_csv(LAPTOP / f"{table}.csv")
        kept = frame[frame["measure"] == worst].drop_duplicates("network").set_index("network")["value"]
        told = re.search(rf"on {name} pixels, eps [\d.]+: F \*\*([\d.]+) %\*\*, the plain CNN ([\d.]+) %", lead).groups()
        plain = "ReLU" if "ReLU" in kept else "O"
        assert [float(number) for number in told] == pytest.approx([kept["F"], kept[plain]], abs=0.051)
    assert all(f"*{term}*" in words for term in ("As published", "Worst case", "Area", "Masked", "Can find", "Undertrained"))
    small = "On a small stand-in for the paper's network (0.3 of its 44.2 million parameters), MNIST at 32 pixels, F has 98"
    assert short.startswith(f"- {small}")
    by = verdicts.set_index(["id", "protocol"])
    for line, claim in ((lines[0], "robust-mnist"), (lines[1], "resists-caltech101")):
        said = dict(zip(("published", "current", "sound"), re.findall(r": \*([a-z ]+)\* \(([-+.\d]+)", line), strict=True))
        for protocol, (verdict, effect) in said.items():
            found = by.loc[(claim, protocol)]
            assert verdict == found["verdict"] and float(effect) == pytest.approx(found["effect"], abs=0.051)
    table = pd.read_csv(LAPTOP / "table1.csv").set_index(["network", "measure"]).loc[("F", "worst")]
    assert f"**{table['value']:.1f} %** [{table['low']:.1f}, {table['high']:.1f}] (n = {table['n']}," in short
    here, there = short.split("Of the ten comparisons that we consider the paper's main ones, ")[1:]  # laptop, paper-short
    headlines, everything = here.partition(".")[0], there.split("- Of all ")[1]
    assert there.startswith("only 3 could be asked there; ") and "On the paper's network, MNIST at 64 pixels, F has" in here
    everything, strong = everything.split("; of the comparisons")
    sound = verdicts.loc[verdicts["protocol"] == "sound", "verdict"].value_counts()
    assert f" {sound.get('holds', 0)} hold, {sound.get('does not hold', 0)} do not and {sound['not decided']} are not" in strong
    for words, known in ((headlines, 10), (everything.split("tests each, ")[1], verdicts["id"].nunique())):
        assert sum(int(number) for number in re.findall(r"(\d+) (?:hold|do|is|are)", words)) == known
    assert verdicts["id"].nunique() == len(claims())
    last = verdicts[verdicts["verdict"] != "not tested"].groupby("id", sort=False).tail(1)  # the claims that hold, in words, by kind
    holding, test = last[last["verdict"] == "holds"], claims().set_index("id")["test"]
    assert all(claim in lines[4] for claim in holding["claim"]) and f"{len(holding)}: " in lines[4]
    printed = holding["id"].map(test).isin(["arithmetic", "printed-clean"]).sum()
    assert f"{printed} from the paper's printed numbers alone" in lines[4] and f"{holding['weaker'].sum()} of them weaker" in lines[4]
    found = pd.read_csv(LAPTOP / "headlines.csv")["verdict"].value_counts()
    assert f"{found['does not hold']} do not hold" in headlines
    assert ("holds" in found.index) == ("none holds" not in headlines)


def test_no_committed_verdict_on_a_method_rests_on_one_or_two_seeds(verdicts):
    decided = verdicts[verdicts["verdict"].isin(["holds", "does not hold"])]
    assert len(decided) and set(decided["seeds"]) <= {0, *range(3, 10)}


def test_the_headline_claims_follow_their_adjusted_p():
    found = pd.read_csv(LAPTOP / "headlines.csv", keep_default_na=False, na_values=[""])
    assert len(found) == 10 and list(found["better"]) == [line.better for line in experiments.HEADLINES]
    tested = found[found["verdict"] != "not tested"]
    assert (tested["p_adjusted"] >= tested["p"]).all() and (tested["smallest"] > 0).all()
    decided = tested[tested["verdict"].isin(["holds", "does not hold"])]
    assert (decided["p_adjusted"] < 0.05).all() and (decided["seeds"] >= 3).all()
    assert ((decided["difference"] > 0) == (decided["verdict"] == "holds")).all()
    page = (LAPTOP / "headlines.md").read_text().splitlines()[-10:]
    assert [line.split("|")[4].strip() for line in page] == list(found["verdict"])


def test_comparisons_as_a_picture():
    frame = pd.DataFrame({
        "paper": [np.nan, 5.0, np.nan], "difference": [-5.0, 1.0, np.nan], "low": [-7.0, -1.0, np.nan], "high": [-3.0, 3.0, np.nan],
        "smallest": [1.0, 4.0, np.nan], "verdict": ["does not hold", "not decided", "not tested"],
    })  # fmt: skip
    figure, axes = plt.subplots()
    report.forest(axes, frame, ["one", "two", "three"])
    report.forest_legend(figure, frame)
    assert [text.get_text() for text in axes.get_yticklabels()] == ["one", "two", "three"] and axes.yaxis_inverted()
    ticks = [line for line in axes.lines if line.get_marker() == "|"]
    assert len(ticks) == 1 and ticks[0].get_xdata() == [5.0] and {line.get_marker() for line in axes.lines} >= {"v", "o"}
    words = {text.get_text() for text in figure.legends[0].get_texts()}
    assert {"does not hold", "not decided", "not tested", "the paper's difference", "too small to be found (80 % power)"} == words
    plt.close(figure)


def test_a_heat_map_has_every_number_and_marks_what_misleads():
    frame = pd.DataFrame({"a": [1.0, 99.0], "b": [np.nan, 50.0]}, index=["x", "y"])
    figure, axes = plt.subplots()
    report.heat(axes, frame, "title", frame > 60)
    assert sorted(text.get_text() for text in axes.texts) == ["1", "50", "99"]
    assert [(patch.get_x(), patch.get_y()) for patch in axes.patches if patch.get_hatch()] == [(0, 1)]
    plt.close(figure)


def test_the_papers_difference_is_that_of_its_averages():
    """25.55 and 62.72 for F, 5.72 and 62.39 for X."""
    committed = pd.read_csv(LAPTOP / "order.csv").query("better == 'F' and worse == 'X'").set_index("protocol")
    assert committed.loc["published", "paper"] == pytest.approx(44.135 - 34.055) and committed["paper"].notna().sum() == 1


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
