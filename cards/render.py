"""From sections to one HTML file: no script, no request to anywhere, a policy in the page that forbids both."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from typing import Any

from cards.answers import Answer
from cards.catalogue import Catalogue, templates_folder
from cards.policy import Suppressed
from cards.registry import Registry
from cards.sections import Figure, Note, Section
from cards.tables import KINDS, Cell


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
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    folder = templates_folder()
    environment = Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(
        cell=lambda value, kind: say.cell(value, kind), number=say.number, state=_state, right=lambda kind: kind != "text"
    )
    environment.tests["suppressed"] = lambda value: isinstance(value, Suppressed)
    style = "\n".join((folder / name).read_text(encoding="utf-8") for name in ("card.css", "figures.css", "print.css"))
    style = style.replace('"TITLE"', css_string(f"{page.title} · {say('kicker')}"))  # the running head of printed pages
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    _number_figures(page.sections)
    template = environment.get_template("card.html.j2")
    # The style sheet is ours, not the archive's; its bytes must be those that the policy's hash was taken of.
    return template.render(page=page, say=say, style=Markup(style), policy=policy, tables=_Cells(say))


class _Cells:
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
