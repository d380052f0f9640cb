"""The wheel: every module and data file and nothing else, and commands that work from it alone."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from email import message_from_string
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("curate", "pretrain", "evaluate", "cards")
DATA = {".yaml", ".txt", ".json", ".j2", ".css", ".js"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(out), str(ROOT)]
    subprocess.run(command, check=True)
    return next(out.glob("evenfooting-*.whl"))


@pytest.fixture(scope="module")
def site(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds the unpacked wheel and nothing else."""
    folder = tmp_path_factory.mktemp("site")
    zipfile.ZipFile(wheel).extractall(folder)
    return folder


def outside(site: Path, folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Run Python from the unpacked wheel, in another folder."""
    environment = {**os.environ, "PYTHONPATH": str(site)}
    return subprocess.run([sys.executable, *command], check=False, capture_output=True, text=True, cwd=folder, env=environment)


def test_the_wheel_holds_every_module_and_data_file_and_nothing_else(wheel: Path) -> None:
    names = {n for n in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in n}
    wanted = {str(p.relative_to(ROOT)) for room in ROOMS for p in (ROOT / room).rglob("*") if p.is_file() and "__pycache__" not in p.parts}
    wanted |= {f"cards/{p.relative_to(ROOT)}" for p in (ROOT / "templates").rglob("*") if p.is_file()}
    assert names == wanted
    kinds = {Path(n).suffix for n in names if not n.endswith("/py.typed")}
    assert kinds == {".py"} | DATA
    assert not [n for n in names if Path(n).name.startswith(("test_", "conftest"))]


def test_every_room_tells_type_checkers_that_it_is_typed(wheel: Path) -> None:
    assert {f"{room}/py.typed" for room in ROOMS} <= set(zipfile.ZipFile(wheel).namelist())


def test_the_metadata_are_those_of_the_project(wheel: Path) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    with zipfile.ZipFile(wheel) as content:
        folder = f"evenfooting-{project['version']}.dist-info"
        about = message_from_string(content.read(f"{folder}/METADATA").decode())
        commands = content.read(f"{folder}/entry_points.txt").decode()
        assert content.read(f"{folder}/licenses/LICENSE") == (ROOT / "LICENSE").read_bytes()
    assert about["License-Expression"] == "Apache-2.0"
    assert "Put medical foundation models on an even footing" in str(about.get_payload())
    assert re.findall(r"^(\w+) = ", commands, re.MULTILINE) == sorted(ROOMS)


def test_whatever_is_imported_is_declared() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    used = [
        *project["dependencies"],
        *(r for name, rs in project["optional-dependencies"].items() if name not in ("test", "bench") for r in rs),
    ]
    declared = {re.split(r"[\[<>=]", requirement)[0].lower() for requirement in used}
    distributions = packages_distributions()
    for path in (p for room in ROOMS for p in (ROOT / room).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            imported = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            imported += [node.module] if isinstance(node, ast.ImportFrom) and node.module and not node.level else []
            for module in {name.partition(".")[0] for name in imported} - set(ROOMS) - sys.stdlib_module_names:
                assert {d.lower() for d in distributions[module]} & declared, f"{path.relative_to(ROOT)} imports {module}"


def test_every_room_finds_its_data_outside_the_repository(site: Path, tmp_path: Path) -> None:
    code = (
        "import cards, curate, pretrain, evaluate\n"
        "from pathlib import Path\n"
        f"assert all(Path(room.__file__).is_relative_to({str(site)!r}) for room in (cards, curate, pretrain, evaluate))\n"
        "from curate.profiles import profile_names, read_profile; [read_profile(name) for name in profile_names()]\n"
        "from pretrain import read_recipe; read_recipe('mae-tiny')\n"
        "from evaluate.task import shipped_tasks; assert shipped_tasks()\n"
        "from cards.catalogue import templates_folder\n"
        f"assert templates_folder() == Path({str(site)!r}) / 'cards' / 'templates'\n"
        "from cards import init_card; init_card(Path('card'), language='de')\n"
    )
    done = outside(site, tmp_path, "-c", code)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "card" / "card.yaml").stat().st_size > 1000


@pytest.mark.parametrize("room", ROOMS)
def test_every_command_says_what_it_does_outside_the_repository(room: str, site: Path, tmp_path: Path) -> None:
    done = outside(site, tmp_path, "-m", room, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"Usage: {room} ")


def test_a_phantom_archive_is_made_outside_the_repository(site: Path, tmp_path: Path) -> None:
    done = outside(site, tmp_path, "-m", "curate", "simulate", "phantom", "--patients", "2", "--workers", "1", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["patients"] == 2
    assert (tmp_path / "phantom" / "manifest.csv").is_file()
