"""``evaluate score``: anyone's predictions, from a file, through the same estimates. No torch."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from curate import (
    DEFAULT_ATTRIBUTES,
    DEFAULT_BINS,
    UserError,
    begin,
    finish,
    group_of,
    group_order,
    nearest,
    parse_bins,
    provenance,
    sha256_file,
)
from evaluate.labelled import describe_split
from evaluate.predictions import LEADING, columns_of
from evaluate.results import TaskPlan, arrange, write_results
from evaluate.split import SPLITS, refuse_shared_patients
from evaluate.task import METRICS, split_names

if TYPE_CHECKING:
    import pandas as pd

SUM_TOLERANCE = 1e-3
ADAPTATION = "as given"


def score_file(
    file: Path,
    *,
    score: str | None = None,
    scores: str | None = None,
    classes: str | None = None,
    task: str | None = None,
    out: Path = Path("evaluation"),
    by: str | None = None,
    bins: list[str] | None = None,
    seed: int = 0,
    replicates: int = 1000,
) -> Path:
    """Write an evaluation folder from predictions in a file.

    The file has one row an image (for each model and seed, where there are several) with ``label`` and scores;
    ``image_id``, ``patient_id``, ``model``, ``seed``, ``split``, ``adaptation`` and ``task`` are used where present. Of several splits
    only ``test`` is estimated.

    Args:
        file: CSV or Parquet.
        score: column with the score of two classes; any finite number, higher is more likely class 1.
        scores: prefix of the columns with probabilities, one a class: ``p_0``, ``p_1``, ... or ``p_mild``, ...
        classes: class names in order, comma between; labels may be these names or 0, 1, ...
        task: which of the file's tasks, or the name to give the only one (default: the file's name).
        out: the evaluation folder.
        by: subgroup columns; default: age, sex and ethnicity, as far as the file has them.
        bins: ``COLUMN=EDGE,EDGE`` texts for numeric subgroup columns.
        seed: of the bootstrap.
        replicates: of the bootstrap.

    Returns:
        `out`.

    Raises:
        UserError: in one line with the first rows concerned.
    """
    if (score is None) == (scores is None):
        raise UserError("give either --score COLUMN (two classes) or --scores PREFIX (one column a class, as p_)")
    table = read_predictions(file, score)
    name, table = _one_task(file, table, task)
    names, columns = _class_columns(file, table, score, scores, classes)
    labels = _labels(file, table, names)
    values, probabilities = _scores(file, table, columns, score)
    notes = ["this tool did not make the predictions: how the models were trained and chosen is not known here"]
    if not probabilities:
        notes.append(f"'{score}' is not a probability: p_1 holds it as given")
    if "patient_id" not in table.columns:
        notes.append(
            "patients are unknown: each image counts as a patient, and intervals are too narrow where patients have several images"
        )
    groups, order = _groups(file, table, by, bins)
    predictions = _assemble(file, table, name, labels, values, groups, notes)
    plan = _plan(name, names, order, predictions, probabilities)
    arranged = arrange(predictions, [plan], heads=False)  # before anything is written: it may refuse
    models = [{"name": m, "path": None, "architecture": None, "sha256": None, "shards": None} for m in predictions["model"].unique()]
    specification = {
        "score": score,
        "scores": scores,
        "classes": names,
        "task": name,
        "by": list(order),
        "bins": bins or [],
        "bootstrap": {"replicates": replicates},
    }
    made_by = provenance(specification, {"predictions": sha256_file(file)}, seed)
    partial = begin(out, "evaluation.json", made_by)
    if partial is not None:
        about = {"made_by": made_by, "models": models, "adaptation": {"name": ADAPTATION}, "notes": notes}
        write_results(partial, arranged, about, replicates=replicates, seed=seed)
        finish(out)
    return out


def read_predictions(file: Path, score: str | None = None) -> pd.DataFrame:
    """Read predictions; ids stay text, rows are numbered from 1 after the header.

    Raises:
        UserError: where it can't be read, is empty or has no column ``label``.
    """
    import pandas as pd
    import pyarrow as pa

    texts = dict.fromkeys(("image_id", "patient_id", "model", "split", "adaptation", "task"), "string")
    try:
        if file.suffix.lower() in (".parquet", ".pq"):
            table = pd.read_parquet(file)
            table = table.astype({c: kind for c, kind in texts.items() if c in table.columns})
        else:
            table = pd.read_csv(
                file, sep=None if file.suffix.lower() == ".txt" else "\t" if file.suffix.lower() == ".tsv" else ",", dtype=texts
            )
    except FileNotFoundError:
        raise UserError(f"{file}: no such file") from None
    except (ValueError, pa.ArrowException, OSError) as error:
        raise UserError(f"{file}: cannot be read ({' '.join(str(error).split())})") from None
    if not len(table):
        raise UserError(f"{file}: holds no predictions")
    for column in ("label", *([score] if score else [])):
        if column not in table.columns:
            raise UserError(f"{file}: no column '{column}'{nearest(column, map(str, table.columns))}")
    return table


def _one_task(file: Path, table: pd.DataFrame, task: str | None) -> tuple[str, pd.DataFrame]:
    if "task" not in table.columns:
        return task or re.sub(r"[^A-Za-z0-9._-]+", "-", file.stem), table
    there = sorted(table["task"].dropna().unique())
    if task is None and len(there) > 1:
        raise UserError(f"{file}: holds {len(there)} tasks ({', '.join(there[:6])}); choose one with --task")
    name = task or there[0]
    if name not in there:
        raise UserError(f"{file}: no task '{name}'{nearest(name, there)}")
    chosen = table[(table["task"] == name).to_numpy()]
    return name, chosen.dropna(axis="columns", how="all")


def _class_columns(
    file: Path, table: pd.DataFrame, score: str | None, scores: str | None, classes: str | None
) -> tuple[list[str], list[str]]:
    """Give the class names and the score columns in their order."""
    named = split_names(classes) if classes else None
    if score is not None:
        names, columns = named or ["0", "1"], [score]
        if len(names) != 2:
            raise UserError(f"--classes {classes}: --score is for two classes, here are {len(names)}")
        return names, columns
    columns = [str(c) for c in table.columns if str(c).startswith(str(scores))]
    endings = [c[len(str(scores)) :] for c in columns]
    if len(columns) < 2:
        raise UserError(
            f"{file}: --scores {scores}: {len(columns)} columns begin with '{scores}'; at least two are needed (else --score COLUMN)"
        )
    if all(e.isdigit() for e in endings):
        columns = [c for _, c in sorted(zip(map(int, endings), columns, strict=True))]
        if sorted(map(int, endings)) != list(range(len(columns))):
            raise UserError(f"{file}: --scores {scores}: expected {scores}0 to {scores}{len(columns) - 1}, found {', '.join(columns)}")
        names = named or [str(k) for k in range(len(columns))]
    else:
        names = named or endings
        if named and set(named) == set(endings):
            columns = [f"{scores}{name}" for name in named]
    if len(names) != len(columns):
        raise UserError(f"--classes {classes}: {len(names)} names for {len(columns)} columns {', '.join(columns)}")
    return names, columns


def _rows(table: pd.DataFrame, bad: np.ndarray, what: Any) -> str:
    """Name the first rows concerned, with their values."""
    at = np.flatnonzero(bad)[:3]
    ids = table["image_id"].iloc[at].tolist() if "image_id" in table.columns else [None] * len(at)
    shown = [
        f"row {table.index[i] + 1}{f' (image {image})' if image is not None else ''}: {what(i)}" for i, image in zip(at, ids, strict=True)
    ]
    return "; ".join(shown) + ("; ..." if bad.sum() > len(at) else "")


def _labels(file: Path, table: pd.DataFrame, names: Sequence[str]) -> np.ndarray:
    """Read labels given as class names or as 0, 1, ..."""
    import pandas as pd

    column = table["label"]
    if pd.api.types.is_bool_dtype(column):
        column = column.astype("Int64")
    if pd.api.types.is_numeric_dtype(column):
        column = column.map(lambda v: f"{v:g}", na_action="ignore")
    text = column.astype("string").str.strip()
    index = {str(k): k for k in range(len(names))}
    index.update({name: k for k, name in enumerate(names)})
    labels = text.map(index).astype("Int64")
    bad = labels.isna().to_numpy()
    if bad.any():
        given = text.fillna("nothing").tolist()
        raise UserError(
            f"{file}: {int(bad.sum())} labels are none of the classes {', '.join(names)} (or 0 to {len(names) - 1}): "
            f"{_rows(table, bad, lambda i: repr(given[i]))}"
        )
    return labels.to_numpy(dtype=np.int64)


def _scores(file: Path, table: pd.DataFrame, columns: Sequence[str], score: str | None) -> tuple[np.ndarray, bool]:
    """Check scores and give (n, classes) float64, and whether they are probabilities."""
    import pandas as pd

    for column in columns:
        if not pd.api.types.is_numeric_dtype(table[column]):
            text = table[column].astype("string")
            bad = (pd.to_numeric(table[column], errors="coerce").isna() & text.notna()).to_numpy()
            raise UserError(f"{file}: column '{column}' is not a number: {_rows(table, bad, list(map(repr, text)).__getitem__)}")
    values = table[list(columns)].to_numpy(dtype=np.float64, na_value=np.nan)
    bad = ~np.isfinite(values).all(axis=1)
    if bad.any():
        raise UserError(
            f"{file}: {int(bad.sum())} rows have scores that are missing or infinite: {_rows(table, bad, lambda i: _shown(values[i]))}"
        )
    if score is not None:
        given = values[:, 0]
        probabilities = bool(given.min() >= 0 and given.max() <= 1)
        return np.column_stack([1 - given if probabilities else np.full(len(given), np.nan), given]), probabilities
    bad = (values < 0).any(axis=1) | (np.abs(values.sum(axis=1) - 1) > SUM_TOLERANCE)
    if bad.any():
        what = lambda i: f"{_shown(values[i])} add up to {values[i].sum():.4g}"  # noqa: E731
        raise UserError(f"{file}: {int(bad.sum())} rows are not probabilities that add up to one: {_rows(table, bad, what)}")
    return values, True


def _shown(values: np.ndarray) -> str:
    return ", ".join("missing" if np.isnan(v) else f"{v:.4g}" for v in values[:6])


def _groups(file: Path, table: pd.DataFrame, by: str | None, bins: list[str] | None) -> tuple[dict[str, pd.Series], dict[str, list[str]]]:
    import pandas as pd

    attributes = split_names(by) if by is not None else [a for a in DEFAULT_ATTRIBUTES if a in table.columns]
    edges: Mapping[str, Sequence[float]] = parse_bins(bins)
    groups, order = {}, {}
    test = _is_test(table)
    for attribute in attributes:
        if attribute not in table.columns:
            raise UserError(f"{file}: --by {attribute}: no column '{attribute}'{nearest(attribute, map(str, table.columns))}")
        if attribute in LEADING:
            raise UserError(f"{file}: --by {attribute}: '{attribute}' is a column of the predictions themselves; choose another attribute")
        # Ages that are groups already, as in predictions.parquet, are taken as they are.
        named = not bins and attribute in DEFAULT_BINS and not pd.api.types.is_numeric_dtype(table[attribute])
        mine = {} if named else edges
        groups[attribute] = group_of(table, attribute, mine)
        order[attribute] = group_order(table[test], attribute, mine)
    return groups, order


def _is_test(table: pd.DataFrame) -> np.ndarray:
    return (table["split"] == "test").to_numpy(dtype=bool, na_value=False) if "split" in table.columns else np.ones(len(table), dtype=bool)


def _assemble(
    file: Path, table: pd.DataFrame, task: str, labels: np.ndarray, values: np.ndarray, groups: Mapping[str, pd.Series], notes: list[str]
) -> pd.DataFrame:
    """Put everything into the columns of ``predictions.parquet``."""
    import pandas as pd

    if "image_id" not in table.columns and {"model", "seed"} & set(table.columns):
        raise UserError(f"{file}: several models or seeds need a column image_id that says which rows are the same image")
    ids = table["image_id"] if "image_id" in table.columns else pd.Series([f"row-{i + 1:09d}" for i in table.index], index=table.index)
    bad = ids.isna().to_numpy()
    if bad.any():
        raise UserError(f"{file}: {int(bad.sum())} rows have no image_id: {_rows(table, bad, lambda i: 'empty')}")
    predictions = pd.DataFrame(
        {
            "task": task,
            "model": table["model"].fillna("model") if "model" in table.columns else "model",
            "adaptation": table["adaptation"].fillna(ADAPTATION) if "adaptation" in table.columns else ADAPTATION,
            "seed": _seeds(file, table),
            "split": _splits(file, table),
            "image_id": ids,
            "patient_id": table["patient_id"] if "patient_id" in table.columns else None,
            "label": labels,
        },
        index=table.index,
    )
    for column, k in zip(columns_of(range(values.shape[1])), range(values.shape[1]), strict=True):  # type: ignore[arg-type]
        predictions[column] = values[:, k]
    twice = predictions.duplicated(["model", "adaptation", "seed", "image_id"]).to_numpy()
    if twice.any():
        what = lambda i: f"model {predictions['model'].iloc[i]}, seed {predictions['seed'].iloc[i]} again"  # noqa: E731
        raise UserError(f"{file}: {int(twice.sum())} rows repeat an image for one model and seed: {_rows(table, twice, what)}")
    if missing := int(predictions["patient_id"].isna().sum()) if "patient_id" in table.columns else 0:
        notes.append(f"{missing} rows have no patient and count as patients of their own")
    return predictions.assign(**groups)


def _splits(file: Path, table: pd.DataFrame) -> Any:
    if "split" not in table.columns:
        return "test"
    split = table["split"]
    other = ~split.isin(SPLITS).to_numpy()
    if other.any():
        shown = _rows(table, other, lambda i: repr(split.iloc[i]))
        raise UserError(f"{file}: {int(other.sum())} rows have another split than train, val, test: {shown}")
    if not (split == "test").any():
        raise UserError(f"{file}: no row has the split 'test'")
    if "patient_id" in table.columns:
        known = table["patient_id"].notna()
        refuse_shared_patients(str(file), table.loc[known, "patient_id"], split[known])
    return split


def _seeds(file: Path, table: pd.DataFrame) -> Any:
    import pandas as pd

    if "seed" not in table.columns:
        return 0
    numbers = pd.to_numeric(table["seed"], errors="coerce")
    bad = (numbers.isna() | (numbers % 1 != 0)).to_numpy()
    if bad.any():
        raise UserError(f"{file}: {int(bad.sum())} seeds are not whole numbers: {_rows(table, bad, lambda i: repr(table['seed'].iloc[i]))}")
    return numbers.astype("int64")


def _plan(name: str, classes: Sequence[str], order: dict[str, list[str]], predictions: pd.DataFrame, probabilities: bool) -> TaskPlan:
    images = predictions.drop_duplicates("image_id")
    counts = {split: describe_split(rows, classes) for split in SPLITS if len(rows := images[images["split"] == split])}
    about = {
        "name": name,
        "title": name,
        "label": "label",
        "classes": list(classes),
        "split": {"column": "split"} if len(counts) > 1 else {"test": "all rows"},
        "subgroups": list(order),
        "groups": order,
        "metrics": list(METRICS),
        "probabilities": probabilities,
        "counts": counts,
        "left_out": {},
    }
    return TaskPlan(name, tuple(classes), order, METRICS, about)
