"""The house itself: imports run one way, the commands of the documentation are real."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FLOOR = {"curate": 0, "pretrain": 1, "evaluate": 2, "cards": 3}


def imports(path: Path) -> list[tuple[str, tuple[str, ...]]]:
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [(alias.name, ()) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.append((node.module, tuple(alias.name for alias in node.names)))
    return found


@pytest.mark.parametrize("room", FLOOR)
def test_imports_run_one_way_and_through_the_front_door(room: str) -> None:
    for path in (ROOT / room).rglob("*.py"):
        for module, _ in imports(path):
            other, _, inside = module.partition(".")
            if other not in FLOOR or other == room:
                continue
            assert FLOOR[other] < FLOOR[room], f"{path.name} imports {module}"
            # What every command line shares is part of the ground floor's front door.
            assert inside in ("", "console", "command"), f"{path.name} reaches into {module}"


@pytest.mark.parametrize("room", ["curate", "cards"])
def test_rooms_that_need_no_torch_never_import_it(room: str) -> None:
    for path in (ROOT / room).rglob("*.py"):
        assert not {m.partition(".")[0] for m, _ in imports(path)} & {"torch", "timm", "torchvision"}, path


def test_the_demo_runs_the_commands_of_the_readme() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    demo = re.findall(r"^step (.+)$", (ROOT / "demo.sh").read_text(encoding="utf-8"), re.MULTILINE)
    assert len(demo) == 7
    for command in demo:
        assert command in readme
