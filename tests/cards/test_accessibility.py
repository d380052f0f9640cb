"""Nobody is shut out: axe-core finds no barrier in the page, light and dark, wide and on a phone, right to left, everything unfolded."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from card_artefacts import build, cohort_table, make_project, write_cohort

from browser import CHROMIUM, Browser

HERE = Path(__file__).parent
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
SITES = ("مستشفى العيون الجامعي في المدينة القديمة بجوار الميناء", "עין הים, מרפאה עירונית לרפואת עיניים")

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")


@pytest.fixture(scope="module")
def axe(request: pytest.FixtureRequest) -> str:
    """axe-core, in the version of package-lock.json, fetched once."""
    assert request.config.cache is not None
    folder = request.config.cache.mkdir("axe-core")
    script = folder / "node_modules" / "axe-core" / "axe.min.js"
    version = (HERE / "package-lock.json").read_bytes()
    if not script.exists() or (folder / "package-lock.json").read_bytes() != version:
        if shutil.which("npm") is None:
            pytest.skip("no npm here to fetch axe-core with")
        for name in ("package.json", "package-lock.json"):
            shutil.copy(HERE / name, folder / name)
        done = subprocess.run(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"], cwd=folder, capture_output=True, check=False)
        if done.returncode:
            pytest.skip("axe-core cannot be fetched here")
    return script.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with Browser() as found:
        yield found


@pytest.fixture(scope="module")
def pages(project: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A rich card, the same from right to left, one of the barest archive, one without protection."""
    folder = tmp_path_factory.mktemp("pages")
    build(make_project(folder / "rtl", cohort_table(600, devices=40, sites=SITES)))
    page = folder / "rtl" / "card" / "card.html"
    page.write_text(page.read_text(encoding="utf-8").replace(' dir="ltr">', ' dir="rtl">', 1), encoding="utf-8")
    write_cohort(folder / "bare" / "cohort", cohort_table(40).drop(columns=["age", "sex", "ethnicity", "device", "site"]), measured=False)
    build(folder / "bare")
    write_cohort(folder / "open" / "cohort", cohort_table(100))
    build(folder / "open", policy="none")
    made = {name: folder / name / "card" / "card.html" for name in ("rtl", "bare", "open")}
    return {"rich": project / "card" / "card.html", **made}


@pytest.mark.parametrize(
    ("name", "width", "dark"),
    [
        ("rich", 1400, False), ("rich", 1400, True), ("rich", 390, False), ("rtl", 390, True), ("rtl", 1400, False), ("bare", 820, False),
        ("open", 390, False),
    ],
)  # fmt: skip
def test_axe_finds_no_barrier(name: str, width: int, dark: bool, pages: dict[str, Path], browser: Browser, axe: str) -> None:
    tab = browser.tab(width=width, dark=dark)
    tab.open(pages[name])
    tab.evaluate("document.querySelectorAll('details').forEach((fold) => { fold.open = true; })")
    tab.evaluate(axe)
    found: dict[str, Any] = tab.evaluate(f"axe.run(document, {{runOnly: {RULES}, resultTypes: ['violations']}})")
    told = [f"{v['id']}: {v['help']}: {v['nodes'][0]['html'][:160]} {v['nodes'][0].get('failureSummary', '')}" for v in found["violations"]]
    assert told == []
    assert len(found["passes"]) > 20
    tab.close()


def test_axe_would_find_a_barrier(pages: dict[str, Path], browser: Browser, axe: str) -> None:
    tab = browser.tab()
    tab.open(pages["rich"])
    tab.evaluate("document.querySelector('main').append(document.createElement('input')); document.documentElement.removeAttribute('lang')")
    tab.evaluate(axe)
    found = tab.evaluate(f"axe.run(document, {{runOnly: {RULES}, resultTypes: ['violations']}})")
    assert {"label", "html-has-lang"} <= {v["id"] for v in found["violations"]}
    tab.close()


def test_every_link_and_control_is_reached_by_the_keyboard_and_shows_it(pages: dict[str, Path], browser: Browser) -> None:
    tab = browser.tab()
    tab.open(pages["rich"])
    seen = []
    for _ in range(20):
        for kind in ("keyDown", "keyUp"):
            tab.call("Input.dispatchKeyEvent", {"type": kind, "key": "Tab", "code": "Tab", "windowsVirtualKeyCode": 9})
        seen.append(
            tab.evaluate(
                "(() => { const e = document.activeElement, s = getComputedStyle(e);"
                " return [e.tagName, s.outlineStyle, parseFloat(s.outlineWidth), e.getBoundingClientRect().width > 0]; })()"
            )
        )
    assert [s[0] for s in seen[:3]] == ["A", "A", "A"]
    assert all(style == "solid" and width >= 2 and there for _, style, width, there in seen)
    tab.close()


def test_motion_is_left_out_for_those_who_ask(pages: dict[str, Path], browser: Browser) -> None:
    tab = browser.tab()
    tab.open(pages["rich"])
    behaviour = "getComputedStyle(document.documentElement).scrollBehavior"
    assert tab.evaluate(behaviour) == "smooth"
    tab.call("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-reduced-motion", "value": "reduce"}]})
    assert tab.evaluate(behaviour) == "auto"
    tab.close()
