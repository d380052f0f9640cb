"""Reading the documentation as a reader does: its pages, headings, links, code blocks and the commands in them."""

from __future__ import annotations

import importlib
import importlib.util
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import typer

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("curate", "pretrain", "evaluate", "cards")
MARK = re.compile(r"<!-- run(?:: (.*?))? -->")


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its lines, where it begins, and what the marker above it says (None: there is none)."""

    page: Path
    line: int
    language: str
    text: str
    run: str | None


@dataclass(frozen=True)
class Command:
    """A command of one of the rooms, as a page has it."""

    page: Path
    line: int
    words: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}: {shlex.join(self.words)}"


@cache
def generator() -> ModuleType:
    """Import docs/generate.py, which is no part of any package."""
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def markdown_files() -> list[Path]:
    """List every page that is written by hand."""
    return sorted(
        [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "study").rglob("*.md"), *(ROOT / "benchmarks").rglob("*.md")]
    )


def blocks(page: Path) -> Iterator[Block]:
    """Give the fenced blocks of a page."""
    lines, number, marker = page.read_text(encoding="utf-8").split("\n"), 0, None
    while number < len(lines):
        fence = re.match(r"\s*(`{3,})(\w*)", lines[number])
        if fence:
            end = next(n for n in range(number + 1, len(lines)) if lines[n].strip().startswith(fence[1]))
            yield Block(page, number + 2, fence[2], "\n".join(lines[number + 1 : end]), marker)
            number, marker = end, None
        elif lines[number].strip():
            found = MARK.fullmatch(lines[number].strip())
            marker = (found[1] or "") if found else None
        number += 1


def commands(block: Block) -> Iterator[Command]:
    """Give the rooms' commands of a block: lines that begin with their name, after ``$``, ``srun``, ``torchrun -m`` and the like."""
    if block.language not in ("", "bash", "sh", "console"):
        return
    text = re.sub(r"\s*\\\n\s*", " ", block.text)
    shown = any(line.startswith("$ ") for line in text.split("\n"))  # then the other lines are output
    for number, line in enumerate(text.split("\n")):
        if shown and not line.startswith("$ "):
            continue
        found = re.match(rf"(?:\$ )?(?:.*\s-m )?((?:[A-Z_]+=\S+ |srun (?:--?\S+ )*)*)(({'|'.join(ROOMS)})(\s.*)?)$", line.strip())
        if found and not re.match(r"(error|note|warning|next):", line):
            words = shlex.split(found[2], comments=True)
            end = next((n for n, word in enumerate(words) if word in ("&&", "|", ";", "||", ">", "2>", "&")), len(words))
            yield Command(block.page, block.line + number, tuple(w.rstrip(";") for w in words[:end]))


def spoken(page: Path) -> Iterator[Command]:
    """Give the commands that are named in the text, as ``curate sample --balance age`` in backticks."""
    text = re.sub(r"^\s*```.*?^\s*```", lambda m: "\n" * m[0].count("\n"), page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    for found in re.finditer(rf"(?<!`)`((?:{'|'.join(ROOMS)}) [a-z][^`]*)`(?!`)", text):
        try:
            words = shlex.split(found[1], comments=True)
        except ValueError:
            words = found[1].split()
        yield Command(page, text.count("\n", 0, found.start()) + 1, tuple(words))


def parse(command: Command) -> None:
    """Have the command's own parser read it, with nothing done; a variable of a script stands for a number."""
    room, *words = (re.sub(r"^\$\w+$", "1", word) for word in command.words)
    found: Any = typer.main.get_command(importlib.import_module(f"{room}.cli").app)
    while hasattr(found, "commands"):
        assert words, "no command is named"
        if words[0] in ("--help", "--version", "--install-completion", "--show-completion"):
            return
        assert words[0] in found.commands, f"there is no command {words[0]}"
        found = found.commands[words.pop(0)]
    for parameter in found.params:
        parameter.callback = None  # which would set the scheduler, or print
    if "--help" not in words:
        found.make_context(command.words[1], words)


def anchors(text: str) -> set[str]:
    """Give the anchors of a page's headings, as GitHub and the site make them."""
    text = re.sub(r"^\s*```.*?^\s*```", "", text, flags=re.MULTILINE | re.DOTALL)
    found: set[str] = set()
    for heading in re.findall(r"^#{1,6} (.+?)\s*#*$", text, re.MULTILINE):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "")
        slug = re.sub(r"[^\w\- ]", "", plain.lower()).strip().replace(" ", "-")
        again = next(n for n in range(100) if (f"{slug}-{n}" if n else slug) not in found)
        found.add(f"{slug}-{again}" if again else slug)
    return found


def links(text: str) -> Iterator[tuple[int, str]]:
    """Give the (line, target) of every link and image of a page."""
    text = re.sub(r"^\s*```.*?^\s*```", lambda m: "\n" * m[0].count("\n"), text, flags=re.MULTILINE | re.DOTALL)
    text = re.sub(r"`[^`\n]*`", lambda m: " " * len(m[0]), text)
    for found in re.finditer(r"\]\(<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\)", text):
        yield text.count("\n", 0, found.start()) + 1, found[1]
