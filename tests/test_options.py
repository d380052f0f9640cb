"""The four command lines as one: options of one name mean one thing, help loads nothing heavy, shells can complete."""

from __future__ import annotations

import ast
import importlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from curate import tool_version

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("curate", "pretrain", "evaluate", "cards")

# Options whose help differs between commands, and why one name is right all the same.
DIFFER = {
    "--adapt": "adaptations: to run, to compare, to draw",
    "--by": "attributes: to describe, to compare, to divide an evaluation by",
    "--cohort": "the cohort folder: needed, or looked for, or a further source of patients and columns",
    "--identify": "the folder of curate identify: read for one line of it, or whole",
    "--images": "photographs: where they lie, or how many",
    "--map": "another name of a column: in an archive's table, in a file of predictions",
    "--modality": "what the images are: what is measured depends on it, or where they are cut",
    "--model": "models: a network that marks, backbones to adapt or to embed with, names in an evaluation",
    "--name": "the name of what is made",
    "--out": "where what is made goes, by the name of the artefact",
    "--set": "a field changed: of a recipe, of an adaptation",
    "--size": "pixels along a side: drawn, or resized to",
    "--split": "the two senses of the field: a dataset's split, and a column to divide by",
    "--task": "tasks: to adapt to, names in an evaluation, the one in a file",
}
# Of these the callback is the use: they change how the work is done or shown, wherever they stand.
SHARED = {"json", "quiet", "debug", "scheduler", "part"}


def commands(command: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    inner = getattr(command, "commands", {})
    if not inner:
        yield path, command
    for name, one in inner.items():
        yield from commands(one, (*path, name))


LINES = [line for room in ROOMS for line in commands(get_command(importlib.import_module(f"{room}.cli").app), (room,))]
OPTIONS = [(path, option) for path, command in LINES for option in command.params if option.param_type_name == "option"]


def test_options_of_one_name_have_one_help_or_a_reason() -> None:
    texts: dict[str, set[str]] = {}
    for _, option in OPTIONS:
        texts.setdefault(option.opts[0], set()).add(option.help)
    assert {name for name, found in texts.items() if len(found) > 1} == set(DIFFER)


def test_one_meaning_has_one_name() -> None:
    names: dict[str, set[str]] = {}
    for _, option in OPTIONS:
        names.setdefault(re.sub(r"\s*\[default: .*", "", option.help), set()).add(option.opts[0])
    assert not {text: found for text, found in names.items() if len(found) > 1}


@pytest.mark.parametrize("name", ["--seed", "--replicates", "--workers", "--policy", "--shards", "--evaluation", "--runs", "--json"])
def test_options_of_one_name_have_one_default(name: str) -> None:
    defaults = {str(option.default) for _, option in OPTIONS if option.opts[0] == name}
    assert len(defaults) == 1, defaults


def test_every_command_talks_in_the_same_three_ways() -> None:
    for path, command in LINES:
        assert {"--json", "--quiet", "--debug"} <= {o.opts[0] for o in command.params}, path
        assert command.help, path


def test_help_is_a_sentence_and_says_defaults_and_repetition_in_one_way() -> None:
    for path, option in OPTIONS:
        where = f"{' '.join(path)} {option.opts[0]}: {option.help}"
        assert re.fullmatch(r"\S.*[.\]]", option.help), where
        assert "Default:" not in option.help, where
        assert option.help.count("[default:") == option.help.count(".  [default:"), where
        assert ("repeatable" in option.help) == option.multiple, where


@pytest.mark.parametrize("room", ROOMS)
def test_every_option_is_used(room: str) -> None:
    seen = 0
    for function in ast.parse((ROOT / room / "cli.py").read_text(encoding="utf-8")).body:
        if isinstance(function, ast.FunctionDef) and any(".command" in ast.unparse(d) for d in function.decorator_list):
            used = {node.id for line in function.body for node in ast.walk(line) if isinstance(node, ast.Name)}
            unused = {a.arg for a in function.args.args} - used - SHARED
            assert not unused, f"{function.name}: {unused}"
            seen += 1
    assert seen == sum(path[0] == room for path, _ in LINES)


HELP = """
import contextlib, io, sys
from {room}.cli import app
for words in {lines!r}:
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.suppress(SystemExit):
        app(args=[*words, "--help"], prog_name="{room}")
    assert out.getvalue().startswith("Usage: {room}"), out.getvalue()
print(len(sys.modules), *sorted({{m.partition(".")[0] for m in sys.modules}}))
"""


@pytest.mark.parametrize("room", ROOMS)
def test_help_loads_nothing_heavy(room: str) -> None:
    lines = [[], *(list(path[1:]) for path, _ in LINES if path[0] == room)]
    done = subprocess.run([sys.executable, "-c", HELP.format(room=room, lines=lines)], check=True, capture_output=True, text=True)
    count, *modules = done.stdout.split()
    heavy = {"torch", "timm", "pandas", "numpy", "scipy", "sklearn", "skimage", "cv2", "pyarrow", "matplotlib", "PIL", "jinja2", "rich"}
    assert not heavy & set(modules)
    assert int(count) < 400  # 273 when this was written: Python's own, typer, and a handful of ours
    assert done.stderr == ""


@pytest.mark.parametrize("room", ROOMS)
def test_the_version_is_that_of_the_project(room: str) -> None:
    done = subprocess.run([sys.executable, "-m", room, "--version"], check=True, capture_output=True, text=True)
    assert done.stdout == f"evenfooting {tool_version()}\n"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
@pytest.mark.parametrize("room", ROOMS)
def test_shells_complete_the_names_of_subcommands(room: str, shell: str) -> None:
    typed = f"{room} "
    asked = {
        f"_{room.upper()}_COMPLETE": f"complete_{shell}",
        "COMP_WORDS": typed,
        "COMP_CWORD": "1",
        "_TYPER_COMPLETE_ARGS": typed,
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",
    }
    done = subprocess.run([sys.executable, "-m", room], check=False, capture_output=True, text=True, env={**os.environ, **asked})
    for path, _ in LINES:
        if path[0] == room:
            assert path[1] in done.stdout
    assert done.stderr == ""
