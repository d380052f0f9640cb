"""What the four commands have in common: shared options, one-line errors, exit codes.

Exit code 0: done. 1: a fault of evenfooting's own. 2: something the user can mend.
"""

from __future__ import annotations

import errno
import os
import shlex
import sys
import traceback
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from curate import console, engines
from curate.console import mode
from curate.errors import UserError
from curate.redaction import redact

# Options that change how the work is done or shown, never what is made: they are not part of the recorded command.
_ENGINE_FLAGS = {"--json", "--quiet", "--debug"}
_ENGINE_OPTIONS = {"--workers", "--scheduler", "--part", "--out"}


def _set(name: str) -> Any:
    def callback(value: bool) -> bool:
        if value:
            setattr(mode, name, True)
        return value

    return callback


def _choose_scheduler(value: str | None) -> str | None:
    if value is not None:
        engines.choose(scheduler=value)
    return value


def _choose_part(value: str | None) -> str | None:
    if value is not None:
        engines.choose(part=engines.parse_part(value))
    return value


Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.", callback=_set("json"))]
Quiet = Annotated[bool, typer.Option("--quiet", help="Print errors alone.", callback=_set("quiet"))]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.", callback=_set("debug"))]
Seed = Annotated[int, typer.Option(help="Seed of every random choice.")]
Workers = Annotated[int, typer.Option(min=0, help="Processes to use; 0: one a core. Never changes the result.")]
Scheduler = Annotated[
    str | None,
    typer.Option(
        metavar="ADDRESS", help="Work on this Dask cluster: tcp://HOST:PORT, or the scheduler's file.", callback=_choose_scheduler
    ),
]
Part = Annotated[
    str | None, typer.Option(metavar="i/N", help="Be task i of N of an array job: do that share and stop.", callback=_choose_part)
]
CohortDir = Annotated[Path, typer.Option("--cohort", help="The cohort folder.")]
ShardsDir = Annotated[Path, typer.Option("--shards", help="The shard set folder.")]
Bins = Annotated[
    list[str] | None, typer.Option("--bins", metavar="COLUMN=EDGES", help="Edges of the groups of a number, as age=40,70; repeatable.")
]


def _show_version(value: bool) -> None:
    if value:
        from curate.artefacts import tool_version

        typer.echo(f"evenfooting {tool_version()}")
        raise typer.Exit


Version = Annotated[bool, typer.Option("--version", help="Print the version.", callback=_show_version, is_eager=True)]


def new_app(text: str) -> typer.Typer:
    """Make the typer application of one room.

    Args:
        text: one line that says what the room is for.
    """
    app = typer.Typer(help=text, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None)

    @app.callback()
    def main(version: Version = False) -> None: ...

    main.__doc__ = text
    return app


def recorded_command(arguments: list[str]) -> str:
    """Give the command line as it is recorded in artefacts: without options that don't change what is made, and without
    passwords.

    Args:
        arguments: ``sys.argv`` with the program's name first.

    Example:
        >>> recorded_command(["curate", "sample", "--balance", "age", "--workers", "2", "--quiet"])
        'curate sample --balance age'
    """
    kept: list[str] = []
    skip = False
    for argument in arguments:
        if skip:
            skip = False
        elif argument in _ENGINE_OPTIONS:
            skip = True
        elif argument not in _ENGINE_FLAGS and argument.split("=")[0] not in _ENGINE_OPTIONS:
            kept.append(redact(argument))
    return shlex.join(kept)


def run(app: typer.Typer, name: str) -> NoReturn:
    """Run one room's command line and leave the process with the exit code that the outcome deserves.

    Args:
        app: made by `new_app`.
        name: the command's name, as the user types it.
    """
    mode.command = recorded_command([name, *sys.argv[1:]])
    try:
        app(prog_name=name)
    except UserError as error:
        _fail(str(error), 2)
    except engines.PartDone as done:
        console.say(str(done))
        console.result({"part": done.part[0], "of": done.part[1]})
    except BrokenPipeError:
        # The reader of our output (head, less) has left: not an error, and nothing more can be said to it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except OSError as error:
        reasons = {
            errno.ENOSPC: "no space left on the disk; free some and run the same command again",
            errno.EDQUOT: "disk quota used up; free some space and run the same command again",
            errno.EROFS: "the folder is read-only; choose another with --out",
            errno.EACCES: "permission denied",
        }
        where = f"{error.filename}: " if error.filename else ""
        if error.errno in reasons:
            _fail(where + reasons[error.errno], 2)
        _fail(f"{where}{error.strerror or error}", 2 if error.errno else 1)
    except MemoryError:
        _fail("not enough memory; give fewer --workers, or more memory", 2)
    except Exception as error:
        _fail(f"{type(error).__name__}: {' '.join(str(error).split())} (a fault of evenfooting's own; --debug shows where)", 1)
    sys.exit(0)


def _fail(message: str, code: int) -> NoReturn:
    if mode.debug:
        traceback.print_exc()
    print("error: " + console.printable(" ".join(message.split("\n"))), file=sys.stderr, flush=True)
    sys.exit(code)
