"""What a release says of itself: one version, a citation, a threat model whose tests exist, licences that were looked at."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

import pytest
import yaml

import licences

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_the_version_stands_in_one_place_and_heads_the_changelog() -> None:
    first = re.search(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert first is not None
    assert first[1] == PROJECT["version"]
    stated = re.compile(rf"(?:__version__|\bversion\b|evenfooting)\W{{1,4}}{re.escape(PROJECT['version'])}\b")
    files = [*ROOT.glob("*.cff"), ROOT / "README.md", ROOT / "Makefile", ROOT / "CONTRIBUTING.md"]
    files += [p for room in ("curate", "pretrain", "evaluate", "cards") for p in (ROOT / room).rglob("*.py")]
    assert not [p.name for p in files if stated.search(p.read_text(encoding="utf-8"))]


def test_the_citation_has_what_the_format_asks_for_and_invents_nobody() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    assert citation["cff-version"] == "1.2.0"
    assert citation["type"] == "software"
    assert citation["title"] == PROJECT["name"]
    assert citation["license"] == PROJECT["license"]
    assert citation["authors"] == PROJECT["authors"]
    # What the schema knows at the top, of which a version is given by the command alone.
    assert set(citation) <= {"cff-version", "message", "title", "type", "authors", "abstract", "keywords", "license"}


def cited() -> list[tuple[str, list[str]]]:
    """The test files that SECURITY.md names, each with the tests that it names of it."""
    found = []
    for entry in re.split(r"^- ", (ROOT / "SECURITY.md").read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]:
        entry = entry.split("\n\n")[0]
        files = re.findall(r"`(tests/[\w/]+\.py)`", entry)
        names = re.findall(r"`(test_\w+)`", entry)
        found += [(file, names if len(files) == 1 else []) for file in files]
    return found


@pytest.mark.parametrize(("file", "names"), cited(), ids=lambda v: v if isinstance(v, str) else "")
def test_what_the_threat_model_calls_tested_is(file: str, names: list[str]) -> None:
    there = {f.name for f in ast.walk(ast.parse((ROOT / file).read_text(encoding="utf-8"))) if isinstance(f, ast.FunctionDef)}
    assert any(name.startswith("test_") for name in there)
    assert not set(names) - there


def test_the_threat_model_covers_every_kind_of_input() -> None:
    text = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    sections = text.split("## What is not, and what is tested")[1].split("\n## ")[0].split("### ")[1:]
    assert len(sections) == 8
    for section in sections:
        assert "`tests/" in section, section.splitlines()[0]


def test_the_page_of_licences_is_that_of_the_dependencies() -> None:
    assert (ROOT / "LICENSES.md").read_text(encoding="utf-8") == licences.page(), "run: python tests/licences.py > LICENSES.md"


def test_every_direct_dependency_is_permissive_or_a_named_exception() -> None:
    found = licences.direct()
    assert {d.name for d in found if not licences.permissive(d.licence)} == set(licences.EXCEPTIONS)
    assert not [d for d in found if re.search("AGPL|(?<!L)GPL|NC", d.licence)]


def test_what_is_brought_along_is_permissive_or_named() -> None:
    found = licences.brought_along()
    assert len(found) > 50
    assert not {name: text for name, text in found.items() if not licences.permissive(text) and not licences.allowed(name)}


@pytest.mark.parametrize(
    ("expression", "is_permissive"),
    [
        ("MIT", True),
        ("Apache-2.0 WITH LLVM-exception AND BSD-3-Clause", True),
        ("MIT OR GPL-3.0-only", True),
        ("MIT AND LGPL-3.0-only", False),
        ("(MIT AND Zlib) OR AGPL-3.0-or-later", True),
        ("LicenseRef-NVIDIA-Proprietary", False),
    ],
)
def test_an_expression_is_read_as_spdx_means_it(expression: str, is_permissive: bool) -> None:
    assert licences.permissive(expression) == is_permissive
