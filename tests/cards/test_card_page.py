# ruff: noqa: E501
"""The page: valid, self-contained, accessible, and deaf to what an archive's names try to do to it."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest
from card_artefacts import build, cohort_table, make_project

from cards.policy import HIDDEN
from cards.tables import clean

VOID = {"meta", "link", "br", "hr", "img", "input", "rect", "circle", "line", "path"}


class Outline(HTMLParser):
    """Collects what the tests ask about, and checks that tags nest."""

    def __init__(self) -> None:
        super().__init__()
        self.stack: list[str] = []
        self.ids: list[str] = []
        self.headings: list[int] = []
        self.attributes: list[tuple[str, dict[str, str | None]]] = []
        self.untitled = 0
        self.lone: list[str] = []
        self._svg: list[bool] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.attributes.append((tag, values))
        if values.get("id"):
            self.ids.append(str(values["id"]))
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))
        if tag == "svg":
            self._svg.append("mark" in str(values.get("class")) or "y" in values)
        if tag == "title" and self._svg:
            self._svg[-1] = True
        if tag not in VOID:
            self.stack.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if self.stack and self.stack[-1] == tag:
            self.stack.pop()
        else:
            self.lone.append(tag)
        if tag == "svg":
            self.untitled += not self._svg.pop()


@pytest.fixture(scope="module")
def outline(html: str) -> Outline:
    parser = Outline()
    parser.feed(html)
    return parser


def test_tags_nest(outline: Outline) -> None:
    assert outline.lone == []
    assert outline.stack == []


def test_ids_are_unique_and_links_within_the_page_lead_somewhere(outline: Outline) -> None:
    assert len(outline.ids) == len(set(outline.ids))
    inner = [str(a["href"])[1:] for tag, a in outline.attributes if tag == "a" and str(a.get("href")).startswith("#")]
    assert len(inner) > 13
    assert set(inner) <= set(outline.ids)
    pointed = [i for _, a in outline.attributes for i in str(a.get("aria-labelledby") or "").split()]
    assert set(pointed) <= set(outline.ids)


def test_headings_start_at_one_and_skip_no_level(outline: Outline) -> None:
    assert outline.headings[0] == 1
    assert outline.headings.count(1) == 1
    assert all(b <= a + 1 for a, b in zip(outline.headings, outline.headings[1:], strict=False))


def test_every_drawing_has_a_title(outline: Outline, html: str) -> None:
    assert html.count("<svg") > 50
    assert outline.untitled == 0


def test_every_figure_has_its_numbers_as_a_table(html: str) -> None:
    figures = re.findall(r"<figure.*?</figure>", html, re.S)
    assert len(figures) >= 10
    for figure in figures:
        assert "<figcaption>" in figure
        assert "<strong" in figure
        assert "<details>" in figure
        assert "<table" in figure


def test_nothing_is_loaded_and_nothing_can_run(outline: Outline, html: str) -> None:
    tags = {tag for tag, _ in outline.attributes}
    assert not tags & {
        "script",
        "link",
        "img",
        "iframe",
        "object",
        "embed",
        "form",
        "base",
        "audio",
        "video",
        "use",
        "image",
        "animate",
        "foreignobject",
    }
    for tag, attributes in outline.attributes:
        assert not any(name.startswith("on") for name in attributes)
        assert "style" not in attributes, tag  # the policy would block it
        assert "src" not in attributes
        if tag != "a":
            assert "href" not in attributes
    style = re.search(r"<style>(.*?)</style>", html, re.S)
    assert style is not None
    assert "url(" not in style[1]
    assert "@import" not in style[1]


def test_the_policy_allows_this_style_sheet_and_nothing_else(html: str) -> None:
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', html)
    style = re.search(r"<style>(.*?)</style>", html, re.S)
    assert policy is not None
    assert style is not None
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    said = policy[1].replace("&#39;", "'")
    assert said == f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"


def luminance(colour: str) -> float:
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(a: str, b: str) -> float:
    high, low = sorted((luminance(a), luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_colours_have_the_contrast_that_wcag_aa_asks_for(html: str) -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    schemes = [dict(re.findall(r"--([a-z]+): (#[0-9a-f]{3,6})", block)) for block in re.findall(r":root \{(.*?)\}", html, re.S)]
    for scheme in schemes[:2]:
        for text in ("ink", "soft", "link"):
            assert contrast(scheme[text], scheme["paper"]) >= 4.5, text
            assert contrast(scheme[text], scheme["wash"]) >= 4.5, text
        for drawn in ("set", "model", "third", "fourth", "source"):
            assert contrast(scheme[drawn], scheme["paper"]) >= 3, drawn


PAYLOADS = [
    "<script>document.title='ran'</script>", "<img src=x onerror=\"document.title='ran'\">", "\"><svg onload=\"document.title='ran'\">",
    "</style><script>document.title='ran'</script>", "</title><script>document.title='ran'</script>", "{{ 7*7 }}{% raw %}", "{0.__class__} {n}",
    "'; DROP TABLE cohort; --", "=HYPERLINK(\"http://x\")", "a\u2028b\u2029c", "\u202egnp.exe", "</table></main><h1>big</h1>", "javascript:alert(1)", "x" * 5000, "&lt;b&gt;", "\x00\x07",
]  # fmt: skip


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    table = cohort_table(600, devices=len(PAYLOADS))
    number = table["device"].str.removeprefix("Camera ").map(ord) - 65
    table["device"] = [PAYLOADS[i] for i in number]
    table["site"] = [PAYLOADS[(i + 3) % len(PAYLOADS)] for i in number]
    table["ethnicity"] = [PAYLOADS[(i + 7) % len(PAYLOADS)] for i in number]
    for payload in PAYLOADS[:8]:
        table[payload] = None
    folder = make_project(tmp_path_factory.mktemp("hostile") / "p", table, name=PAYLOADS[3])
    sample = json.loads((folder / "shards" / "sample.json").read_text())
    (folder / "shards" / "sample.json").write_text(json.dumps({**sample, "name": PAYLOADS[3]}))
    for run in (folder / "runs").iterdir():
        about = json.loads((run / "run.json").read_text())
        about["recipe"]["model"]["architecture"] = PAYLOADS[1]
        about["made_by"]["command"] = PAYLOADS[0]
        (run / "run.json").write_text(json.dumps(about))
    estimates = pd.read_parquet(folder / "evaluation" / "estimates.parquet")
    estimates["model"] = estimates["model"].map({"natural": PAYLOADS[0], "balanced": PAYLOADS[2]})
    estimates.to_parquet(folder / "evaluation" / "estimates.parquet", index=False)
    (folder / "card").mkdir()
    answer = json.dumps(PAYLOADS[0] + PAYLOADS[4] + "{{ 7*7 }}")
    (folder / "card" / "card.yaml").write_text(
        f"about: {{custodian: {answer}, contact: {answer}}}\nitems: {{1.3a: {{answer: {answer}}}, 1.1a: {{answer: {answer}}}}}\n"
    )
    build(folder)
    return folder / "card"


def test_hostile_names_stay_text_in_the_page(hostile: Path) -> None:
    html = (hostile / "card.html").read_text(encoding="utf-8")
    parser = Outline()
    parser.feed(html)
    assert parser.lone == []
    assert parser.stack == []
    assert parser.headings.count(1) == 1
    assert not any(tag in ("script", "img") for tag, _ in parser.attributes)
    assert not any(name.startswith("on") for _, attributes in parser.attributes for name in attributes)
    assert "49{% raw" not in html
    assert "\u202e" not in html
    assert "x" * 200 not in html


def test_hostile_names_cannot_end_a_script_block_from_the_twin(hostile: Path) -> None:
    text = (hostile / "card.json").read_text(encoding="utf-8")
    assert not {"<", "\u2028", "\u2029"} & set(text)
    json.loads(text)


@pytest.mark.skipif(shutil.which("chromium") is None, reason="no Chromium here")
def test_hostile_names_run_nothing_in_chromium(hostile: Path, tmp_path: Path) -> None:
    page = hostile / "card.html"
    flags = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        f"--user-data-dir={tmp_path}",
        "--disable-background-networking",
        "--virtual-time-budget=2000",
    ]
    for policy in (True, False):  # without the policy escaping alone must hold
        html = page.read_text(encoding="utf-8")
        target = tmp_path / f"page-{policy}.html"
        target.write_text(html if policy else re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", html), encoding="utf-8")
        done = subprocess.run(
            ["chromium", *flags, "--dump-dom", f"file://{target}"], capture_output=True, text=True, timeout=60, check=False
        )
        assert "</main>" in done.stdout, done.stderr[-500:]
        title = re.search(r"<title>(.*?)</title>", done.stdout, re.S)
        assert title is not None
        assert title[1] != "ran"
        assert title[1].endswith("Data card")
        assert "<script" not in done.stdout
        assert 'onerror="' not in re.sub(r"&lt;.*?&gt;", "", done.stdout)


def test_names_are_cleaned_of_what_turns_text_around() -> None:
    assert clean("a\u202eb\u2066c\x07") == "abc"
    assert clean("two\n lines\u2028three") == "two lines three"
    assert len(clean("y" * 999)) == 160


def test_help_is_fast_and_loads_nothing_heavy() -> None:
    import sys

    code = "import sys; sys.argv=['cards','build','--help']\nfrom cards.__main__ import main\ntry: main()\nexcept SystemExit: pass\nassert not {'pandas','numpy','torch','jinja2'} & set(sys.modules), sorted(sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "--policy" in done.stdout


def test_a_hidden_number_is_written_as_a_word() -> None:
    from cards.catalogue import read_catalogue

    say = read_catalogue()
    assert say.cell(HIDDEN, "count") == say.cell(HIDDEN, "percent") == "hidden"
    assert say("n_people", n=HIDDEN) == "very few people"
