# ruff: noqa: E501
"""No exact number reaches an output: counts are marked by primes that nothing else on a card is, and looked for."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from card_artefacts import build, make_project

from cards.protection.reading import read_twin

# Numbers of people in groups that are told apart by nothing else. None is a multiple of five; together they are 4801, a prime.
PEOPLE = {"Alpha": 1429, "Beta": 1237, "Gamma": 1103, "Delta": 769, "Epsilon": 257, "Zeta": 6}


@pytest.fixture(scope="module")
def marked(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, set[int]]:
    """A project whose groups have those sizes, with its card, and all exact counts that a card is about."""
    rng = np.random.default_rng(4)
    group = np.repeat(list(PEOPLE), list(PEOPLE.values()))
    n = len(group)
    table = pd.DataFrame(
        {
            "image_id": [f"m{i:05d}" for i in range(n)], "path": "p.jpg", "patient_id": [f"Q{i:05d}" for i in range(n)], "laterality": "left",
            "acquired_on": "2015-01-01", "age": rng.integers(18, 95, n).astype(float), "sex": rng.choice(["female", "male"], n, p=[0.47, 0.53]),
            "ethnicity": group, "device": rng.choice(["Camera K", "Camera L"], n, p=[0.3, 0.7]), "site": "Eye clinic", "width": 512, "height": 512,
            "sha256": "0", "phash": "0", "dr_grade": 0.0,
        }
    )  # fmt: skip
    folder = make_project(tmp_path_factory.mktemp("taint") / "p", table)
    build(folder)
    exact: set[int] = {n, *PEOPLE.values()}
    for column in ("sex", "device"):
        exact |= set(table[column].value_counts().astype(int))
    exact |= set(pd.cut(table["age"], [0, 39, 70, 200]).value_counts().astype(int))
    for gate in json.loads((folder / "shards" / "sample.json").read_text())["gates"]:
        exact |= {int(gate[k]) for k in ("images", "patients") if gate.get(k) is not None}
        exact |= {int(v[k]) for groups in gate.get("by", {}).values() for v in groups.values() for k in v}
    return folder, {x for x in exact if x > 100 and x % 5}


def numbers(text: str) -> set[int]:
    """Every whole number of a text, thousands joined, inside attributes, texts and code alike; digests are left out."""
    plain = re.sub(r"[0-9a-f]{16,}", " ", text)
    plain = re.sub(r"(?<=\d)[,\u202f](?=\d{3}(?!\d))", "", plain)
    return {int(m) for m in re.findall(r"(?<![\w.])\d+(?![\w]|\.\d)", plain)}


def test_no_exact_count_is_in_any_file_of_the_card(marked: tuple[Path, set[int]]) -> None:
    folder, exact = marked
    assert len(exact) > 20
    files = [p for p in sorted((folder / "card").rglob("*")) if p.is_file()]
    assert {"card.html", "card.json", "card.yaml"} <= {p.name for p in files}
    for path in files:
        found = numbers(path.read_text(encoding="utf-8")) & exact
        assert found == set(), path.name


def test_the_search_would_find_them(marked: tuple[Path, set[int]]) -> None:
    folder, exact = marked
    build(folder, policy="none", out=folder / "open")
    for name in ("card.html", "card.json"):
        assert len(numbers((folder / "open" / name).read_text(encoding="utf-8")) & exact) > 15


def counts(value: Any, found: set[int]) -> set[int]:
    if isinstance(value, dict):
        for v in value.values():
            counts(v, found)
    elif isinstance(value, list):
        for v in value:
            counts(v, found)
    elif isinstance(value, int) and not isinstance(value, bool):
        found.add(value)
    return found


def test_every_large_number_of_the_page_and_the_exports_stands_in_a_protected_table(marked: tuple[Path, set[int]]) -> None:
    folder, _ = marked
    twin = read_twin(folder / "card")
    allowed = counts(twin["tables"], counts(twin["counts"], set()))
    recipes = {20000, 19968}  # samples that a run saw: of no person
    for path in sorted((folder / "card").iterdir()):
        if path.suffix in (".html", ".md", ".xml"):
            text = re.sub(r"<(style|script)>.*?</\1>", "", path.read_text(encoding="utf-8"), flags=re.S)
            large = {n for n in numbers(text) if n > 2100}
            assert large <= allowed | recipes, path.name
