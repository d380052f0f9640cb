"""The house itself: imports run one way, the wheel holds what it needs, the commands of the documentation are real."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import zipfile
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


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(out), str(ROOT)]
    subprocess.run(command, check=True)
    return next(out.glob("evenfooting-*.whl"))


def test_the_wheel_holds_every_module_and_data_file_and_nothing_else(wheel: Path) -> None:
    names = {n for n in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in n}
    wanted = {str(p.relative_to(ROOT)) for room in FLOOR for p in (ROOT / room).rglob("*") if p.is_file() and "__pycache__" not in p.parts}
    wanted |= {f"cards/{p.relative_to(ROOT)}" for p in (ROOT / "templates").rglob("*") if p.is_file()}
    assert names == wanted


def test_the_wheel_works_outside_the_repository(wheel: Path, tmp_path: Path) -> None:
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    code = (
        "import cards, curate, pretrain, evaluate\n"
        "from pathlib import Path\n"
        f"assert Path(cards.__file__).is_relative_to({str(tmp_path)!r}), cards.__file__\n"
        "from curate.profiles import read_profile; read_profile('odir5k')\n"
        "from pretrain import read_recipe; read_recipe('mae-tiny')\n"
        "from cards import init_card; init_card(Path('card'))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], check=False, capture_output=True, text=True, cwd=tmp_path, env={"PYTHONPATH": str(tmp_path / "site")}
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "card" / "card.yaml").stat().st_size > 1000


def test_the_demo_runs_the_commands_of_the_readme() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    demo = re.findall(r"^step (.+)$", (ROOT / "demo.sh").read_text(encoding="utf-8"), re.MULTILINE)
    assert len(demo) == 7
    for command in demo:
        assert command in readme
