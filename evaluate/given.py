"""Predictions that another tool wrote: read, renamed and checked, each mistake told with the first rows concerned."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from curate import UserError, nearest
from evaluate.split import SPLITS
from evaluate.task import split_names

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.float64]
Booleans = NDArray[np.bool_]

SUM_TOLERANCE = 1e-3
TEXTS = ("image_id", "patient_id", "model", "split", "adaptation", "task")
FIELDS = (*TEXTS, "label", "seed")
LABELS = "label_"
TRUE, FALSE = ("1", "yes", "true"), ("0", "no", "false")


@dataclass(frozen=True)
class Scores:
    """Which columns hold the scores, and what they are.

    Attributes:
        kind: ``score`` (one column, two classes), ``probabilities`` or ``logits`` (one column a class).
        name: the column, or what the columns' names begin with.
    """

    kind: str
    name: str

    @property
    def option(self) -> str:
        """The option that said so."""
        return {"score": "--score", "probabilities": "--scores", "logits": "--logits"}[self.kind]


def chosen_scores(score: str | None, scores: str | None, logits: str | None) -> Scores:
    """Say which of the three options was given.

    Raises:
        UserError: where it is not exactly one.
    """
    given = [Scores(kind, name) for kind, name in (("score", score), ("probabilities", scores), ("logits", logits)) if name is not None]
    if len(given) != 1:
        raise UserError(
            "give either --score COLUMN (two classes), --scores PREFIX (one column of probabilities a class, as p_) "
            "or --logits PREFIX (one column of logits a class)"
        )
    return given[0]


def parse_map(options: Sequence[str] | None) -> dict[str, str]:
    """Read ``--map FIELD=COLUMN`` options: what a column of the file is called here.

    Raises:
        UserError: where one isn't of that form, or a field or column comes twice.
    """
    mapping: dict[str, str] = {}
    for option in options or ():
        field, _, column = (part.strip() for part in option.partition("="))
        if not field or not column:
            raise UserError(f"--map {option}: expected FIELD=COLUMN, as image_id=ID or label=Truth")
        if field in mapping or column in mapping.values():
            raise UserError(f"--map {option}: '{field if field in mapping else column}' is mapped twice")
        mapping[field] = column
    return mapping


def read_predictions(file: Path, mapping: Mapping[str, str] | None = None) -> pd.DataFrame:
    """Read predictions; ids stay text, rows are numbered from 1 after the header.

    Args:
        file: CSV, TSV or Parquet.
        mapping: name here -> column of the file.

    Raises:
        UserError: where it can't be read, is empty, or has no column that is mapped.
    """
    import pandas as pd
    import pyarrow as pa

    renamed = {column: field for field, column in (mapping or {}).items()}
    texts = dict.fromkeys((*TEXTS, *(column for column, field in renamed.items() if field in TEXTS)), "string")
    try:
        if file.suffix.lower() in (".parquet", ".pq"):
            table = pd.read_parquet(file)
            table = table.astype({c: kind for c, kind in texts.items() if c in table.columns})
        else:
            separator = {".txt": None, ".tsv": "\t"}.get(file.suffix.lower(), ",")
            table = pd.read_csv(file, sep=separator, dtype=texts)
    except FileNotFoundError:
        raise UserError(f"{file}: no such file") from None
    except (ValueError, pa.ArrowException, OSError) as error:
        raise UserError(f"{file}: cannot be read ({' '.join(str(error).split())})") from None
    if not len(table):
        raise UserError(f"{file}: holds no predictions")
    for column, field in renamed.items():
        if column not in table.columns:
            raise UserError(f"{file}: --map {field}={column}: no column '{column}'{nearest(column, map(str, table.columns))}")
        if field in table.columns and field != column and field not in renamed:
            raise UserError(f"{file}: --map {field}={column}: the file has a column '{field}' too; map that one to another name")
    return table.rename(columns=renamed)


def rows_concerned(table: pd.DataFrame, bad: Booleans, what: Callable[[int], Any]) -> str:
    """Name the first rows concerned, with their images and what is wrong with each.

    Args:
        table: as read: its index counts the file's rows from 0.
        bad: (n,) which rows.
        what: gives the text for a position of the table.
    """
    at = np.flatnonzero(bad)[:3]
    ids = table["image_id"].iloc[at].tolist() if "image_id" in table.columns else [None] * len(at)
    shown = [
        f"row {table.index[i] + 1}{f' (image {image})' if image is not None else ''}: {what(i)}" for i, image in zip(at, ids, strict=True)
    ]
    return "; ".join(shown) + ("; ..." if np.count_nonzero(bad) > len(at) else "")


def _quoting(column: pd.Series, text: Callable[[Any], str] = str) -> Callable[[int], str]:
    """Quote a column's values in a message."""
    return lambda i: repr(text(column.iloc[i]))


def truth_columns(file: Path, table: pd.DataFrame, labels: str | None) -> list[str] | None:
    """Name the columns that hold the truth of a multi-label task, None for one label an image.

    Args:
        file: for messages.
        table: the predictions.
        labels: what these columns' names begin with, as given; None: ``label_`` where there is no column ``label``.
    """
    if labels is None and "label" in table.columns:
        return None
    prefix = LABELS if labels is None else labels
    there = [str(c) for c in table.columns if str(c).startswith(prefix)]
    if there:
        return there
    if labels is not None:
        raise UserError(f"{file}: --labels {labels}: no column begins with '{labels}'")
    raise UserError(
        f"{file}: no column 'label'{nearest('label', map(str, table.columns))}; name it with --map label=COLUMN, "
        "or give one column a label, label_0, label_1, ..."
    )


def class_columns(
    file: Path, table: pd.DataFrame, scores: Scores, classes: str | None, truths: Sequence[str] | None, labels: str = LABELS
) -> tuple[list[str], list[str], list[str] | None]:
    """Give the class names, the score columns in their order, and the truth columns in that order (multi-label tasks alone)."""
    named = split_names(classes) if classes else None
    if scores.kind == "score" and truths is None:
        if scores.name not in table.columns:
            raise UserError(f"{file}: no column '{scores.name}'{nearest(scores.name, map(str, table.columns))}")
        names = named or ["0", "1"]
        if len(names) != 2:
            raise UserError(f"--classes {classes}: --score is for two classes, here are {len(names)}")
        return names, [scores.name], None
    if scores.kind == "score":
        raise UserError(f"{file}: --score is for one label; give --scores PREFIX or --logits PREFIX, one column a label")
    option = f"{scores.option} {scores.name}"
    columns = [str(c) for c in table.columns if str(c).startswith(scores.name)]
    if scores.kind == "logits" and truths is None and columns == [scores.name]:  # one logit: two classes
        if named and len(named) != 2:
            raise UserError(f"--classes {classes}: one column of logits is for two classes, here are {len(named)}")
        return named or ["0", "1"], columns, None
    if len(columns) < (2 if truths is None else 1):
        raise UserError(
            f"{file}: {option}: {len(columns)} columns begin with '{scores.name}'; at least two are needed (else --score COLUMN)"
        )
    columns, endings = _numbered(file, option, scores.name, columns)
    names = named or (endings if truths is None or not endings[0].isdigit() else [])
    if named and set(named) == set(endings):
        columns = [f"{scores.name}{name}" for name in named]
        endings = list(named)
    if truths is None:
        if len(names) != len(columns):
            raise UserError(f"--classes {classes}: {len(names)} names for {len(columns)} columns {', '.join(columns)}")
        return names, columns, None
    wanted = [f"{labels}{ending}" for ending in endings]
    if sorted(wanted) != sorted(truths):
        raise UserError(f"{file}: the scores are {', '.join(columns)} and the labels {', '.join(truths)}: each label needs both")
    names = names or endings
    if len(names) != len(columns):
        raise UserError(f"--classes {classes}: {len(names)} names for {len(columns)} columns {', '.join(columns)}")
    return names, columns, wanted


def _numbered(file: Path, option: str, prefix: str, columns: list[str]) -> tuple[list[str], list[str]]:
    """Put columns that end in numbers into the order of these, and give the endings."""
    endings = [c[len(prefix) :] for c in columns]
    if not all(e.isdigit() for e in endings):
        return columns, endings
    columns = [c for _, c in sorted(zip(map(int, endings), columns, strict=True))]
    if sorted(map(int, endings)) != list(range(len(columns))):
        raise UserError(f"{file}: {option}: expected {prefix}0 to {prefix}{len(columns) - 1}, found {', '.join(columns)}")
    return columns, [c[len(prefix) :] for c in columns]


def read_labels(file: Path, table: pd.DataFrame, names: Sequence[str]) -> NDArray[np.int64]:
    """Read labels given as class names or as 0, 1, ...

    Raises:
        UserError: where one is neither.
    """
    import pandas as pd

    # Each different value is looked at once, however many rows have it.
    codes, values = pd.factorize(table["label"])
    index = {str(k): k for k in range(len(names))}
    index.update({name: k for k, name in enumerate(names)})
    of = np.array([index.get(_text(value), -1) for value in values] + [-1], dtype=np.int64)
    labels = of[codes]
    bad = labels < 0
    if bad.any():
        given = table["label"]
        shown = lambda i: "'nothing'" if codes[i] < 0 else repr(_text(given.iloc[i]))  # noqa: E731
        raise UserError(
            f"{file}: {int(bad.sum())} labels are none of the classes {', '.join(names)} (or 0 to {len(names) - 1}): "
            f"{rows_concerned(table, bad, shown)}"
        )
    return labels


def _text(value: Any) -> str:
    if isinstance(value, bool | np.bool_):
        return str(int(value))
    return f"{value:g}" if isinstance(value, int | float | np.number) else str(value).strip()


def read_truths(file: Path, table: pd.DataFrame, columns: Sequence[str]) -> Floats:
    """Read the truth of a multi-label task.

    Returns:
        (n, labels) float64: 1, 0, or NaN where it is not known.

    Raises:
        UserError: where a value is none of 0, 1, no, yes, false, true.
    """
    import pandas as pd

    truths = np.empty((len(table), len(columns)))
    meaning = {**dict.fromkeys(TRUE, 1.0), **dict.fromkeys(FALSE, 0.0), "": np.nan}
    for k, column in enumerate(columns):
        codes, values = pd.factorize(table[column])
        texts = [_text(value).lower() for value in values]
        wrong = np.array([text not in meaning for text in texts] + [False])
        if wrong.any():
            bad: Booleans = wrong[codes]
            raise UserError(
                f"{file}: column '{column}': {int(bad.sum())} values are not 0 or 1 (or empty): "
                f"{rows_concerned(table, bad, _quoting(table[column], _text))}"
            )
        truths[:, k] = np.array([meaning[text] for text in texts] + [np.nan])[codes]
    return truths


def read_scores(file: Path, table: pd.DataFrame, columns: Sequence[str], scores: Scores, *, multilabel: bool) -> tuple[Floats, bool]:
    """Check scores and turn them into what is stored.

    Returns:
        (n, classes) float64, and whether they are probabilities. A score that isn't one stands in the second column, beside NaN.

    Raises:
        UserError: where a score is text, missing or infinite, or a row is no set of probabilities.
    """
    import pandas as pd

    for column in columns:
        if not pd.api.types.is_numeric_dtype(table[column]):
            text = table[column].astype("string")
            text_rows = (pd.to_numeric(table[column], errors="coerce").isna() & text.notna()).to_numpy(dtype=bool)
            raise UserError(f"{file}: column '{column}' is not a number: {rows_concerned(table, text_rows, _quoting(text))}")
    values = table[list(columns)].to_numpy(dtype=np.float64, na_value=np.nan)
    bad = ~np.isfinite(values).all(axis=1)
    if bad.any():
        raise UserError(
            f"{file}: {int(bad.sum())} rows have scores that are missing or infinite: "
            f"{rows_concerned(table, bad, lambda i: _shown(values[i]))}"
        )
    if scores.kind == "score":
        given = values[:, 0]
        probabilities = bool(given.min() >= 0 and given.max() <= 1)
        return np.column_stack([1 - given if probabilities else np.full(len(given), np.nan), given]), probabilities
    if scores.kind == "logits":
        return probabilities_of(values, multilabel=multilabel), True
    if multilabel:
        bad = np.asarray(np.any((values < 0) | (values > 1), axis=1))
        if bad.any():
            raise UserError(
                f"{file}: {int(bad.sum())} rows have probabilities below 0 or above 1: "
                f"{rows_concerned(table, bad, lambda i: _shown(values[i]))}{_logits_hint(values)}"
            )
        return values, True
    bad = np.asarray((values < 0).any(axis=1) | (np.abs(values.sum(axis=1) - 1) > SUM_TOLERANCE))
    if bad.any():
        what = lambda i: f"{_shown(values[i])} add up to {values[i].sum():.4g}"  # noqa: E731
        raise UserError(
            f"{file}: {int(bad.sum())} rows are not probabilities that add up to one: "
            f"{rows_concerned(table, bad, what)}{_logits_hint(values)}"
        )
    return values, True


def probabilities_of(logits: Floats, *, multilabel: bool) -> Floats:
    """Turn logits into probabilities, in float64: softmax over classes, sigmoid for labels and for the one logit of two classes.

    Args:
        logits: (n, classes), or (n, 1) for two classes.
        multilabel: whether the columns are labels of which an image may have several.
    """
    from scipy.special import expit, softmax

    if multilabel:
        return expit(logits)
    if logits.shape[1] == 1:
        return np.column_stack([expit(-logits[:, 0]), expit(logits[:, 0])])
    return softmax(logits, axis=1)


def _logits_hint(values: Floats) -> str:
    """Where nearly every row is none, the columns are something else."""
    outside = ((values < 0) | (values > 1)).any(axis=1).mean()
    return "; if these are logits, give --logits instead of --scores" if outside > 0.5 else ""


def _shown(values: Floats) -> str:
    return ", ".join("missing" if np.isnan(v) else f"{v:.4g}" for v in values[:6]) + (", ..." if len(values) > 6 else "")


def read_splits(file: Path, table: pd.DataFrame) -> Any:
    """Read the split of each row: ``test`` where the file has no such column.

    Raises:
        UserError: where a split is none of train, val, test, or nothing is to be tested on.
    """
    if "split" not in table.columns:
        return "test"
    split = table["split"]
    other = ~split.isin(SPLITS).to_numpy(dtype=bool)
    if other.any():
        shown = rows_concerned(table, other, lambda i: repr(split.iloc[i]))
        raise UserError(f"{file}: {int(other.sum())} rows have another split than train, val, test: {shown}")
    if not (split == "test").any():
        raise UserError(f"{file}: no row has the split 'test'")
    return split


def read_seeds(file: Path, table: pd.DataFrame) -> Any:
    """Read the seed of each row: 0 where the file has no such column.

    Raises:
        UserError: where one isn't a whole number.
    """
    import pandas as pd

    if "seed" not in table.columns:
        return 0
    numbers = pd.to_numeric(table["seed"], errors="coerce")
    bad = (numbers.isna() | (numbers % 1 != 0)).to_numpy(dtype=bool)
    if bad.any():
        raise UserError(
            f"{file}: {int(bad.sum())} seeds are not whole numbers: {rows_concerned(table, bad, lambda i: repr(table['seed'].iloc[i]))}"
        )
    return numbers.astype("int64")


def refuse_repeats(file: Path, table: pd.DataFrame, predictions: pd.DataFrame) -> None:
    """Refuse two rows of one image for one model, adaptation and seed."""
    twice = predictions.duplicated(["model", "adaptation", "seed", "image_id"]).to_numpy()
    if twice.any():
        what = lambda i: f"model {predictions['model'].iloc[i]}, seed {predictions['seed'].iloc[i]} again"  # noqa: E731
        raise UserError(f"{file}: {int(twice.sum())} rows repeat an image for one model and seed: {rows_concerned(table, twice, what)}")
