"""The cleaning ledger: every value that was changed or refused on the way into the cohort, and by which rule."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

# What each rule does, in a reader's words; the card shows them.
RULES: dict[str, str] = {
    "missing-word": "a word that stands for 'not known' became missing",
    "coding": "a code was replaced by its stated meaning",
    "age-text": "an age written as text became a number",
    "age-top-coded": "an age such as '90+' became the number it starts from",
    "age-sentinel": "an age that no person has (negative, or 120 and over) became missing",
    "age-placeholder": "an age that stands for 'not known' (0, 1 or 9 among adults, 99 where it is common) became missing",
    "age-birth-year": "a birth year in the age column became the age at acquisition, or missing where the date is unknown",
    "age-birth-date": "a date of birth in the age column became the age at acquisition, or missing where the date is unknown",
    "age-from-birth-date": "a missing age was found from the date of birth",
    "age-unreadable": "an age that cannot be read became missing",
    "age-falls": "ages of a patient that fall as time passes became missing",
    "sex-unreadable": "a sex that cannot be read became missing",
    "sex-conflict": "a sex that differs between rows of one patient became missing",
    "laterality-unreadable": "a side that is neither left nor right became missing",
    "laterality-both": "an image said to show both eyes has no side",
    "date-form": "a date written in another way became an ISO date",
    "date-sentinel": "a placeholder date became missing",
    "date-unreadable": "a date that cannot be read became missing",
    "spelling": "spellings of one name were unified to the commonest",
    "text-truncated": "a name cut short was completed",
    "ethnicity-grouped": "an ethnicity was placed in a group of the chosen scheme",
    "ethnicity-unplaced": "an ethnicity that has no one place in the chosen scheme became missing",
    "identifier-value": "a single value that looks like a direct identifier became missing",
    "text-unreadable": "text that is not Unicode became missing",
    "id-float": "an id that had been read as a number got its whole-number form back",
    "id-padding": "an id got its leading zeros back",
    "path-extension": "a file name got its missing ending",
    "path-spelling": "a file name was matched to the file that differs in capitals, accents' encoding or slashes alone",
    "direct-identifier": "a column that identifies people was not copied",
    "duplicate-row": "a row that repeats another was refused",
    "duplicate-image": "rows that give one image to different people or eyes were refused",
    "duplicate-file": "a second copy of one patient's file was refused",
    "same-photograph": "the same file stands under two patients: they are kept together in every split",
    "near-duplicate": "nearly the same photograph stands under two patients: they are kept together in every split",
    "identity-conflict": "rows of one patient, eye and day with different ages were refused: two people may share the id",
    "header-row": "a row that repeats the header was refused",
    "id-scientific": "a row whose patient id lost digits (1.23E+05) was refused",
    "patient-missing": "a row without a patient was refused",
    "path-missing": "a row without a file name was refused",
    "path-unreadable": "a file name that is not Unicode, or holds a null character, was refused",
    "path-outside": "a file outside the image folder was refused",
    "image-missing": "a row whose image does not exist was refused",
    "image-damaged": "a row whose image cannot be decoded was refused",
    "image-elsewhere": "a row whose image is not in this part of the archive was left out",
}
REFUSING = frozenset(
    {
        "duplicate-row", "duplicate-image", "duplicate-file", "identity-conflict", "header-row", "id-scientific", "patient-missing",
        "path-missing", "path-unreadable", "path-outside", "image-missing", "image-damaged", "image-elsewhere",
    }
)  # fmt: skip

NOTING = frozenset({"same-photograph", "near-duplicate", "direct-identifier"})  # nothing was changed or refused


class Ledger:
    """Collects changes; becomes ``ledger.parquet``.

    Args:
        rows: the manifest's row of each row of the table that is cleaned, whose index then counts from 0; None where the
            index is the manifest's rows.
    """

    def __init__(self, rows: np.ndarray | None = None) -> None:
        self._rows = rows
        self._entries: list[pd.DataFrame] = []
        self._labels: dict[str, list[Any]] = {}

    def row(self, label: Any) -> int:
        """Give the manifest's row of a row of the table."""
        return int(label if self._rows is None else self._rows[label])

    def note_column(self, column: str, finding: str, rule: str) -> None:
        """Note something of a whole column, on row 1, where its name stands."""
        self._add([1], column, None, finding, rule)

    def record(self, rows: Any, column: str, before: Any, after: Any, rule: str) -> None:
        """Note that values changed or rows were refused.

        Args:
            rows: labels of the table's index.
            column: the column concerned.
            before: values as they were, one a row, or one for all.
            after: values as they are now, likewise; None for missing or refused.
            rule: one of `RULES`.

        Raises:
            KeyError: where the rule has no description.
        """
        if len(rows):
            manifest = list(rows) if self._rows is None else self._rows[list(rows)].tolist()
            self._labels.setdefault(rule, []).extend(rows)
            self._add(manifest, column, before, after, rule)

    def labels(self, rule: str) -> list[Any]:
        """Give the labels of the table's index that a rule concerned, as they were recorded."""
        return self._labels.get(rule, [])

    def _add(self, rows: list[Any], column: str, before: Any, after: Any, rule: str) -> None:
        import pandas as pd

        RULES[rule]
        columns = {"row": rows, "column": column, "before": _each(before, len(rows)), "after": _each(after, len(rows)), "rule": rule}
        self._entries.append(pd.DataFrame(columns, dtype=object))

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
            frame[column] = frame[column].map(_text, na_action="ignore")
        return frame.astype({"row": "int64", **dict.fromkeys(("column", "before", "after", "rule"), "str")})

    def examples(self, count: int) -> dict[str, list[dict[str, Any]]]:
        """Give the first entries of every rule, as plain values."""
        entries = self.frame().astype(object)
        entries = entries.where(entries.notna(), None)
        first: dict[str, list[dict[str, Any]]] = {}
        for rule, group in entries.groupby("rule", sort=True):
            first[str(rule)] = [{str(c): v for c, v in entry.items()} for entry in group.head(count).to_dict("records")]
        return first

    def counts(self) -> dict[str, int]:
        """Count entries by rule, by name."""
        counts: dict[str, int] = {}
        for entry in self._entries:
            rule = str(entry["rule"].iloc[0])
            counts[rule] = counts.get(rule, 0) + len(entry)
        return dict(sorted(counts.items()))


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _each(values: Any, count: int) -> list[Any]:
    return list(values) if isinstance(values, list) else [values] * count
