"""Start the room's command line: ``python -m curate`` and the installed command ``curate``."""

from __future__ import annotations


def main() -> None:
    """Run the command line."""
    from curate.cli import app
    from curate.command import run

    run(app, "curate")


if __name__ == "__main__":
    main()
