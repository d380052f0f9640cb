"""From sections to one HTML file: no request to anywhere, no script but ours, a policy in the page that forbids all else."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cards.answers import Answer
from cards.catalogue import Catalogue, templates_folder
from cards.policy import Suppressed
from cards.registry import Registry
from cards.sections import Figure, Note, Section
from cards.tables import KINDS, Cell

if TYPE_CHECKING:
    from jinja2 import Environment


@dataclass(frozen=True)
class Page:
    """What the page is made from; every number in it is protected already."""

    title: str
    version: str
    lead: str
    protection: Note
    protects: bool
    sections: list[Section]
    registry: Registry
    made_by: dict[str, Any]


def render(page: Page, say: Catalogue) -> str:
    """Render the page.

    Args:
        page: the content.
        say: the catalogue of the page's language.

    Returns:
        The HTML text, one self-contained file.
    """
    from markupsafe import Markup

    environment = template_environment(say)
    style, script = style_sheet(f"{page.title} · {say('kicker')}"), read_script()
    _number_figures(page.sections)
    template = environment.get_template("card.html.j2")
    # Style sheet and script are ours, not the archive's; their bytes must be those that the policy's hashes were taken of.
    own = {"style": Markup(style), "script": Markup(script), "policy": content_policy(style, script)}
    return template.render(page=page, say=say, tables=CellWords(say), **own)


def template_environment(say: Catalogue) -> Environment:
    """Give what the templates are read with: everything is escaped, and a name that isn't there is a fault."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(templates_folder()),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=_printable,
    )
    environment.filters.update(cell=lambda value, kind: say.cell(value, kind), number=say.number, state=_state)
    environment.tests["suppressed"] = lambda value: isinstance(value, Suppressed)
    return environment


# Control characters, and marks that turn around the direction of what follows them, have no place in a page.
_UNPRINTED = {
    **dict.fromkeys([*range(9), 11, 12, *range(14, 32), *range(127, 160), *range(0x202A, 0x202F), *range(0x2066, 0x206A)]),
    0x2028: " ",
    0x2029: " ",
}


def _printable(value: Any) -> Any:
    """Clean a text on its way into the page; markup of the templates passes."""
    return value.translate(_UNPRINTED) if type(value) is str else value


def style_sheet(head: str) -> str:
    """Give the style sheet of a page; `head` runs along the top of its printed pages."""
    folder = templates_folder()
    style = "\n".join((folder / name).read_text(encoding="utf-8") for name in ("card.css", "figures.css", "print.css"))
    return style.replace('"TITLE"', css_string(head))


def read_script() -> str:
    """Give the script that adds sorting, filtering and copying to a page that works without it."""
    return (templates_folder() / "card.js").read_text(encoding="utf-8")


def content_policy(style: str, script: str) -> str:
    """Write the policy that admits this style sheet and this script, by their bytes, and nothing else."""
    digest = lambda text: base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()  # noqa: E731
    allowed = f"style-src 'sha256-{digest(style)}'; script-src 'sha256-{digest(script)}'"
    return f"default-src 'none'; {allowed}; base-uri 'none'; form-action 'none'"


class CellWords:
    """What the templates ask about a table's cells."""

    def __init__(self, say: Catalogue) -> None:
        self.say = say

    def text(self, value: Cell, kind: str) -> str:
        """Write a cell."""
        assert kind in KINDS, kind
        return self.say.cell(value, kind)

    def is_hidden(self, value: Cell) -> bool:
        """Say whether a cell is hidden."""
        return isinstance(value, Suppressed)


def css_string(text: str) -> str:
    """Write text as a CSS string in which everything but letters, digits and spaces is escaped (the space after an escape ends it).

    Example:
        >>> print(css_string('A "b"</style>'))
        "A \\000022 b\\000022 \\00003c \\00002f style\\00003e "
    """
    return '"' + "".join(c if c == " " or (c.isascii() and c.isalnum()) else f"\\{ord(c):06x} " for c in text) + '"'


def _number_figures(sections: list[Section]) -> None:
    n = 0
    for section in sections:
        for block in section.blocks:
            if isinstance(block, Figure):
                n += 1
                block.number = n


def _state(answer: Answer) -> str:
    return answer.state.replace(" ", "-")
