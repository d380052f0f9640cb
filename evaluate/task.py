"""Task files: what is to be predicted, for whom, and how patients are divided."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from curate import DEFAULT_ATTRIBUTES, DEFAULT_BINS, UserError, is_rule, nearest, parse_bins
from evaluate.thresholds import given_threshold

METRICS = (
    "auroc", "auprc", "auprc_adjusted", "brier", "ece", "calibration_slope", "calibration_intercept",
    "sensitivity", "specificity", "ppv", "npv", "net_benefit",
)  # fmt: skip
DEFAULT_THRESHOLDS = ("youden", "specificity=0.9")
DEFAULT_NET_BENEFIT_AT = (0.05, 0.1, 0.2, 0.3)
SHIPPED = Path(__file__).parent / "tasks"
Fraction = Field(gt=0, lt=1)


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class HoldoutSplit(_Strict):
    """Test on the patients that ``curate sample`` held out; validate on a fraction of the others, train on a fraction or on the rest."""

    test: Literal["holdout"]
    val: float = Fraction
    train: float | None = Field(default=None, gt=0, lt=1)

    @model_validator(mode="after")
    def _sum(self) -> HoldoutSplit:
        if self.train is not None and self.train + self.val > 1 + 1e-9:
            raise ValueError(f"train and val, shares of those not held out, add up to {self.train + self.val:g}, more than 1")
        return self


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
        kind: ``classification``, one class an image, or ``multilabel``, any number of findings an image.
        pattern: regular expression searched in each image's path; its named groups are columns for this task alone.
        label: the column of the cohort that holds the label; empty where classes are given by rules, and for ``multilabel``.
        classes: class name -> values of that column, in order; or rules (see `curate.parse_rule`), of which the first that fits
            wins. Empty: the values of the column, sorted. For ``multilabel``: finding -> its column of 0 and 1, or a rule.
        split: how patients are divided.
        subgroups: columns whose groups are reported.
        intersections: sets of subgroups whose groups are crossed.
        bins: edges by column.
        metrics: of `METRICS`.
        thresholds: see `evaluate.thresholds.given_threshold`.
        net_benefit_at: threshold probabilities.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    title: str = ""
    kind: Literal["classification", "multilabel"] = "classification"
    pattern: str = ""
    label: str = ""
    classes: dict[str, list[str]] = {}
    split: HoldoutSplit | FractionSplit | ColumnSplit
    subgroups: list[str] = list(DEFAULT_ATTRIBUTES)
    intersections: list[list[str]] = []
    bins: dict[str, list[float]] = {name: list(edges) for name, edges in DEFAULT_BINS.items()}
    metrics: list[str] = list(METRICS)
    thresholds: list[str] = list(DEFAULT_THRESHOLDS)
    net_benefit_at: list[float] = list(DEFAULT_NET_BENEFIT_AT)

    @field_validator("pattern")
    @classmethod
    def _compiles(cls, value: str) -> str:
        try:
            named = re.compile(value).groupindex
        except re.error as error:
            raise ValueError(f"not a regular expression ({error})") from None
        if value and not named:
            raise ValueError("has no named group, as (?P<split>train|val|test)")
        return value

    @field_validator("classes", mode="before")
    @classmethod
    def _classes(cls, value: Any) -> Any:
        if isinstance(value, list):
            value = {str(v): [v] for v in value} if len(set(map(str, value))) == len(value) else value
        if not isinstance(value, dict):
            raise ValueError("expected class names with their values, as {none: [0], mild: [1]}, or a list of different values")
        return {name: values if isinstance(values, list) else [values] for name, values in value.items()}

    @field_validator("bins")
    @classmethod
    def _rising(cls, value: dict[str, list[float]]) -> dict[str, list[float]]:
        for column, edges in value.items():
            if not edges or edges != sorted(set(edges)):
                raise ValueError(f"the edges of '{column}' must be rising numbers")
        return {**{name: list(edges) for name, edges in DEFAULT_BINS.items()}, **value}

    @field_validator("metrics")
    @classmethod
    def _known(cls, value: list[str]) -> list[str]:
        for name in value:
            if name not in METRICS:
                raise ValueError(f"'{name}' is not a metric{nearest(name, METRICS)}; known are {', '.join(METRICS)}")
        if not value:
            raise ValueError("at least one metric is needed")
        return [name for name in METRICS if name in value]

    @field_validator("subgroups")
    @classmethod
    def _once(cls, value: list[str]) -> list[str]:
        return list(dict.fromkeys(value))

    @field_validator("intersections")
    @classmethod
    def _several(cls, value: list[list[str]]) -> list[list[str]]:
        for attributes in value:
            if len(set(attributes)) < 2 or len(set(attributes)) < len(attributes):
                raise ValueError("each is a list of two or more different subgroups, as [[age, sex]]")
        return [list(attributes) for attributes in dict.fromkeys(map(tuple, value))]

    @field_validator("thresholds")
    @classmethod
    def _thresholds(cls, value: list[str]) -> list[str]:
        for rule in value:
            try:
                given_threshold(rule)
            except UserError as error:
                raise ValueError(str(error)) from None
        return list(dict.fromkeys(value))

    @field_validator("net_benefit_at")
    @classmethod
    def _probabilities(cls, value: list[float]) -> list[float]:
        for number in value:
            if not 0 < number < 1:
                raise ValueError(f"{number:g} is not a threshold probability between 0 and 1")
        return sorted(set(value))

    @model_validator(mode="after")
    def _fits_together(self) -> Task:
        if self.kind == "multilabel":
            _check_findings(self.label, self.classes)
        else:
            _check_classes(self.label, self.classes)
        crossed = [attribute for attributes in self.intersections for attribute in attributes]
        # frozen for everyone else: an intersection's attributes are subgroups as well
        object.__setattr__(self, "subgroups", list(dict.fromkeys([*self.subgroups, *crossed])))
        return self


def _check_classes(label: str, classes: dict[str, list[str]]) -> None:
    if not label and not (classes and all(is_rule(text) for values in classes.values() for text in values)):
        raise ValueError("label is missing: give the column that holds the label, or rules alone, as {event: 'years_to_event <= 3'}")
    if len(classes) == 1:
        raise ValueError("classes: at least two classes are needed")
    seen: dict[str, str] = {}
    for name, values in classes.items():
        if not values:
            raise ValueError(f"classes: class '{name}' has no values")
        for text in values:
            if text in seen:
                raise ValueError(f"classes: value '{text}' is in class '{seen[text]}' and in class '{name}'")
            seen[text] = name


def _check_findings(label: str, classes: dict[str, list[str]]) -> None:
    if label:
        raise ValueError("label: a multilabel task has none; name a column for each label under classes")
    if not classes:
        raise ValueError("classes: a multilabel task needs them: label name -> column of 0 and 1, or a rule")
    for name, given in classes.items():
        if not given or (len(given) > 1 and not all(map(is_rule, given))):
            raise ValueError(f"classes: label '{name}': expected one column, or rules")


def shipped_tasks() -> dict[str, Path]:
    """Find the task files that come with evenfooting: name -> file."""
    return {path.stem: path for path in sorted(SHIPPED.glob("*.yaml"))}


def find_task(given: str | Path) -> Path:
    """Find the file of ``--task``: a path, or the name of a shipped task where no such file exists.

    Raises:
        UserError: where there is neither.
    """
    path, shipped = Path(given), shipped_tasks()
    if path.is_file() or path.suffix or path.name != str(given):
        return path
    if str(given) not in shipped:
        raise UserError(
            f"{given}: no task file here and no shipped task of this name{nearest(str(given), shipped)}; evaluate tasks lists them"
        )
    return shipped[str(given)]


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
    if (split.get("test") != "holdout" and "train" in split) or re.fullmatch(r"[0-9.eE+-]+", str(split.get("test", ""))):
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
    field = field.rstrip(".")
    return f"{field}: {message[0].lower()}{message[1:]}{shown}" if field else message


def with_groups(task: Task, by: str | None, bins: list[str] | None) -> Task:
    """Put ``--by`` and ``--bins`` over what the task file says.

    Args:
        task: from the file.
        by: ``COLUMN,COLUMN*COLUMN``, or None to keep the file's; a star crosses the groups of columns.
        bins: ``COLUMN=EDGE,EDGE`` texts, or None.

    Raises:
        UserError: where one of them isn't of that form.
    """
    named = {option.partition("=")[0].strip() for option in bins or ()}
    given = {name: list(edges) for name, edges in parse_bins(bins).items() if name in named}
    changed: dict[str, Any] = {"bins": {**task.bins, **given}}
    if by is not None:
        changed["subgroups"], changed["intersections"] = split_groups(by)
    return task.model_copy(update=changed)


def split_groups(text: str) -> tuple[list[str], list[list[str]]]:
    """Read ``--by age,sex,age*sex``: the subgroups (those that are crossed among them), and the intersections.

    Raises:
        UserError: where a star stands beside nothing, or crosses a column with itself.

    Example:
        >>> split_groups("age,age*sex")
        (['age', 'sex'], [['age', 'sex']])
    """
    subgroups: list[str] = []
    intersections: list[list[str]] = []
    for item in split_names(text):
        names = [name.strip() for name in item.split("*")]
        if not all(names) or len(set(names)) < len(names):
            raise UserError(f"--by {text}: '{item}': expected different columns with a star between, as age*sex")
        subgroups += names
        if len(names) > 1:
            intersections.append(names)
    return list(dict.fromkeys(subgroups)), intersections


def split_names(text: str) -> list[str]:
    """Cut ``a,b`` into names, each once."""
    return list(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
