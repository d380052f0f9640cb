"""Task files: what is to be predicted, for whom, and how patients are divided."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from curate import DEFAULT_ATTRIBUTES, DEFAULT_BINS, UserError, nearest, parse_bins

if TYPE_CHECKING:
    import pandas as pd

METRICS = ("auroc", "auprc")
Fraction = Field(gt=0, lt=1)


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class HoldoutSplit(_Strict):
    """Test on the patients that ``curate sample`` held out; validate on a fraction of the others."""

    test: Literal["holdout"]
    val: float = Fraction


class FractionSplit(_Strict):
    """Divide patients by fractions."""

    train: float = Fraction
    val: float = Fraction
    test: float = Fraction

    @model_validator(mode="after")
    def _sum(self) -> FractionSplit:
        if abs(self.train + self.val + self.test - 1) > 1e-9:
            raise ValueError(f"train, val and test add up to {self.train + self.val + self.test:g}, not 1")
        return self


class ColumnSplit(_Strict):
    """Take each image's split from a column of the cohort that holds train, val or test."""

    column: str


class Task(_Strict):
    """What a task file says.

    Attributes:
        name: a word that names the task in every result.
        title: what it is called for people.
        label: the column of the cohort that holds the label.
        classes: class name -> values of that column, in order.
        split: how patients are divided.
        subgroups: columns whose groups are reported.
        bins: edges by column.
        metrics: of ``auroc`` and ``auprc``.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    title: str = ""
    label: str
    classes: dict[str, list[str]]
    split: HoldoutSplit | FractionSplit | ColumnSplit
    subgroups: list[str] = list(DEFAULT_ATTRIBUTES)
    bins: dict[str, list[float]] = {name: list(edges) for name, edges in DEFAULT_BINS.items()}
    metrics: list[Literal["auroc", "auprc"]] = ["auroc", "auprc"]

    @field_validator("classes", mode="before")
    @classmethod
    def _classes(cls, value: Any) -> Any:
        if isinstance(value, list):
            value = {str(v): [v] for v in value} if len(set(map(str, value))) == len(value) else value
        if not isinstance(value, dict):
            raise ValueError("expected class names with their values, as {none: [0], mild: [1]}, or a list of different values")
        return {name: values if isinstance(values, list) else [values] for name, values in value.items()}

    @field_validator("classes")
    @classmethod
    def _distinct(cls, value: dict[str, list[str]]) -> dict[str, list[str]]:
        if len(value) < 2:
            raise ValueError("at least two classes are needed")
        seen: dict[str, str] = {}
        for name, values in value.items():
            if not values:
                raise ValueError(f"class '{name}' has no values")
            for text in values:
                if text in seen:
                    raise ValueError(f"value '{text}' is in class '{seen[text]}' and in class '{name}'")
                seen[text] = name
        return value

    @field_validator("bins")
    @classmethod
    def _rising(cls, value: dict[str, list[float]]) -> dict[str, list[float]]:
        for column, edges in value.items():
            if not edges or edges != sorted(set(edges)):
                raise ValueError(f"the edges of '{column}' must be rising numbers")
        return {**{name: list(edges) for name, edges in DEFAULT_BINS.items()}, **value}

    @field_validator("metrics", "subgroups")
    @classmethod
    def _once(cls, value: list[str]) -> list[str]:
        return list(dict.fromkeys(value))


def read_task(path: Path) -> Task:
    """Read a task file (YAML).

    Raises:
        UserError: in one line with the file, the field and what is wrong with it.
    """
    try:
        # Every scalar as text: `no`, `0` and `1e3` are class names and values here, not YAML's booleans and numbers.
        value = yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.BaseLoader)
    except FileNotFoundError:
        raise UserError(f"{path}: no task file here; a phantom archive has an example: curate simulate DIR writes DIR/task.yaml") from None
    except (yaml.YAMLError, UnicodeDecodeError, IsADirectoryError) as error:
        raise UserError(f"{path}: cannot be read as YAML ({' '.join(str(error).split())})") from None
    if not isinstance(value, dict):
        raise UserError(f"{path}: expected fields, as name, label, classes, split")
    _check_names(path, value, Task, "")
    split = value.get("split")
    model = _split_model(path, split)
    _check_names(path, split, model, "split.")  # type: ignore[arg-type]
    try:
        return Task.model_validate({**value, "split": model.model_validate(split)})
    except ValidationError as error:
        where = "split." if error.title == model.__name__ else ""
        raise UserError(f"{path}: {_first(error, where)}") from None


def _split_model(path: Path, split: Any) -> type[HoldoutSplit] | type[FractionSplit] | type[ColumnSplit]:
    if not isinstance(split, dict):
        raise UserError(f"{path}: split: expected {{test: holdout, val: 0.2}}, {{train: 0.6, val: 0.2, test: 0.2}} or {{column: NAME}}")
    if "column" in split:
        return ColumnSplit
    if "train" in split or re.fullmatch(r"[0-9.eE+-]+", str(split.get("test", ""))):
        return FractionSplit
    return HoldoutSplit


def _check_names(path: Path, value: dict[str, Any], model: type[BaseModel], prefix: str) -> None:
    for name in value:
        if name not in model.model_fields:
            raise UserError(f"{path}: unknown field '{prefix}{name}'{nearest(name, model.model_fields)}")


def _first(error: ValidationError, prefix: str) -> str:
    detail = error.errors(include_url=False)[0]
    field = prefix + ".".join(str(part) for part in detail["loc"])
    message = detail["msg"].removeprefix("Value error, ")
    if detail["type"] == "missing":
        return f"{field} is missing"
    given = detail["input"]
    shown = f" (given: '{given}')" if isinstance(given, str | int | float) else ""
    return f"{field.rstrip('.')}: {message[0].lower()}{message[1:]}{shown}"


def class_indices(task: Task, table: pd.DataFrame, source: str) -> tuple[pd.Series, dict[str, int]]:
    """Turn the label column into class indices.

    Numbers are compared as numbers (a cohort holds 0 as 0.0 where some labels are missing), text as text.

    Args:
        task: the task.
        table: a cohort's table.
        source: what it is, for messages.

    Returns:
        Class index of each row as nullable Int64, null where the row is left out, and why rows were left out: value (or
        ``"no label"``) -> rows.

    Raises:
        UserError: where there is no such column, a class's value is text beside a numeric column, or fewer than two
            classes occur.
    """
    import pandas as pd

    if task.label not in table.columns:
        raise UserError(f"task {task.name}: label: {source} has no column '{task.label}'{nearest(task.label, map(str, table.columns))}")
    column = table[task.label]
    text = _comparable(column)
    index_of: dict[str, int] = {}
    for index, (name, values) in enumerate(task.classes.items()):
        for value in values:
            if pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column):
                try:
                    value = _number_text(float(value))
                except ValueError:
                    raise UserError(
                        f"task {task.name}: classes.{name}: '{value}' is text but column '{task.label}' holds numbers"
                    ) from None
            elif pd.api.types.is_bool_dtype(column):
                value = value.lower()
            index_of[value] = index
    labels = text.map(index_of).astype("Int64")
    left_out = text[labels.isna()].fillna("no label").value_counts()
    found = labels.dropna().nunique()
    if found < 2:
        seen = ", ".join(f"'{v}'" for v in text.dropna().unique()[:8])
        raise UserError(
            f"task {task.name}: column '{task.label}' holds {found} of the {len(task.classes)} classes; it has the values {seen or 'none'}"
        )
    return labels, {str(value): int(count) for value, count in sorted(left_out.items(), key=lambda item: (-item[1], str(item[0])))}


def _comparable(column: pd.Series) -> pd.Series:
    import pandas as pd

    if pd.api.types.is_bool_dtype(column):
        return column.astype("string").str.lower()
    if pd.api.types.is_numeric_dtype(column):
        return column.map(_number_text, na_action="ignore").astype("string")
    return column.astype("string").str.strip()


def _number_text(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else repr(float(value))


def with_groups(task: Task, by: str | None, bins: list[str] | None) -> Task:
    """Put ``--by`` and ``--bins`` over what the task file says.

    Args:
        task: from the file.
        by: ``COLUMN,COLUMN``, or None to keep the file's.
        bins: ``COLUMN=EDGE,EDGE`` texts, or None.
    """
    named = {option.partition("=")[0].strip() for option in bins or ()}
    given = {name: list(edges) for name, edges in parse_bins(bins).items() if name in named}
    subgroups = split_names(by) if by is not None else task.subgroups
    return task.model_copy(update={"subgroups": subgroups, "bins": {**task.bins, **given}})


def split_names(text: str) -> list[str]:
    """Cut ``a,b`` into names, each once."""
    return list(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
