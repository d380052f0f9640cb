"""Running the real commands, for tests of the whole line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

# A backbone in seconds: enough to see that everything fits, too little to learn anything.
QUICK = ["--samples", "256", "--set", "model.arguments.depth=2", "--set", "optim.batch=32", "--set", "optim.warmup_samples=64"]


def run(room: str, *arguments: object, cwd: Path) -> str:
    done = subprocess.run([sys.executable, "-m", room, *map(str, arguments)], cwd=cwd, check=False, capture_output=True, text=True)
    assert done.returncode == 0, f"{room} {' '.join(map(str, arguments))}\n{done.stderr}"
    return done.stdout
