"""What an answer claims about the data, and the names that it may use."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Claim:
    """Something that a sentence says about the data.

    Attributes:
        rule: ``balance``, ``nobody``, ``recorded``, ``unrecorded``, ``gapless``, ``missing``, ``size``, ``years``, ``share`` or
            ``number of groups``.
        sentence: that says it.
        words: the words that were read.
        about: what of: an attribute, a noun.
        group: of which group.
        value: the number claimed, percentages as such; ``low`` and ``high`` ends of a range.
        how: ``""``, or the word before a number (about, over), or an operator.
    """

    rule: str
    sentence: str
    words: str
    about: str = ""
    group: str = ""
    value: float | None = None
    low: float | None = None
    high: float | None = None
    how: str = ""


@dataclass(frozen=True)
class Vocabulary:
    """The names that the data have: group (in lower case) -> its attribute and name; column (in lower case, words) -> column."""

    groups: dict[str, tuple[str, str]] = field(default_factory=dict)
    columns: dict[str, str] = field(default_factory=dict)
