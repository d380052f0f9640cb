"""The cleaning ledger: every value that was changed or refused on the way into the cohort, and by which rule."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

# What each rule does, in a reader's words; the card shows them.
RULES: dict[str, str] = {
    "missing-word": "a word that stands for 'not known' became missing",
    "coding": "a code was replaced by its stated meaning",
    "age-text": "an age written as text became a number",
    "age-top-coded": "an age such as '90+' became the number it starts from",
    "age-sentinel": "an age that no person has (negative, or 120 and over) became missing",
    "age-placeholder": "an age of 0 or 1 among adults became missing",
    "age-birth-year": "a birth year in the age column became the age at acquisition, or missing where the date is unknown",
    "age-unreadable": "an age that cannot be read became missing",
    "age-falls": "ages of a patient that fall as time passes became missing",
    "sex-unreadable": "a sex that cannot be read became missing",
    "sex-conflict": "a sex that differs between rows of one patient became missing",
    "laterality-unreadable": "a side that is neither left nor right became missing",
    "date-sentinel": "a placeholder date became missing",
    "date-unreadable": "a date that cannot be read became missing",
    "spelling": "spellings of one name were unified to the commonest",
    "id-float": "an id that had been read as a number got its whole-number form back",
    "id-padding": "an id got its leading zeros back",
    "path-extension": "a file name got its missing ending",
    "direct-identifier": "a column that identifies people was not copied",
    "duplicate-row": "a row that repeats another was refused",
    "duplicate-image": "rows that give one image to different people or eyes were refused",
    "duplicate-file": "a second copy of one patient's file was refused",
    "same-photograph": "the same file stands under two patients: they are kept together in every split",
    "identity-conflict": "rows of one patient, eye and day with different ages were refused: two people may share the id",
    "patient-missing": "a row without a patient was refused",
    "path-missing": "a row without a file name was refused",
    "path-outside": "a file outside the image folder was refused",
    "image-missing": "a row whose image does not exist was refused",
    "image-damaged": "a row whose image cannot be decoded was refused",
    "image-elsewhere": "a row whose image is not in this part of the archive was left out",
}
REFUSING = frozenset(
    {
        "duplicate-row", "duplicate-image", "duplicate-file", "identity-conflict", "patient-missing", "path-missing",
        "path-outside", "image-missing", "image-damaged", "image-elsewhere",
    }
)  # fmt: skip


class Ledger:
    """Collects changes; becomes ``ledger.parquet``."""

    def __init__(self) -> None:
        self._entries: list[pd.DataFrame] = []

    def record(self, rows: Any, column: str, before: Any, after: Any, rule: str) -> None:
        """Note that values changed or rows were refused.

        Args:
            rows: row numbers of the manifest.
            column: the column concerned.
            before: values as they were, one a row, or one for all.
            after: values as they are now, likewise; None for missing or refused.
            rule: one of `RULES`.

        Raises:
            KeyError: where the rule has no description.
        """
        import pandas as pd

        RULES[rule]
        if not len(rows):
            return
        columns = {"row": list(rows), "column": column, "before": _each(before, len(rows)), "after": _each(after, len(rows)), "rule": rule}
        self._entries.append(pd.DataFrame(columns))

    def frame(self) -> pd.DataFrame:
        """Give the entries, by row, then in the order in which they were made.

        Returns:
            Columns row (int64), column, before, after, rule (text; missing is null).
        """
        import pandas as pd

        if not self._entries:
            return pd.DataFrame(
                {"row": pd.Series(dtype="int64"), **{c: pd.Series(dtype="str") for c in ("column", "before", "after", "rule")}}
            )
        frame = pd.concat(self._entries, ignore_index=True).sort_values("row", kind="stable", ignore_index=True)
        for column in ("before", "after"):
            values = frame[column]
            frame[column] = values.map(lambda v: f"{v:g}" if isinstance(v, float) else str(v), na_action="ignore")
        return frame.astype({"row": "int64", **dict.fromkeys(("column", "before", "after", "rule"), "str")})

    def counts(self) -> dict[str, int]:
        """Count entries by rule, by name."""
        counts: dict[str, int] = {}
        for entry in self._entries:
            rule = str(entry["rule"].iloc[0])
            counts[rule] = counts.get(rule, 0) + len(entry)
        return dict(sorted(counts.items()))


def _each(values: Any, count: int) -> list[Any]:
    return list(values) if isinstance(values, list) else [values] * count
