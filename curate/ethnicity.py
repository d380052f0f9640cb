"""Ethnicity schemes: what was recorded is placed in the groups of a named scheme, or said to be unplaced.

The schemes and the vocabulary are data files (``curate/profiles/ethnicity``). A label that means two groups of a scheme, or
none, becomes missing: nothing is guessed. What was recorded is kept beside it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from curate.errors import UserError, nearest

if TYPE_CHECKING:
    import pandas as pd

    from curate.ledger import Ledger

AS_RECORDED = "as-recorded"
_FOLDER = Path(__file__).parent / "profiles" / "ethnicity"
_SHORTEST_CUT = 8  # letters that a label cut short must still have


@dataclass(frozen=True)
class Scheme:
    """A scheme that has been read.

    Attributes:
        name: ``ons-2021``, ``uk-biobank`` or ``us-omb``.
        title: what it is, in words.
        groups: its groups, in the scheme's order.
        places: a label as `_plain` gives it -> its group, None where the scheme has no group for it.
    """

    name: str
    title: str
    groups: tuple[str, ...]
    places: dict[str, str | None]


def scheme_names() -> list[str]:
    """List the schemes, the one that changes nothing first."""
    return [AS_RECORDED, *sorted(p.stem for p in _FOLDER.glob("*.yaml") if p.stem != "labels")]


@cache
def read_scheme(name: str) -> Scheme:
    """Read a scheme by name.

    Raises:
        UserError: where there is none of that name.
    """
    if name not in scheme_names()[1:]:
        raise UserError(f"--ethnicity-scheme {name}: no such scheme{nearest(name, scheme_names())}")
    about = yaml.safe_load((_FOLDER / f"{name}.yaml").read_text(encoding="utf-8"))
    group_of = {member: group for group, members in about["groups"].items() for member in members}
    places = {label: group_of.get(member) for label, member in _vocabulary().items()}
    return Scheme(name=name, title=about["title"], groups=tuple(about["groups"]), places=places)


def place(label: str, scheme: Scheme) -> tuple[str | None, str]:
    """Say which group of a scheme a recorded label belongs to.

    Args:
        label: as recorded; not a word for 'not known'.
        scheme: from `read_scheme`.

    Returns:
        The group, or None where the label is unknown or the scheme has no one group for it; and the ledger's rule.

    Example:
        >>> place("Asian or Asian British - Chinese", read_scheme("ons-2021"))[0]
        'Asian'
        >>> place("Asian or Asian British - Chinese", read_scheme("uk-biobank"))[0]
        'Chinese'
        >>> place("White African", read_scheme("ons-2021"))
        (None, 'ethnicity-unplaced')
    """
    plain = _plain(label)
    if plain in scheme.places:
        group = scheme.places[plain]
        return group, "ethnicity-grouped" if group else "ethnicity-unplaced"
    if len(plain) >= _SHORTEST_CUT:
        # A label cut short by a narrow field: placed where all labels that begin so have one group.
        possible = {group for known, group in scheme.places.items() if known.startswith(plain)}
        if len(possible) == 1 and None not in possible:
            return possible.pop(), "text-truncated"
    return None, "ethnicity-unplaced"


def harmonise(column: pd.Series, name: str, ledger: Ledger) -> pd.Series:
    """Place a cleaned ethnicity column in a scheme.

    Args:
        column: objects; missing is None.
        name: the scheme's.
        ledger: where changes and what could not be placed go.

    Returns:
        The scheme's groups, None where missing or unplaced; the column itself for ``as-recorded``.

    Raises:
        UserError: where there is no such scheme.
    """
    from curate.cleaning import apply_by_value

    if name == AS_RECORDED:
        return column
    scheme = read_scheme(name)

    def clean(text: str) -> tuple[object, str | None]:
        group, rule = place(text, scheme)
        return group, None if group == text else rule

    return apply_by_value(column, clean, "ethnicity", ledger)


def _plain(label: str) -> str:
    return " ".join(re.sub(r"[\W\d_]+", " ", label.casefold()).split())


@cache
def _vocabulary() -> dict[str, str]:
    """Map every label, with and without its family's name before it, to the one name it has in the schemes."""
    about: dict[str, Any] = yaml.safe_load((_FOLDER / "labels.yaml").read_text(encoding="utf-8"))
    found = {_plain(label): family for family, labels in about["families"].items() for label in labels}
    members = [(member, group["family"], label) for member, group in about["groups"].items() for label in group["labels"]]
    for member, _, label in members:
        found[_plain(label)] = member
    for member, family, label in members:
        for before in about["families"][family]:
            # "Asian or Asian British: Indian", and "British White" as well as "White British".
            found.setdefault(_plain(f"{before} {label}"), member)
            found.setdefault(_plain(f"{label} {before}"), member)
    return found
