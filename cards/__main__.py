"""Start the room's command line: ``python -m cards`` and the installed command ``cards``."""

from __future__ import annotations


def main() -> None:
    """Run the command line."""
    from cards.cli import app
    from curate.command import run

    run(app, "cards")


if __name__ == "__main__":
    main()
