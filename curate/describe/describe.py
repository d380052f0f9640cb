"""curate describe: one folder with the numbers, the words and the pictures."""

from __future__ import annotations

import math
from collections.abc import Hashable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from curate.artefacts import begin, finish, provenance, read_json, write_json, write_parquet
from curate.describe.attributes import Attribute, choose_attributes, choose_measures
from curate.describe.rows import describe
from curate.describe.sides import Sides, read_sides
from curate.errors import UserError
from curate.groups import parse_bins

NOTICE = "describe shows small groups as they are: private working material, not for publication (cards makes what may be published)"


@dataclass(frozen=True)
class DescribeRequest:
    """What is asked of a description.

    Attributes:
        by: columns to describe; none: every column that can be.
        measures: measures to describe; none: all.
        bins: texts ``COLUMN=EDGE,EDGE``.
        split: a column whose groups are compared within the cohort.
        pictures: whether to draw.
    """

    by: tuple[str, ...] = ()
    measures: tuple[str, ...] = ()
    bins: tuple[str, ...] = ()
    split: str | None = None
    pictures: bool = True


def describe_cohort(cohort: Path, request: DescribeRequest, *, against: Path | None = None, out: Path = Path("describe")) -> dict[str, Any]:
    """Describe a cohort, alone or against another, into a folder.

    Args:
        cohort: the cohort's folder.
        request: what is asked.
        against: another cohort's folder.
        out: the folder to make: ``description.parquet``, ``description.json``, ``pictures/``.

    Returns:
        What ``description.json`` holds: ``made_by``; ``sides``: name, images, patients of each; ``attributes`` and ``measures``: for each,
        every side's numbers and the comparisons; ``pictures``: file and caption; ``remarks``: what there is to say in words; ``notice``.

    Raises:
        UserError: where a cohort, a column or the folder doesn't allow it.
    """
    bins = parse_bins(request.bins)
    for column in {b.partition("=")[0].strip() for b in request.bins}:
        if request.by and column not in (*request.by, request.split):
            raise UserError(f"--bins {column}: is not among the columns of --by; add it there")
    sides = read_sides(cohort, against=against, split=request.split, bins=bins)
    specification = {
        "by": list(request.by), "measures": list(request.measures), "bins": {k: list(v) for k, v in bins.items()},
        "split": request.split, "pictures": request.pictures, "sides": [s.name for s in sides.sides],
    }  # fmt: skip
    made_by = provenance(specification, sides.inputs)
    if (out / "description.json").exists():
        begin(out, "description.json", made_by)  # refuses where it is another description
        return {**read_json(out / "description.json", "a description"), "done_before": True}
    attributes, remarks = choose_attributes(sides, request.by, bins)
    attributes = [a for a in attributes if a.name != request.split]
    measures, main = choose_measures(sides, request.measures)
    if not measures:
        sides.remarks.append("nothing was measured: run curate measure to describe quality and shape")
    if not attributes and not measures:
        raise UserError(f"{cohort}: has nothing to describe; name columns with --by")
    partial = begin(out, "description.json", made_by)
    assert partial is not None
    frame = describe(sides, attributes, measures)
    write_parquet(partial / "description.parquet", frame)
    drawn = _draw(partial, sides, attributes, main, frame) if request.pictures else []
    about = {"made_by": made_by, **_summary(sides, attributes, measures, frame), "pictures": drawn}
    about |= {"remarks": [*sides.remarks, *_remarks(remarks, frame)], "notice": NOTICE}
    write_json(partial / "description.json", about)
    finish(out)
    return about


def _draw(partial: Path, sides: Sides, attributes: list[Attribute], main: list[str], frame: pd.DataFrame) -> list[dict[str, str]]:
    from curate.describe.pictures import draw_all

    (partial / "pictures").mkdir(exist_ok=True)
    return draw_all(partial / "pictures", sides, attributes, main, frame)


def _summary(sides: Sides, attributes: list[Attribute], measures: list[str], frame: pd.DataFrame) -> dict[str, Any]:
    found: dict[str, Any] = {
        "sides": [{"name": s.name, "images": len(s.patient), "patients": s.patients} for s in sides.sides],
        "attributes": {a.name: {"sides": {}, "compared": {}} for a in attributes},
        "measures": {m: {"sides": {}, "compared": {}} for m in measures},
    }
    for row in frame.to_dict("records"):
        one = found["attributes" if row["kind"] == "attribute" else "measures"][row["variable"]]
        place = one["sides"].setdefault(row["side"], {}) if pd.isna(row["against"]) else one["compared"].setdefault(row["against"], {})
        if not pd.isna(row["group"]):
            groups = place.setdefault("by", {}).setdefault(row["attribute"], {})
            place = groups.setdefault(row["group"], {})
        place[row["statistic"]] = _entry(row)
    return found


def _entry(row: dict[Hashable, Any]) -> Any:
    plain = lambda v: None if pd.isna(v) or math.isinf(v) else v  # noqa: E731
    value = plain(row["value"])
    if row["statistic"] in ("images", "patients", "missing", "unknown") and value is not None:
        return int(value) if pd.isna(row["remark"]) else {"value": int(value), "remark": row["remark"]}
    entry = {"value": value}
    if not pd.isna(row["low"]):
        entry |= {"low": plain(row["low"]), "high": plain(row["high"])}
    for name in ("method", "remark"):
        if not pd.isna(row[name]):
            entry[name] = row[name]
    return entry


def _remarks(columns: list[tuple[str, str]], frame: pd.DataFrame) -> list[str]:
    """Gather what there is to say in words: each sentence once, with everything that it is true of."""
    sides: dict[tuple[str, str], list[str]] = {}  # what, words -> where
    said = {name for name, _ in columns}
    whole = frame[frame["remark"].notna() & frame["attribute"].isna()]
    for variable, rows in whole.groupby("variable", sort=False):
        described, compared = rows[rows["against"].isna()], rows[rows["against"].notna()]
        for row in described.drop_duplicates("side").to_dict("records"):
            sides.setdefault((str(variable), row["remark"]), []).append(row["side"])
        # The first remark says why, the others follow from it; that a lacking column isn't compared goes without saying.
        for row in compared.drop_duplicates("against").to_dict("records"):
            if variable not in said and not any(word in row["remark"] for word in ("no such column", "not measured")):
                sides.setdefault((str(variable), row["remark"]), []).append(f"{row['side']} against {row['against']}")
    groups = frame[(frame["kind"] == "attribute") & frame["attribute"].notna() & (frame["statistic"] == "patients")]
    whole_sides = frame[(frame["statistic"] == "patients") & frame["attribute"].isna()].groupby("side")["value"].max()
    # Where one patient is all there is, every group is of one.
    for row in groups[(groups["value"] == 1) & (groups["side"].map(whole_sides) > 1)].to_dict("records"):
        sides.setdefault((f"{row['variable']} '{row['group']}'", "a group of one patient"), []).append(row["side"])
    whats: dict[tuple[str, str], list[str]] = {}  # words, where -> what
    for name, words in columns:
        whats.setdefault((words, ""), []).append(name)
    for (what, words), where in sides.items():
        whats.setdefault((words, ", ".join(where)), []).append(what)
    return [f"{', '.join(what)}: {words}" + (f" ({where})" if where else "") for (words, where), what in whats.items()]
