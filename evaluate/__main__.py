"""Start the room's command line: ``python -m evaluate`` and the installed command ``evaluate``."""

from __future__ import annotations


def main() -> None:
    """Run the command line."""
    from curate.command import run
    from evaluate.cli import app

    run(app, "evaluate")


if __name__ == "__main__":
    main()
