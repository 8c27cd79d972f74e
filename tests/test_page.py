"""The report as a page, and attacks made again beside the committed ones."""

import json
import re
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest

from fpdlib import __main__
from fpdlib.errors import NotComputed
from fpdlib.report import page, reproduced
from fpdlib.results import plan
from fpdlib.results.committed import Committed

ROOT = Path(__file__).parent.parent
LAPTOP = ROOT / "results" / "laptop"


class Page(HTMLParser):
    """What a page links to and loads, and its elements by id."""

    def __init__(self, text):
        super().__init__()
        self.links, self.loads, self.ids, self.claims, self.pictures = [], [], set(), [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.ids |= {given["id"]} if "id" in given else set()
        self.links += [given["href"]] if tag == "a" else []
        loads = [given[key] for key in ("src", "href") if key in given and tag in ("script", "img", "link", "iframe")]
        self.loads += [one for one in loads if not one.startswith("data:")]
        self.claims += [given] if tag == "details" else []
        self.pictures += [given.get("alt", "")] if tag == "img" else []


@pytest.fixture(scope="module")
def laptop(tmp_path_factory):
    """Laptop's report from what is committed."""
    folder = tmp_path_factory.mktemp("report")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FPD_PUBLISH", str(folder))
        patch.setenv("FPD_BUILD", str(folder / "none"))
        (folder / "laptop").mkdir()
        for part in ("tables", "figures"):
            (folder / "laptop" / part).symlink_to(LAPTOP / part)
        return page.write("laptop")


def test_the_report_opens_from_disk(laptop):
    """No network, under 3 MB, every link leads somewhere, every picture says what it shows."""
    text = laptop.read_text()
    found = Page(text)
    assert len(text) < 3e6 and not found.loads and "http" not in re.sub(r'src="data:[^"]*"', "", text)
    for link in found.links:
        assert (link[1:] in found.ids) if link.startswith("#") else (laptop.parent / link).exists(), link
    pages = sorted((laptop.parent / "notebooks").iterdir())
    assert len(pages) == 22 and not [one.name for one in pages if "No description has been provided" in one.read_text()]
    assert len(found.pictures) >= 5 and all(found.pictures)


def test_the_report_says_what_was_published(laptop):
    text, claims = laptop.read_text(), pd.read_csv(LAPTOP / "tables" / "claims.csv")
    found = Page(text)
    assert [line["id"] for line in found.claims] == list(dict.fromkeys(claims["id"]))
    told = {line["id"]: dict(pair.split(":") for pair in line["data-verdicts"].split(";")[:-1]) for line in found.claims}
    for line in claims.itertuples():
        assert told[line.id][line.protocol] == line.verdict
    words = unescape(re.sub(r"<[^>]*>", "", text))
    answer = [re.sub(r"[*`]", "", line).strip() for line in (LAPTOP / "tables" / "answer.md").read_text().splitlines()]
    assert len(answer) > 30 and all(re.sub(r"^(- |\d\. )", "", line) in words for line in answer)
    sums = [json.loads(Committed(LAPTOP / "evidence").results[path.stem]["sha256"])["model.safetensors"]
            for path in (LAPTOP / "checkpoints").iterdir()]  # fmt: skip
    assert len(sums) >= 6 and all(digest[:16] in text for digest in sums)


def test_the_report_has_the_front_page_s_tables(laptop, tmp_path):
    """Cell by cell as published: what O and F keep, and F trained for longer; a profile without them has none."""
    text = laptop.read_text()
    for name, (mark, title) in page.FRONT.items():
        table = [line for line in (LAPTOP / "tables" / f"{name}.md").read_text().splitlines() if line.startswith("|")]
        part = text[text.index(f'<h2 id="{mark}">{title}</h2>') :].split("<h2", 2)[1]
        shown = [re.sub(r"<[^>]*>", "", cell).strip() for cell in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", part)]
        printed = [cell.strip().replace("**", "") for line in (table[0], *table[2:]) for cell in line.strip("|").split("|")]
        assert shown == [cell.replace("&", "&amp;") for cell in printed] and len(shown) > 40, name
        assert "n images" in part and f'href="#{mark}"' in text
    (tmp_path / "tables").mkdir()
    assert page.front(tmp_path) == []
    (tmp_path / "tables" / "glance.md").write_text("| a |\n|:--|\n| 1 |\n")
    [(mark, _, table, words)] = page.front(tmp_path)
    assert mark == "kept" and "<td" in table and not words  # without a legend


def test_a_claim_leads_to_its_notebook():
    claims = pd.DataFrame({"id": ["a", "b", "c"], "claim": "x", "place": ["Sec. 4.2; Table 3", "Sec. 3.3, Theorem 1", "Abstract"],
                           "test": ["order", "theorem", "cost"], "setting": ["transfer-resnet50", "", ""], "protocol": "any",
                           "verdict": "holds", "effect": [1.0, float("nan"), 2.0], "low": 0.5, "high": 2.0, "unit": "points", "n": 1,
                           "seeds": 0, "reason": float("nan"), "size": float("nan"), "smallest": float("nan")})  # fmt: skip
    found = page.lines(claims, dict.fromkeys(("10-table3", "15-theorem1"), ""))
    assert [line["notebook"] for line in found] == ["10-table3", "15-theorem1", ""]
    assert [line["table"] for line in found] == ["Table 3", "text", "text"]
    assert [line["numbers"][0]["effect"] for line in found] == ["+1 [0.5, 2] points", "", "+2 [0.5, 2] points"]


def test_no_report_before_the_notebooks(tmp_path, monkeypatch):
    monkeypatch.setenv("FPD_PUBLISH", str(tmp_path))
    with pytest.raises(NotComputed, match=r"papermill notebooks/18-answers\.ipynb"):
        page.write("smoke")
    assert not (tmp_path / "smoke").exists()


def test_a_notebook_of_a_profile_is_the_one_that_was_rendered_for_it(tmp_path, monkeypatch):
    monkeypatch.setenv("FPD_BUILD", str(tmp_path))
    (tmp_path / "smoke").mkdir()
    (tmp_path / "smoke" / "16-forensics.ipynb").write_text((ROOT / "notebooks" / "16-forensics.ipynb").read_text())
    assert list(page.notebooks("smoke", tmp_path / "out")) == ["16-forensics"]


def test_attacks_are_made_again_on_committed_weights(tmp_path, monkeypatch, capsys):
    """Image by image as committed; an outcome that differs is an error."""
    rows = plan("table1", profile="laptop", seeds=[0]).query("network == 'Deep' and attack in ('sound', 'transfer-oracle')")
    committed = Committed(LAPTOP / "evidence")
    found = reproduced.again(rows, committed, tmp_path / "one", 3, "cpu")
    assert list(found["attack"]) == ["sound"] and list(found["n"]) == [200]  # no substitute is trained
    assert reproduced.otherwise(found).empty
    outcome = committed.outcome
    monkeypatch.setattr(committed, "outcome", lambda key: outcome(key).assign(broken=False))
    other = reproduced.again(rows, committed, tmp_path / "two", 3, "cpu")
    assert other["different"].min() > 180 and list(other["at the boundary"]) == [0] and len(reproduced.otherwise(other)) == 1
    with pytest.raises(NotComputed, match="no outcome of a committed checkpoint"):
        reproduced.again(rows, Committed(tmp_path), tmp_path / "three", 3)
    elsewhere = plan("caltech101", "known-answer", profile="laptop", seeds=[0])  # `make reproduce` has none of their images
    with pytest.raises(NotComputed, match="on bundled images"):
        reproduced.again(elsewhere, committed, tmp_path / "four", 3)
    found = pd.DataFrame({"network": "O", "attack": "x", "n": [50, 200, 50], "different": [1, 2, 3], "at the boundary": [0, 0, 9]})
    monkeypatch.setattr(reproduced, "again", lambda *_: found)
    monkeypatch.setattr("sys.argv", ["fpdlib", "again", "--profile", "laptop"])
    assert __main__.main() == 2 and "error: 3 of 50 images of O under x came out otherwise" in capsys.readouterr().err
    found = found[:2]
    assert __main__.main() == 0


@pytest.mark.parametrize(("attack", "column"), [("published/l2-deepfool", "at the boundary"), ("published/linf-fgsm", "different")])
def test_deepfool_ends_at_the_boundary_where_rounding_decides(tmp_path, monkeypatch, attack, column):
    """A fate that turns while the image is as far away as then counts apart for DeepFool alone; another distance never does."""
    rows = plan("table2", profile="laptop", seeds=[0]).query("network == 'ReLU' and attack == @attack")
    committed = Committed(LAPTOP / "evidence")
    assert reproduced.otherwise(reproduced.again(rows, committed, tmp_path / "one", 1, "cpu")).empty
    outcome = committed.outcome
    monkeypatch.setattr(committed, "outcome", lambda key: outcome(key).assign(broken=lambda frame: ~frame["broken"]))
    [line] = reproduced.again(rows, committed, tmp_path / "two", 1, "cpu").to_dict("records")
    assert line[column] == line["different"] + line["at the boundary"] >= line["n"] - 20
    monkeypatch.setattr(committed, "outcome", lambda key: outcome(key).assign(clean_prediction=-1))  # another answer is no rounding
    assert reproduced.again(rows, committed, tmp_path / "answers", 1, "cpu")["different"].tolist() == [line["n"]]
    monkeypatch.setattr(committed, "outcome", lambda key: outcome(key).assign(broken=lambda frame: ~frame["broken"], l2=9.0))
    assert reproduced.again(rows, committed, tmp_path / "three", 1, "cpu")["at the boundary"].sum() == 0
