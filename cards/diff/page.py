"""The comparison as a page: the card's style sheet, the card's Content-Security-Policy, no request to anywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cards.diff.compare import Comparison, as_text, compare
from cards.diff.risk import refuse
from cards.protection.reading import policy_of, read_twin
from cards.render import CellWords, content_policy, read_script, style_sheet, template_environment
from curate import UserError, writing

PAGE = "diff.html"


def diff_cards(old: Path, new: Path, out: Path | None = None) -> dict[str, Any]:
    """Compare two published cards, after making sure that both may be public at once.

    Args:
        old, new: the cards' folders, or their card.json.
        out: a folder for the page; None: no page.

    Returns:
        What `Comparison.to_json` gives, with ``text`` (for the terminal), ``page`` (path, or None) and ``protected``.

    Raises:
        UserError: where one is no card, or the two together give away a hidden cell.
    """
    before, after = read_twin(old), read_twin(new)
    refuse(before, after, str(new))
    found = compare(before, after)
    protected = all(policy_of(t).protects for t in (before, after))
    page = None
    if out is not None:
        if out.exists() and not out.is_dir():
            raise UserError(f"{out}: is a file; choose another folder with --out")
        out.mkdir(parents=True, exist_ok=True)
        page = out / PAGE
        with writing(page, "w") as file:
            file.write(render_diff(found, protected=protected))
    return {**found.to_json(), "text": as_text(found), "page": None if page is None else str(page), "protected": protected}


def render_diff(found: Comparison, *, protected: bool) -> str:
    """Render the comparison as one self-contained HTML file."""
    from markupsafe import Markup

    say = found.say
    style, script = style_sheet(say("diff_title", old=found.old_title, new=found.new_title)), read_script()
    own = {"style": Markup(style), "script": Markup(script), "policy": content_policy(style, script)}
    template = template_environment(say).get_template("diff.html.j2")
    return template.render(found=found, say=say, tables=CellWords(say), protected=protected, **own)
