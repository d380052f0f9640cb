"""What ``curate identify`` prints, and what ``curate sample --balance auto`` reads of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from curate import console
from curate.artefacts import read_json
from curate.errors import UserError


def show(about: dict[str, Any], out: Path) -> None:
    """Print the ranked table, the paragraph and what was left out.

    Args:
        about: the contents of ``identify.json``.
        out: its folder.
    """
    columns = ("attribute", "of the", "largest eps²", "in", "R² alone", "R² others fixed", "noise floor", "probe", "purity lift", "verdict")
    rows = [
        (
            console.short(r["attribute"]), r.get("of", "person"), _number(r["epsilon_squared"]),
            r["strongest_index"] or "-", _number(r["r2_marginal"]),
            _number(r["r2_conditional"]), _number(r["noise_floor"]),
            f"{'AUC' if r['probe'] == 'auc' else 'R²'} {_number(r['probe_score'])}", _number(r["purity_lift"]), r["verdict"],
        )
        for r in about["ranking"]
    ]  # fmt: skip
    console.table(
        columns,
        rows,
        title=f"what goes with the variation of {about['space']['name']} ({about['images']:,} images, {about['patients']:,} patients)",
    )
    console.say("\n" + about["in_words"])
    for note in about["notes"]:
        console.say(f"note: {' '.join(note.split())}")
    if about.get("done_before"):
        console.say(f"\n{out}: already made by this command, nothing to do")
    else:
        pictures = ", ".join(f for f in about["figures"] if f.endswith(".png"))
        console.say(f"\n{out}: identify.json, results.parquet, {pictures} (and as .svg)")


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def read_suggested_balance(folder: Path) -> tuple[str, ...]:
    """Read what ``curate identify`` suggests to balance by.

    Args:
        folder: made by ``curate identify``.

    Returns:
        Columns, none where nothing asks to be balanced by.

    Raises:
        UserError: where there is no such folder.
    """
    if not (folder / "identify.json").is_file():
        raise UserError(f"--balance auto: no {folder / 'identify.json'}; run curate identify first, or name its folder with --identify")
    return tuple(str(c) for c in read_json(folder / "identify.json", "what curate identify makes").get("suggested_balance", ()))
