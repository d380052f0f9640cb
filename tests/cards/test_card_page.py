# ruff: noqa: E501
"""The page: valid, self-contained, accessible, and deaf to what an archive's names try to do to it."""

from __future__ import annotations

import base64
import hashlib
import re
import shutil
import subprocess
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import yaml
from card_artefacts import build, cohort_table, make_project

from browser import CHROMIUM, Browser, Tab
from cards.answers import ABOUT
from cards.policy import HIDDEN
from cards.registry import read_registry
from cards.render import css_string, read_script, style_sheet
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


def test_nothing_is_loaded_and_nothing_runs_but_the_page_s_own_script(outline: Outline, html: str) -> None:
    tags = [tag for tag, _ in outline.attributes]
    foreign = {"link", "img", "iframe", "object", "embed", "form", "base", "audio", "video", "use", "image", "animate", "foreignobject"}
    assert not set(tags) & foreign
    assert tags.count("script") == 1
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


def test_the_policy_allows_this_style_sheet_and_this_script_and_nothing_else(html: str) -> None:
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', html)
    assert policy is not None
    allowed = []
    for name in ("style", "script"):
        found = re.search(rf"<{name}>(.*?)</{name}>", html, re.S)
        assert found is not None
        digest = base64.b64encode(hashlib.sha256(found[1].encode()).digest()).decode()
        allowed.append(f"{name}-src 'sha256-{digest}'")
    said = policy[1].replace("&#39;", "'")
    assert said == f"default-src 'none'; {'; '.join(allowed)}; base-uri 'none'; form-action 'none'"


def test_the_script_makes_no_markup_out_of_text_and_asks_for_nothing() -> None:
    script = read_script()
    for word in ("innerHTML", "outerHTML", "insertAdjacent", "document.write", "eval", "Function(", "fetch", "XMLHttp", "import", "http"):
        assert word not in script, word


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


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("no Chromium here")
    with Browser() as found:
        yield found


def test_the_page_opens_without_a_complaint_and_asks_for_nothing(project: Path, browser: Browser) -> None:
    tab = browser.tab()
    tab.open(project / "card" / "card.html")
    assert tab.evaluate("document.querySelectorAll('.tool').length") > 10  # the policy admits the script
    assert tab.evaluate("getComputedStyle(document.querySelector('h2')).display") == "flex"  # and the style sheet
    assert tab.complaints() == []
    assert tab.requests() == []
    tab.close()


def test_without_javascript_everything_is_there_and_no_control_is_dead(project: Path, browser: Browser) -> None:
    tab = browser.tab(scripts=False)
    tab.open(project / "card" / "card.html")
    # The browser's own tools still look at the page.
    assert tab.evaluate("document.querySelectorAll('button, input').length") == 0
    assert tab.evaluate("document.querySelectorAll('table').length") > 12
    tab.close()


def cells(tab: Tab, table: str, column: int) -> list[str]:
    rows = f"[...document.querySelectorAll('#t-{table} tbody tr')].filter((r) => !r.hidden)"
    return list(tab.evaluate(f"{rows}.map((r) => r.cells[{column}].textContent.trim())"))


def test_a_column_sorts_by_number_with_what_is_hidden_last_and_gives_its_order_back(
    project: Path, twin: dict[str, Any], browser: Browser
) -> None:
    name, at = next(
        (name, i)
        for name, table in twin["tables"].items()
        if len(table["rows"]) > 5 and all(len(row) > 1 for row in table["rows"])
        for i, column in enumerate(table["columns"])
        if column["kind"] == "count" and any(isinstance(row[i], dict) for row in table["rows"][:-1])
    )
    tab = browser.tab()
    tab.open(project / "card" / "card.html")
    as_made = cells(tab, name, at)
    for reverse in (False, True):
        tab.evaluate(f"document.querySelectorAll('#t-{name} thead button')[{at}].click()")
        shown = cells(tab, name, at)
        assert shown != as_made
        hidden = shown.count("hidden")
        assert shown[-hidden:] == ["hidden"] * hidden
        numbers = [int(c.replace(",", "")) for c in shown[:-hidden]]
        assert numbers == sorted(numbers, reverse=reverse)
        order = "descending" if reverse else "ascending"
        assert tab.evaluate(f"document.querySelectorAll('#t-{name} [aria-sort={order}]').length") == 1
    tab.evaluate(f"document.querySelectorAll('#t-{name} thead button')[{at}].click()")
    assert cells(tab, name, at) == as_made
    tab.close()


def test_a_long_table_filters_and_says_how_many_rows_it_shows(tmp_path: Path, browser: Browser) -> None:
    folder = make_project(tmp_path / "p", cohort_table(900, devices=40))
    build(folder)
    tab = browser.tab()
    tab.open(folder / "card" / "card.html")
    assert len(cells(tab, "device", 0)) == 40
    field = "document.querySelector('#t-device').parentElement.previousElementSibling.querySelector('input')"
    tab.evaluate(f"{field}.value = 'camera 3'; {field}.dispatchEvent(new Event('input'))")
    assert len(cells(tab, "device", 0)) == 11  # Camera 3 and 30 to 39
    assert tab.evaluate(f"{field}.parentElement.nextElementSibling.textContent") == "11 of 40 rows"
    tab.close()


def test_a_table_copies_as_tabs_and_lines_and_no_cell_becomes_a_formula(tmp_path: Path, browser: Browser) -> None:
    table = cohort_table(300)
    table["site"] = table["site"].replace({"London": "=HYPERLINK(1)", "Shanghai": "@SUM(1)"})
    folder = make_project(tmp_path / "p", table)
    build(folder)
    tab = browser.tab()
    tab.open(folder / "card" / "card.html")
    tab.evaluate("navigator.clipboard.writeText = async (text) => { window.copied = text; }")
    tab.evaluate("document.querySelector('#t-site').closest('details').querySelector('.tools:last-of-type .tool').click()")
    lines = str(tab.evaluate("window.copied")).strip().split("\n")
    assert len({line.count("\t") for line in lines}) == 1
    assert lines[0].count("\t") == 5
    assert {line.split("\t")[0] for line in lines[1:]} >= {"'=HYPERLINK(1)", "'@SUM(1)"}
    tab.close()


def test_paper_shows_what_is_folded_repeats_heads_and_has_no_controls(project: Path, browser: Browser, tmp_path: Path) -> None:
    tab = browser.tab()
    tab.open(project / "card" / "card.html")
    folded = "[...document.querySelectorAll('details')].filter((d) => d.open).length"
    assert tab.evaluate(folded) == 0
    tab.pdf(tmp_path / "card.pdf")
    assert tab.evaluate(folded) == 0  # as it was
    tab.look(media="print")
    tab.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert tab.evaluate("[...document.querySelectorAll('.tool, nav, summary')].every((e) => e.getClientRects().length === 0)")
    assert tab.evaluate("[...document.querySelectorAll('table')].every((e) => e.getBoundingClientRect().height > 20)")
    tab.close()
    if shutil.which("pdftotext") is None:
        pytest.skip("no pdftotext here to read the paper with")
    done = subprocess.run(["pdftotext", "-layout", tmp_path / "card.pdf", "-"], capture_output=True, text=True, check=True)
    pages = done.stdout.split("\f")[:-1]
    assert len(pages) <= 16
    assert all(f"{i + 1} / {len(pages)}" in page for i, page in enumerate(pages))
    assert all("Two hospitals, balanced by age · Data card" in page for page in pages[1:])
    assert "SHA-256" in done.stdout  # folded on the screen
    assert "Copy the table" not in done.stdout


@pytest.mark.parametrize("width", [320, 390, 820, 1400])
def test_nothing_is_wider_than_the_screen_with_long_names_and_many_devices(width: int, hard: Path, browser: Browser) -> None:
    tab = browser.tab(width=width)
    tab.open(hard)
    tab.evaluate("document.querySelectorAll('details').forEach((fold) => { fold.open = true; })")
    assert tab.evaluate("document.documentElement.scrollWidth") == width
    clipped = "[...document.querySelectorAll('.label, h1, h2, .fig-title, caption')].filter((e) => e.scrollWidth > e.clientWidth + 1 && e.clientWidth)"
    assert tab.evaluate(f"{clipped}.map((e) => e.textContent)") == []
    tab.close()


@pytest.fixture(scope="module")
def hard(tmp_path_factory: pytest.TempPathFactory) -> Path:
    sites = ("Royal Infirmary of the Northern Counties, Department of Ophthalmology, Unit 7", "Augenklinik" * 8, "مستشفى العيون " * 6)
    folder = make_project(tmp_path_factory.mktemp("hard") / "p", cohort_table(900, devices=40, sites=sites))
    word = "W" * 300
    (folder / "card").mkdir()
    items = {
        item.id: {"state": "not applicable", "reason": word} if i % 2 else {"answer": f"{word}\n\n{word}"}
        for i, item in enumerate(read_registry().items)
    }
    (folder / "card" / "card.yaml").write_text(yaml.safe_dump({"about": dict.fromkeys(ABOUT, word), "items": items}))
    build(folder)
    return folder / "card" / "card.html"


def test_the_first_paint_comes_within_a_third_of_a_second(project: Path, browser: Browser) -> None:
    times = []
    for _ in range(5):
        tab = browser.tab()
        tab.open(project / "card" / "card.html")
        times.append(tab.first_paint())
        tab.close()
    assert min(times) < 300


def test_a_title_cannot_leave_its_place_in_the_style_sheet() -> None:
    sheet = style_sheet('x"; } body { display: none } </style>')
    assert "display: none } <" not in sheet
    assert css_string('a"\\') == '"a\\000022 \\00005c "'


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
