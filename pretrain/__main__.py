"""Start the room's command line: ``python -m pretrain`` and the installed command ``pretrain``."""

from __future__ import annotations


def main() -> None:
    """Run the command line."""
    from curate.command import run
    from pretrain.cli import app

    run(app, "pretrain")


if __name__ == "__main__":
    main()
