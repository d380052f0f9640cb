"""What an interval is about, in the page's language.

An evaluation writes its estimand as an English sentence. The sentences that evenfooting writes are known here part by part; one
that some other tool wrote is quoted.
"""

from __future__ import annotations

import re

from cards.sections import Work
from cards.tables import clean

_WHAT = (
    ("head", r"this trained head"),
    ("heads", r"the mean of these (?P<n>\d+) trained heads"),
    ("model", r"this model"),
    ("seeds", r"the mean of these (?P<n>\d+) seeds of this model"),
    ("both_heads", r"these trained heads \(mean over seeds\)"),
    ("both_models", r"these models \(mean over seeds\)"),
)
_PEOPLE = ", on new patients like those tested"
_FIXED = ", at the thresholds that the validation split fixed"


def estimand(work: Work, text: str) -> str:
    """Put an estimand into the page's words.

    Args:
        work: what every section needs.
        text: as the evaluation has it.
    """
    say = work.say
    rest, fixed = (text.removesuffix(_FIXED), say("estimand_fixed")) if text.endswith(_FIXED) else (text, "")
    if not rest.endswith(_PEOPLE):
        return say("estimand_quoted", text=clean(text, 240))
    rest = rest.removesuffix(_PEOPLE)
    for key, pattern in _WHAT:
        found = re.fullmatch(pattern, rest)
        if found:
            what = say(f"estimand_{key}", n=int(found["n"])) if "n" in found.groupdict() else say(f"estimand_{key}")
            return say("estimand_people", what=what) + fixed
    return say("estimand_quoted", text=clean(text, 240))
