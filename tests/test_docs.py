"""The documentation: every link leads somewhere, every command exists, and the reference is that of the code."""

from __future__ import annotations

import importlib
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from commands_of_docs import ROOMS, ROOT, Command, anchors, blocks, commands, generator, links, markdown_files, parse, spoken

PAGES = markdown_files()
WRITTEN = [command for page in PAGES for block in blocks(page) for command in commands(block)]


@pytest.fixture(scope="module")
def generated() -> dict[Path, str]:
    return {ROOT / "docs" / name: text for name, text in generator().pages().items()}


@pytest.fixture(scope="module")
def texts(generated: dict[Path, str]) -> dict[Path, str]:
    return {page: page.read_text(encoding="utf-8") for page in PAGES} | generated


def test_every_link_leads_to_a_file_and_a_heading(texts: dict[Path, str]) -> None:
    wrong = []
    for page, text in texts.items():
        for line, target in links(text):
            if re.match(r"[a-z]+:", target):
                continue
            name, _, anchor = target.partition("#")
            to = (page.parent / name).resolve() if name else page
            if to not in texts and not to.exists():
                wrong.append(f"{page.relative_to(ROOT)}:{line}: no file {target}")
            elif anchor and (to not in texts or anchor not in anchors(texts[to])):
                wrong.append(f"{page.relative_to(ROOT)}:{line}: no heading {target}")
    assert not wrong, "\n".join(wrong)


def test_every_page_is_in_the_navigation(generated: dict[Path, str]) -> None:
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:")[2]
    named = re.findall(r": ([\w/-]+\.md)$", navigation, re.MULTILINE)
    here = [p for p in [*PAGES, *generated] if p.is_relative_to(ROOT / "docs")]
    assert sorted(named) == sorted(p.relative_to(ROOT / "docs").as_posix() for p in here)


def test_every_how_to_is_in_the_list_of_how_tos() -> None:
    folder = ROOT / "docs" / "how-to"
    listed = {target for _, target in links((folder / "README.md").read_text(encoding="utf-8"))}
    assert {p.name for p in folder.glob("*.md")} - {"README.md"} <= listed


def test_the_documentation_has_commands_of_every_room() -> None:
    assert len(WRITTEN) > 100
    assert {command.words[0] for command in WRITTEN} == set(ROOMS)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_every_command_of_a_block_is_understood(page: Path) -> None:
    wrong = []
    for command in WRITTEN:
        # "$@" of a script stands for a command that a later line of the page gives; ... for what the reader knows.
        if command.page != page or {"$@", "..."} & set(command.words):
            continue
        try:
            parse(command)
        except Exception as error:
            wrong.append(f"{command}\n    {error}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_every_command_and_option_that_the_text_names_exists(page: Path) -> None:
    wrong = []
    known = {name: command for room in ROOMS for name, command in generator().all_commands(room)}
    for command in spoken(page):
        name = next((n for n in known if command.words[: len(n.split())] == tuple(n.split())), None)
        if name is None:
            groups = {n.rpartition(" ")[0] for n in known} | set(ROOMS)
            if " ".join(command.words) not in groups and not {"|", "..."} & set(command.words):
                wrong.append(f"{command}: no such command")
            continue
        options = {option for p in known[name].params for option in (*p.opts, *p.secondary_opts)} | {"--help"}
        wrong += [f"{command}: no option {w}" for w in command.words if w.startswith("--") and w.partition("=")[0] not in options]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("curate sample --ballance age", "--ballance"),
        ("curate sample --holdout much", "number"),
        ("curate sample --holdout 2", "0.9"),
        ("curate sample --holdout", "argument"),
        ("curate smaple", "smaple"),
        ("curate ingest --images photographs", "manifest"),
        ("curate verify shards more", "more"),
    ],
)
def test_a_command_that_does_not_exist_is_not_understood(line: str, said: str) -> None:
    with pytest.raises(Exception, match=f"(?i){said}"):
        parse(Command(ROOT / "README.md", 1, tuple(line.split())))


def shapes(html: str) -> dict[str, int]:
    return {
        tag: len(re.findall(rf"<{tag}\b", html)) for tag in ("h1", "h2", "h3", "ul", "ol", "li", "table", "tr", "td", "pre", "img", "a")
    }


def test_the_site_reads_every_page_as_a_repository_shows_it(texts: dict[Path, str]) -> None:
    markdown = pytest.importorskip("markdown")
    repository = pytest.importorskip("markdown_it").MarkdownIt("gfm-like", {"linkify": False})
    site = markdown.Markdown(extensions=["tables", "fenced_code", "sane_lists"])
    for page, text in texts.items():
        if page.is_relative_to(ROOT / "docs"):
            text = re.sub(r"<(https?://[^>]+)>", r"\1", text)
            assert shapes(site.reset().convert(text)) == shapes(repository.render(text)), page


@pytest.fixture(scope="module")
def reference(generated: dict[Path, str]) -> dict[str, str]:
    return {path.stem: text for path, text in generated.items()}


def test_the_reference_has_every_command_and_option(reference: dict[str, str]) -> None:
    for room in ROOMS:
        for name, command in generator().all_commands(room):
            section = reference["commands"].partition(f"\n### {name}\n")[2].partition("\n### ")[0]
            assert section, name
            options = [option for p in command.params for option in p.opts if option.startswith("--")]
        assert options
        assert not [option for option in options if f"<code>{option}" not in section], name


def test_the_reference_has_defaults(reference: dict[str, str]) -> None:
    row = next(line for line in reference["commands"].split("\n") if line.startswith("| <code>--holdout"))
    assert (
        row == "| <code>--holdout &lt;float&gt;</code> | Share of patients kept out for evaluation. | <code>0.1; 0.0&lt;=x&lt;=0.9</code> |"
    )


def test_a_column_that_nobody_explained_stops_the_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    from evaluate import estimates

    monkeypatch.setattr(estimates, "COLUMNS", (*estimates.COLUMNS, "surprise"))
    with pytest.raises(ValueError, match=r"estimates\.parquet.*surprise"):
        generator().artefacts_page()


def test_the_reference_has_every_recipe_metric_and_name(reference: dict[str, str]) -> None:
    from evaluate.task import METRICS
    from pretrain.recipe import recipe_names

    assert not [name for name in recipe_names() if f"\n## {name}\n" not in reference["recipes"]]
    headings = ", ".join(re.findall(r"^## (.+)$", reference["metrics"], re.MULTILINE)).split(", ")
    assert sorted(headings) == sorted(METRICS)
    for room in ROOMS:
        assert not [n for n in importlib.import_module(room).__all__ if f"\n### {room}.{n}\n" not in reference["python"]]


def test_the_schema_of_the_card_is_told_in_full(reference: dict[str, str]) -> None:
    schema = json.loads((ROOT / "templates/schema/card.schema.json").read_text(encoding="utf-8"))
    section = reference["artefacts"].partition("### card.json")[2]
    assert not [field for field in schema["properties"] if f"| `{field}` |" not in section]


def test_the_site_is_built_without_a_warning_and_asks_no_other_host(tmp_path: Path) -> None:
    pytest.importorskip("properdocs", reason="the site's generator is not installed: pip install '.[docs]'")
    build = [
        sys.executable,
        "-m",
        "properdocs",
        "build",
        "--strict",
        "--quiet",
        "-f",
        str(ROOT / "mkdocs.yml"),
        "-d",
        str(tmp_path / "site"),
    ]
    done = subprocess.run(build, cwd=ROOT, check=False, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    fetched = (
        r"<(?:script|link|img|iframe)\b[^>]*?(?:src|href)=[\"']?((?:https?:)?//[^\"'\s>]+)|url\(['\"]?((?:https?:)?//[^)'\"]+)|@import"
    )
    pages = [*(tmp_path / "site").rglob("*.html"), *(tmp_path / "site").rglob("*.css")]
    assert len(pages) > len(PAGES) / 2
    assert not [(page.name, found) for page in pages for found in re.findall(fetched, page.read_text(encoding="utf-8"))]
