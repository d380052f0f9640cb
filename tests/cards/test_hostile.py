# ruff: noqa: E501
"""Three hundred payloads through every way into a card, opened in Chromium: none runs, none asks for anything, none breaks the layout."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from card_artefacts import build, cohort_table, make_project

from browser import CHROMIUM, Browser, Tab
from cards.answers import ABOUT
from cards.registry import read_registry
from payloads import payloads

BATCH = 51  # as many columns and groups as one card lists
BATCHES = -(-len(payloads()) // BATCH)
MODELS = 12  # of a task

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")


class Listener(HTTPServer):
    """Counts who asks for anything."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        listener = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                listener.asked.append(self.path)
                self.send_response(200)
                self.send_header("Content-Type", "text/javascript")
                self.end_headers()
                self.wfile.write(b"window.ran=(window.ran||0)+1")

            do_POST = do_HEAD = do_GET

            def log_message(self, *_: Any) -> None:
                return

        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/x"


@pytest.fixture(scope="module")
def listener() -> Iterator[Listener]:
    server = Listener()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with Browser() as found:
        yield found


def dealt(names: list[str], n: int, *, start: int = 0) -> list[str]:
    """Give n of the names, in turn from a place."""
    return [names[(start + i) % len(names)] for i in range(n)]


def hostile_project(folder: Path, names: list[str], turn: int) -> Path:
    """Write artefacts in which these names are everything that has a name, and the answers."""
    table = cohort_table(700, seed=turn)
    place = np.arange(len(table)) // 2
    for shift, column in enumerate(("device", "site", "ethnicity")):
        table[column] = [names[(p + shift) % len(names)] for p in place]
    table = pd.concat([table, pd.DataFrame(None, index=table.index, columns=[n for n in names if n not in table])], axis=1)
    make_project(folder, table, name=names[turn % len(names)])
    measured = pd.read_parquet(folder / "cohort" / "measurements.parquet")
    measured.columns = ["image_id", *dealt(names, len(measured.columns) - 1, start=turn)]
    measured.to_parquet(folder / "cohort" / "measurements.parquet", index=False)
    path = folder / "cohort" / "cohort.json"
    about = json.loads(path.read_text())
    about["rules"] = dict.fromkeys(names, 20)
    about["made_by"].update(command=" ".join(names[:8]), version=names[3])
    path.write_text(json.dumps(about))
    path = folder / "shards" / "sample.json"
    sample = json.loads(path.read_text())
    sample.update(name=names[(turn + 1) % len(names)], target="cohort:" + names[(turn + 2) % len(names)])
    for gate, name in zip(sample["gates"], dealt(names, 9, start=3 * turn), strict=False):
        gate.update(gate=gate["gate"] if gate["gate"] in ("archive", "clean", "draw") else name, title=name)
    sample["allocation"] = [dict(sample["allocation"][i % 4], stratum={names[0]: name}) for i, name in enumerate(names)]
    path.write_text(json.dumps(sample))
    for i, name in enumerate(dealt(names, 8, start=5 * turn)):
        usable = re.sub(r"[/\x00]", "", name).encode()[:200].decode(errors="ignore") or "run"  # what a file may be called
        run = {"name": name, "recipe": {"method": name, "model": {"architecture": name}}, "status": name, "shards": {"digest": "1", "name": name}, "made_by": {"command": name, "version": name, "seed": name}}  # fmt: skip
        (folder / "runs" / f"{i}{usable}").mkdir(parents=True, exist_ok=True)
        (folder / "runs" / f"{i}{usable}" / "run.json").write_text(json.dumps(run))
    _hostile_evaluation(folder / "evaluation", names, turn)
    (folder / "card").mkdir()
    items = [item.id for item in read_registry().items]
    answers: dict[str, Any] = {
        "about": dict(zip(ABOUT, dealt(names, len(ABOUT), start=turn), strict=True)),
        "items": {
            item: {"state": "reported", "answer": "\n\n".join(name[:1000] for name in names[i :: len(items)])}
            if i % 3
            else {"state": ("cannot be reported", "not applicable")[i % 2], "reason": names[(i + 21 * turn) % len(names)] + " ."}
            for i, item in enumerate(items)
        },
    }
    (folder / "card" / "card.yaml").write_text(yaml.safe_dump(answers, allow_unicode=False))
    return folder


def _hostile_evaluation(folder: Path, names: list[str], turn: int) -> None:
    """Give four tasks a dozen models each, and an attribute whose groups are the names."""
    estimates = pd.read_parquet(folder / "estimates.parquet").query("metric == 'auroc' and `class` == 'macro' and model == 'natural'")
    everyone = estimates[estimates["attribute"] == "all"]
    grouped = [everyone.assign(attribute=names[turn % len(names)], group=name) for name in names[:48]]
    parts = []
    for task, adaptation in zip(dealt(names, 4, start=4 * turn), dealt(names, 4, start=7), strict=True):
        for model in dealt(names, MODELS, start=len(parts)):
            rows = pd.concat([everyone, *(grouped[:6] if parts else grouped)])
            parts.append(rows.assign(task=task, adaptation=adaptation, model=model, estimand=model))
    pd.concat(parts).to_parquet(folder / "estimates.parquet", index=False)
    compared = pd.read_parquet(folder / "comparisons.parquet")
    first = parts[0].iloc[0]
    compared.assign(task=first["task"], adaptation=first["adaptation"], model_a=names[0], model_b=names[1], method=names[2]).to_parquet(
        folder / "comparisons.parquet", index=False
    )
    (folder / "evaluation.json").write_text(
        json.dumps({"tasks": [{"name": first["task"], "title": names[5]}], "made_by": {"command": names[6], "version": names[7]}, "notes": names[:5]})
    )  # fmt: skip


LOOK = """(() => {
  document.querySelectorAll('details').forEach((fold) => { fold.open = true; });
  const all = [...document.querySelectorAll('*')];
  const own = ['aria-', 'data-'];
  const links = all.flatMap((e) => [...e.attributes]).filter((a) => /^(href|src|action|formaction|srcset|xlink:href|background|data)$/.test(a.name));
  return {
    ran: window.ran || 0,
    tags: [...new Set(all.map((e) => e.tagName.toLowerCase()))],
    attributes: [...new Set(all.flatMap((e) => [...e.attributes].map((a) => a.name)))],
    links: [...new Set(links.map((a) => a.value))],
    scripts: document.scripts.length, styles: document.querySelectorAll('style').length,
    sections: document.querySelectorAll('main > section').length,
    headings: [...document.querySelectorAll('h1, h2')].length,
    hidden: [...document.querySelectorAll('h2')].filter((e) => e.getBoundingClientRect().height < 10).length,
  };
})()"""
WIDTHS = "[document.documentElement.scrollWidth, document.body.scrollWidth]"
POKE = """(() => {
  for (const e of document.querySelectorAll('*')) for (const kind of ['mouseover', 'focus', 'blur', 'pointerenter', 'animationstart', 'toggle'])
    e.dispatchEvent(new Event(kind));
})()"""
TRAP = "for (const name of ['alert', 'confirm', 'prompt', 'print', 'open']) window[name] = () => { window.ran = (window.ran || 0) + 1; };"


def look(tab: Tab, page: Path) -> dict[str, Any]:
    """Open a page, unfold it, poke it, and say what is there and how wide it is."""
    tab.open(page)
    found: dict[str, Any] = tab.evaluate(LOOK)
    tab.evaluate(POKE)
    found["widths"] = {}
    for width in (390, 1400):
        tab.look(width=width)
        found["widths"][width] = max(tab.evaluate(WIDTHS))
    found["ran"] += tab.evaluate("window.ran || 0")
    found["asked"] = tab.requests()
    return found


@pytest.fixture(scope="module")
def plain(project: Path, browser: Browser) -> dict[str, Any]:
    """What a page holds that nobody attacks."""
    tab = browser.tab()
    return look(tab, project / "card" / "card.html")


@pytest.mark.parametrize("batch", range(BATCHES))
def test_no_payload_runs_asks_or_breaks_the_page(
    batch: int, tmp_path: Path, listener: Listener, browser: Browser, plain: dict[str, Any]
) -> None:
    names = payloads(to=listener.address)[batch * BATCH : (batch + 1) * BATCH]
    folder = hostile_project(tmp_path / "p", names, batch)
    assert build(folder)["bytes"] < 600_000
    text = (folder / "card" / "card.html").read_text(encoding="utf-8")
    assert not set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u0000\u2028\u2029") & set(text)
    without = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", text, count=1)  # then escaping alone must hold
    assert without != text
    for name, content in (("ltr", without), ("rtl", text.replace(' dir="ltr">', ' dir="rtl">', 1))):
        page = tmp_path / f"{name}.html"
        page.write_text(content, encoding="utf-8")
        tab = browser.tab()
        tab.before(TRAP)
        found = look(tab, page)
        assert tab.evaluate("document.documentElement.dir") == name
        tab.close()
        assert found["ran"] == 0
        assert found["asked"] == []
        assert listener.asked == []
        assert not [e for e in browser.events if e.get("method") in ("Page.javascriptDialogOpening", "Page.windowOpen")]
        assert set(found["tags"]) <= set(plain["tags"]) | {"pre", "path"}
        assert not [a for a in found["attributes"] if a.startswith("on") or a in ("style", "srcdoc", "formaction", "src")]
        assert all(link.startswith(("#", "https://")) and "127.0.0.1" not in link for link in found["links"]), found["links"]
        assert (found["scripts"], found["styles"], found["sections"], found["headings"]) == (1, 1, plain["sections"], plain["headings"])
        assert found["hidden"] == 0
        assert found["widths"] == {390: 390, 1400: 1400}


def test_the_traps_catch_what_runs(tmp_path: Path, listener: Listener, browser: Browser) -> None:
    before = len(listener.asked)
    page = tmp_path / "raw.html"
    page.write_text(
        f"<!doctype html><img src=x onerror='window.ran=(window.ran||0)+1'><script src='{listener.address}'></script><script>alert(1)</script>"
    )
    tab = browser.tab()
    tab.before(TRAP)
    found = look(tab, page)
    tab.close()
    assert found["ran"] >= 3
    assert len(found["asked"]) == 1
    assert len(listener.asked) == before + 1
    del listener.asked[before:]
    assert {"img"} <= set(found["tags"])


def test_there_are_two_hundred_payloads_of_every_kind() -> None:
    found = payloads()
    assert len(found) >= 200
    for kind in (
        "<script",
        "<svg",
        "onerror",
        "</style>",
        "{{",
        "javascript:",
        "=HYPERLINK",
        "\u2028",
        "\u202e",
        "\u200b",
        "@import",
        "&#",
    ):
        assert any(kind in name for name in found), kind
