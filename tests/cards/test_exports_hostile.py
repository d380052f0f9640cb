# ruff: noqa: E501
"""Hostile names and answers: none runs, opens, breaks out or turns text around through an export."""

from __future__ import annotations

import csv
import json
import unicodedata
from pathlib import Path

import pandas as pd
import pytest
import yaml
from card_artefacts import build, cohort_table, make_project
from exported import write_tars
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree

from cards.exports.content import Content
from cards.exports.csv_tables import csv_tables
from cards.exports.markdown import escape, table
from cards.exports.write import FORMATS, export_card

PAYLOADS = [
    "<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "\"><svg onload=alert(1)>", "</style><script>x()</script>", "]]><x/>", "<!-- a --><b>", "--><h1>",
    "[press](javascript:alert(1))", "![x](https://evil.example/x.png)", "<https://evil.example>", "# heading", "- item", "1. item", "> quote", "```\ncode", "$x$", "a | b | c", "***", "---\nlicense: mit\n---", "=====",
    "=HYPERLINK(\"http://evil.example\")", "+1+cmd|' /C calc'!A0", "-2+3", "@SUM(1)", "\t=1", "\r=1", "＝1+1", "|calc",
    "key: value", "{a: b}", "[a, b]", "!!python/object/apply:os.system ['x']", "&anchor *alias", "null", "yes", "'", "\"", "%YAML 1.2",
    "a\u2028b\u2029c", "\u202egnp.exe", "\u2066x\u2069", "\x00\x07\x1b[31m", "\ufffe\uffff", "\ud800", "&lt;b&gt;", "&#60;b&#62;", "\\", "\\[x\\]", "{{ 7*7 }}", "{0.__class__} {n}", "${7*7}", "x" * 5000,
]  # fmt: skip
FORBIDDEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A card in which every name of the archive, of models and every answer is a payload."""
    safe = [p for p in PAYLOADS if "\ud800" not in p]  # no file can hold a lone surrogate
    table = cohort_table(1500, devices=len(safe))
    number = pd.factorize(table["device"])[0]
    table["device"] = [safe[i] for i in number]
    table["site"] = [safe[(i + 3) % len(safe)] for i in number]
    table["ethnicity"] = [safe[(i + 7) % len(safe)] for i in number]
    folder = make_project(tmp_path_factory.mktemp("hostile") / "p", table, name=safe[0])
    write_tars(folder / "shards")
    sample = json.loads((folder / "shards" / "sample.json").read_text())
    sample["made_by"]["specification"] = {"embed_metadata": safe[:12]}
    (folder / "shards" / "sample.json").write_text(json.dumps({**sample, "name": safe[7]}))
    estimates = pd.read_parquet(folder / "evaluation" / "estimates.parquet")
    estimates["model"] = estimates["model"].map({"natural": safe[4], "balanced": safe[20]})
    estimates.to_parquet(folder / "evaluation" / "estimates.parquet", index=False)
    about = {"title": safe[7] + safe[18], "custodian": " ".join(safe[:20]), "licence": safe[18] + safe[8], "released": safe[20], "contact": safe[31], "citation": safe[5]}  # fmt: skip
    items = {
        i: {"answer": "\n\n".join(safe[k::9])[:3000]}
        for k, i in enumerate(("1.1a", "1.1c", "1.1d", "1.2c", "1.3a", "1.3c", "1.4a", "1.4b", "2.2b"))
    }
    (folder / "card").mkdir()
    (folder / "card" / "card.yaml").write_text(json.dumps({"about": about, "items": items}))
    build(folder, policy="none")  # so that no name is lost with its number
    export_card("tables", folder / "card")
    return folder / "card"


def test_no_export_holds_a_control_character_or_a_mark_that_turns_text_around(hostile: Path) -> None:
    files = [hostile / "README.md", hostile / "croissant.json", *hostile.glob("chai*.xml"), *hostile.glob("tables/*.csv")]
    assert len(files) > 15
    for file in files:
        text = file.read_text(encoding="utf-8")
        found = {hex(ord(c)) for c in text if unicodedata.category(c) in FORBIDDEN and c not in "\n\r"}
        assert found == set(), file.name


def rendered(text: str) -> tuple[set[str], str]:
    """Render Markdown as GitHub and Hugging Face do, raw HTML left in; give the tags that aren't plain text, and the HTML."""
    from markdown_it import MarkdownIt

    html = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).render(text)
    root = etree.HTML(f"<html><body>{html}</body></html>")
    return {str(e.tag).lower() for e in root.iter() if isinstance(e.tag, str)} | {"comment" for e in root.iter(etree.Comment)}, html


def test_the_readme_renders_to_text_and_tables_and_nothing_else(hostile: Path) -> None:
    text = (hostile / "README.md").read_text(encoding="utf-8")
    body = text.split("\n---\n", 1)[1]
    tags, html = rendered(body)
    allowed = {
        "html",
        "body",
        "h1",
        "h2",
        "h3",
        "p",
        "strong",
        "em",
        "table",
        "thead",
        "tbody",
        "tr",
        "th",
        "td",
        "ul",
        "li",
        "blockquote",
        "a",
        "comment",
    }
    assert tags <= allowed, tags - allowed
    root = etree.HTML(html)
    assert {a.get("href") for a in root.iter("a")} == {"card.html"}
    assert len(list(root.iter("h1"))) == 1
    assert html.count("<!--") == 1
    assert {name for e in root.iter() if isinstance(e.tag, str) for name in e.attrib} <= {"href", "style"}  # a column's alignment


def test_every_row_of_a_markdown_table_has_its_columns(hostile: Path) -> None:
    from markdown_it import MarkdownIt

    text = (hostile / "README.md").read_text(encoding="utf-8").split("\n---\n", 1)[1]
    root = etree.HTML(MarkdownIt("commonmark").enable("table").render(text))
    tables = list(root.iter("table"))
    assert len(tables) >= 6
    for one in tables:
        assert len({len(list(row)) for row in one.iter("tr")}) == 1


def test_hugging_face_sees_only_the_fields_that_were_meant(hostile: Path) -> None:
    huggingface_hub = pytest.importorskip("huggingface_hub")
    data = huggingface_hub.DatasetCard.load(hostile / "README.md").data.to_dict()
    assert set(data) == {
        "pretty_name", "license", "license_name", "license_link", "size_categories", "task_categories", "source_datasets", "tags", "configs",
    }  # fmt: skip
    assert data["license"] == "other"
    assert "license: mit" in data["pretty_name"]


@given(st.text(max_size=80) | st.sampled_from(PAYLOADS))
@settings(max_examples=150, deadline=None)
def test_any_title_comes_back_from_the_front_matter_as_text(twin: dict[str, object], title: str) -> None:
    from cards.exports.content import printable

    small = {**twin, "title": title, "sections": [], "tables": {}, "items": {}}
    text = FORMATS["readme"](Content(small))["README.md"]
    front = yaml.safe_load(text.split("\n---\n", 1)[0].removeprefix("---\n"))
    assert front["pretty_name"] == printable(title)


@given(st.text(alphabet=st.sampled_from("<>&[]()!#*_`~|$\\-+=.:1 ax\n\"'@{}/"), max_size=40))
@settings(max_examples=400, deadline=None)
def test_escaped_text_renders_as_itself(text: str) -> None:
    from markdown_it import MarkdownIt

    shown = " ".join(text.split())
    if not shown:
        return
    renderer = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
    html = renderer.render(escape(text))
    assert "".join(etree.HTML(html).itertext()).strip() == shown
    assert {e.tag for e in etree.HTML(html).iter()} <= {"html", "body", "p"}
    cells = list(etree.HTML(renderer.render(table(["h", "k"], [[text, "x"]], [False, False]))).iter("td"))
    assert ["".join(c.itertext()) for c in cells] == [shown, "x"]


def test_the_model_cards_stay_well_formed_and_names_stay_text(hostile: Path) -> None:
    first = etree.parse(hostile / "chai.xml").getroot()
    assert first.findtext(".//{*}ModelName") == "]]><x/>"
    for path in hostile.glob("chai*.xml"):
        root = etree.parse(path).getroot()
        assert {etree.QName(e).namespace for e in root.iter() if isinstance(e.tag, str)} == {"https://mc.chai.org/v0.2/schema.xsd"}
        for value in root.iter("{*}ValueJson"):
            assert json.loads(value.text)["kind"] in ("estimate_ci", "single", "suppressed", "none")


def test_croissant_stays_valid_and_its_ids_are_its_own(hostile: Path) -> None:
    mlcroissant = pytest.importorskip("mlcroissant")
    text = (hostile / "croissant.json").read_text(encoding="utf-8")
    assert "<" not in text
    data = mlcroissant.Dataset(hostile / "croissant.json")
    assert not data.metadata.ctx.issues.errors

    def ids(node: object) -> list[str]:
        if isinstance(node, dict):
            return [str(v) for k, v in node.items() if k == "@id"] + [i for v in node.values() for i in ids(v)]
        return [i for v in node for i in ids(v)] if isinstance(node, list) else []

    content = json.loads(text)
    content.pop("@context")
    assert all(i.replace("-", "").replace("/", "").replace(".", "").isalnum() for i in ids(content))


def test_no_cell_of_a_csv_file_begins_a_formula(hostile: Path) -> None:
    cells = 0
    for path in (hostile / "tables").glob("*.csv"):
        with open(path, encoding="utf-8", newline="") as file:
            rows = list(csv.reader(file))
        assert len({len(r) for r in rows}) == 1, path.name
        for cell in (c for row in rows for c in row):
            cells += 1
            if cell.startswith(("=", "+", "-", "@", "\t", "\r", "|", "%", "＝", "＋")):
                float(cell)  # a negative number is a number
    assert cells > 500
    devices = (hostile / "tables" / "device.csv").read_text(encoding="utf-8")
    assert "'=HYPERLINK" in devices


def test_a_card_json_that_was_tampered_with_is_cleaned_too(twin: dict[str, object]) -> None:
    changed = json.loads(json.dumps(twin))
    changed["sections"][0]["text"] = ["<b>\u202e\x00[x](javascript:1)"]
    changed["tables"]["age"]["rows"][0][0] = "=1+1\u2028"
    changed["tables"]["../../age"] = changed["tables"]["age"]
    content = Content(changed)
    assert "&lt;b&gt;\\[x\\](javascript:1)" in FORMATS["readme"](content)["README.md"]
    made = csv_tables(content)
    assert '"\'=1+1"' in made["age.csv"]
    assert not any("/" in name or name.startswith(".") for name in made)
