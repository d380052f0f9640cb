"""Running the real commands, for tests of the whole line."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path

# A backbone in seconds: enough to see that everything fits, too little to learn anything.
QUICK = ["--samples", "256", "--set", "model.arguments.depth=2", "--set", "optim.batch=32", "--set", "optim.warmup_samples=64"]


STRICT = Path(__file__).parent / "strict"


def run(room: str, *arguments: object, cwd: Path) -> str:
    """Run a command in a process of its own, where no package may warn: a normal run is quiet."""
    command = [sys.executable, "-m", room, *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(STRICT), *filter(None, [os.environ.get("PYTHONPATH")])])}
    done = subprocess.run(command, cwd=cwd, check=False, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, f"{room} {' '.join(map(str, arguments))}\n{done.stderr}"
    assert "Warning" not in done.stderr, f"{room} {' '.join(map(str, arguments))}\n{done.stderr}"
    return done.stdout


def command_line(room: str, folder: str, *arguments: str) -> None:
    """Be the command, in a process of its own and at the head of its group: what a forked child does to be killed at work."""
    from curate.command import run as run_command

    os.setsid()
    os.chdir(folder)
    sys.argv = [room, *arguments]
    try:
        run_command(importlib.import_module(f"{room}.cli").app, room)
    except SystemExit as done:
        os._exit(int(done.code or 0))  # a forked child doesn't call what joblib's worker threads wait for at the end
