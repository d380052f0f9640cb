"""From a cohort's columns to labels: which class, or which of several findings, each image has."""

from __future__ import annotations

from typing import TYPE_CHECKING

from curate import UserError, fitting, is_rule, nearest, parse_rule

if TYPE_CHECKING:
    import pandas as pd

    from evaluate.task import Task

MOST_CLASSES = 200
_YES_NO = {"1": 1, "yes": 1, "true": 1, "0": 0, "no": 0, "false": 0}
LeftOut = dict[str, int]


def label_columns(classes: int) -> list[str]:
    """Name the truth columns of a multilabel task: ``label_0``, ``label_1``, ..."""
    return [f"label_{k}" for k in range(classes)]


def with_path_columns(task: Task, table: pd.DataFrame) -> pd.DataFrame:
    """Add the columns that a task's pattern finds in the images' paths; null where it finds nothing.

    Raises:
        UserError: where the cohort has values of its own under such a name, or no path fits.
    """
    if not task.pattern:
        return table
    found = table["path"].astype("string").str.extract(task.pattern)
    found = found[[name for name in found.columns if isinstance(name, str)]]  # groups without names have numbers
    for name in found:
        if name in table.columns and table[name].notna().any():
            raise UserError(f"task {task.name}: pattern: the cohort has a column '{name}' of its own; name the group otherwise")
    if found.isna().all(axis=None):
        raise UserError(f"task {task.name}: pattern: fits no image's path; the first is {table['path'].iloc[0]}")
    return table.assign(**{str(name): found[name] for name in found})


def with_classes(task: Task, table: pd.DataFrame, source: str) -> Task:
    """Fill in the classes of a task that leaves them to the cohort: the values of its label column, in sorted order.

    Args:
        task: the task.
        table: a cohort's table.
        source: what it is, for messages.

    Raises:
        UserError: where there is no such column, or it holds no values or too many.
    """
    import pandas as pd

    if task.classes:
        return task
    column = _column(task, task.label, with_path_columns(task, table), source)
    text = _comparable(column).dropna()
    values = sorted(text.unique(), key=float if pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column) else str)
    if not 2 <= len(values) <= MOST_CLASSES:
        raise UserError(
            f"task {task.name}: column '{task.label}' holds {len(values)} different values; name the classes in the task file (classes:)"
        )
    return task.model_copy(update={"classes": {value: [value] for value in values}})


def class_indices(task: Task, table: pd.DataFrame, source: str) -> tuple[pd.Series, LeftOut]:
    """Give each image its class.

    Values of the label column are compared as numbers where it holds numbers (a cohort holds 0 as 0.0 where some labels are
    missing), as text elsewhere. Of rules the first that fits wins.

    Args:
        task: of the kind ``classification``, with its classes.
        table: a cohort's table.
        source: what it is, for messages.

    Returns:
        Class index of each row as nullable Int64, null where the row is left out, and why rows were left out: value
        (or ``"no label"``, ``"no rule fits"``) -> rows.

    Raises:
        UserError: where a column is missing, a value is text beside a numeric column, or fewer than two classes occur.
    """
    labels, left_out, what = _by_rules(task, table) if not task.label else _by_values(task, table, source)
    found = labels.dropna().nunique()
    if found < 2:
        raise UserError(f"task {task.name}: {what} {found} of the {len(task.classes)} classes{_seen(task, table)}")
    return labels, left_out


def finding_labels(task: Task, table: pd.DataFrame, source: str) -> tuple[pd.DataFrame, LeftOut]:
    """Give each image all its findings.

    Args:
        task: of the kind ``multilabel``.
        table: a cohort's table.
        source: what it is, for messages.

    Returns:
        Columns ``label_0``, ... of nullable Int64: 1, 0, or null where that finding isn't known; the index is the table's.
        A row of which nothing is known is to be left out; why rows are: ``"no label"`` -> rows.

    Raises:
        UserError: where a column is missing or holds something else, or no finding has images with it and without it.
    """
    import pandas as pd

    findings = {}
    for column, (name, given) in zip(label_columns(len(task.classes)), task.classes.items(), strict=True):
        where = f"task {task.name}: classes.{name}"
        if is_rule(given[0]) and given[0] not in table.columns:
            findings[column] = _any(given, table, where).astype("Int64")
        else:
            findings[column] = _yes_or_no(_column(task, given[0], table, source, f"classes.{name}"), where)
    labels = pd.DataFrame(findings, index=table.index)
    if not any(set(labels[column].dropna()) == {0, 1} for column in labels):
        raise UserError(f"task {task.name}: no label is both 1 and 0 in {source}: nothing to tell apart")
    empty = int(labels.isna().all(axis=1).sum())
    return labels, {"no label": empty} if empty else {}


def _column(task: Task, name: str, table: pd.DataFrame, source: str, field: str = "label") -> pd.Series:
    if name not in table.columns:
        raise UserError(f"task {task.name}: {field}: {source} has no column '{name}'{nearest(name, map(str, table.columns))}")
    return table[name]


def _any(rules: list[str], table: pd.DataFrame, where: str) -> pd.Series:
    fits = fitting(parse_rule(rules[0]), table, where)
    for rule in rules[1:]:
        fits = fits | fitting(parse_rule(rule), table, where)
    return fits


def _by_rules(task: Task, table: pd.DataFrame) -> tuple[pd.Series, LeftOut, str]:
    import pandas as pd

    labels = pd.Series(pd.NA, index=table.index, dtype="Int64")
    for index, (name, rules) in reversed(list(enumerate(task.classes.items()))):  # the first that fits is written last
        labels[_any(rules, table, f"task {task.name}: classes.{name}").to_numpy()] = index
    empty = int(labels.isna().sum())
    return labels, {"no rule fits": empty} if empty else {}, "the rules find"


def _by_values(task: Task, table: pd.DataFrame, source: str) -> tuple[pd.Series, LeftOut, str]:
    import pandas as pd

    column = _column(task, task.label, table, source)
    text = _comparable(column)
    index_of: dict[str, int] = {}
    for index, (name, values) in enumerate(task.classes.items()):
        for value in values:
            if pd.api.types.is_bool_dtype(column):
                value = value.lower()
            elif pd.api.types.is_numeric_dtype(column):
                try:
                    value = _number_text(float(value))
                except ValueError:
                    raise UserError(
                        f"task {task.name}: classes.{name}: '{value}' is text but column '{task.label}' holds numbers"
                    ) from None
            index_of[value] = index
    labels = text.map(index_of).astype("Int64")
    counts = text[labels.isna()].fillna("no label").value_counts()
    left_out = {str(value): int(count) for value, count in sorted(counts.items(), key=lambda item: (-item[1], str(item[0])))}
    return labels, left_out, f"column '{task.label}' holds"


def _seen(task: Task, table: pd.DataFrame) -> str:
    if not task.label:
        return ""
    seen = ", ".join(f"'{v}'" for v in _comparable(table[task.label]).dropna().unique()[:8])
    return f"; it has the values {seen or 'none'}"


def _yes_or_no(column: pd.Series, where: str) -> pd.Series:
    text = _comparable(column).str.lower()
    text = text.mask(text == "")
    labels = text.map(_YES_NO).astype("Int64")
    odd = text[labels.isna() & text.notna()]
    if len(odd):
        shown = ", ".join(f"'{v}'" for v in sorted(odd.unique())[:5])
        raise UserError(f"{where}: column '{column.name}' holds {shown} in {len(odd)} rows; expected 0 or 1, yes or no, or nothing")
    return labels


def _comparable(column: pd.Series) -> pd.Series:
    import pandas as pd

    if pd.api.types.is_bool_dtype(column):
        return column.astype("string").str.lower()
    if pd.api.types.is_numeric_dtype(column):
        return column.map(_number_text, na_action="ignore").astype("string")
    return column.astype("string").str.strip()


def _number_text(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else repr(float(value))
