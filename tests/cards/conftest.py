"""The card that most tests of the room look at."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from card_artefacts import build, make_project


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A rich project with its card built."""
    folder = make_project(tmp_path_factory.mktemp("rich") / "project")
    build(folder)
    return folder


@pytest.fixture(scope="session")
def html(project: Path) -> str:
    """The rich project's page."""
    return (project / "card" / "card.html").read_text(encoding="utf-8")


@pytest.fixture(scope="session")
def twin(project: Path) -> dict[str, Any]:
    """The rich project's JSON twin."""
    return json.loads((project / "card" / "card.json").read_text(encoding="utf-8"))
