"""Any manifest, however dirty, becomes a clean cohort with a complete ledger, or one clear line; never a traceback."""

from __future__ import annotations

import csv
import json
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from archives import draw_photograph
from curate.cohort import read_cohort
from curate.errors import UserError
from curate.ingest import ingest_archive
from curate.ledger import REFUSING, RULES

SETTINGS = settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck), print_blob=True)
PEOPLE = 6
FILES = [f"{person:03d}_{eye}.jpg" for person in range(PEOPLE) for eye in ("left", "right")]

# Values that must be found nowhere in a cohort, by what they are.
IDENTIFIERS = {
    "names": ["SMITH, John", "Mrs Ada Lovelace", "JONES^MARY^^", "Maria Oliveira", "TAYLOR, Emma", "Peter Brown"],
    "e-mail": ["ann@example.org", "bob.jones@nhs.example", "c+d@clinic.example.com", "eve@example.net", "fay@example.org", "g@h.example"],
    "phone": ["07700 900123", "+44 20 7946 0958", "(020) 7946 0321", "020 7946 0111", "07700 900456", "07700 900789"],
    "nhs": ["943 476 5919", "987 654 4322", "401 023 2137", "943-476-5919", "9876544322", "4010232137"],
    "postcode": ["NW1 2DB", "EC1V 2PD", "SW1A 1AA", "M1 1AE", "B33 8TH", "CR2 6XH"],
    "address": ["12 High Street, Leeds", "7 Station Road", "221b Baker Street", "3 Park Avenue", "45 Mill Lane", "9 Church Road"],
    "birth": ["1950-03-12", "1961-07-30", "1947-11-02", "1938-01-19", "1972-05-05", "1955-09-21"],
}  # fmt: skip
PLANTED = [value for values in IDENTIFIERS.values() for value in values]
SINGLE = ["john@example.org", "943 476 5919", "SMITH, John", "07700 900123", "1950-03-12", "Mrs Ada Lovelace"]

NASTY = [
    "=1+1",
    "'; DROP TABLE",
    "<script>",
    "\x1b[31m",
    "a\nb",
    "a\tb",
    "💥",
    "e\u0301",
    "\ufeff",
    "NaN",
    "inf",
    "1e999",
    "-0",
    "\u0664\u0665",
]
MISSING = ["", " ", "NA", "n/a", "Not Stated", "NR", "NK", "U", "9", "99", "#N/A", "unknown", "-"]
words = st.sampled_from
hostile = st.one_of(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12), words(NASTY))


letters = st.text(st.characters(categories=["Lu", "Ll", "Lo"]), min_size=2, max_size=6)
AMBIGUOUS = {"sex": ["1", "0", "2.0", "01", "T", "h", "-0"], "eye": ["2", "1.0"], "exam_date": ["03/04/2020"], "age": ["old"]}


def mostly(clean: list[str], *dirt: str, odd: st.SearchStrategy[str] = hostile) -> st.SearchStrategy[str]:
    dirty = st.one_of(words(MISSING), odd, words([*MISSING, *dirt]))
    return st.integers(0, 5).flatmap(lambda n: dirty if n == 5 else words(clean))


CELLS = {
    "age": mostly(["34", "57", "68", "80"], "-9", "0", "1", "120", "999", "1950", "90+", "045Y", "61 years", "6 m", *SINGLE),
    "sex": mostly(["female", "male"], "F", "M", "W", "Woman", "other", *SINGLE, odd=letters),
    "eye": mostly(["left", "right"], "OD", "OS", "RE", "LE", "R", "l", "OU", *SINGLE, odd=letters),
    "exam_date": mostly(
        ["2020-01-15", "2021-06-30", "2022-12-01"], "1900-01-01", "15/03/2020", "20200315", "9999-12-31", "2020-02-31", "2020-03-15T10:00"
    ),
    "ethnicity": mostly(
        ["White British", "Indian", "Chinese"], "white british", "Any other Asian backg", "White African", "Klingon", *SINGLE[:4]
    ),
    "camera": mostly(["Topcon TRC-50", "Canon CR-2"], "canon cr2", "CANON-CR-2", "Topcon TRC 50", *SINGLE[:4]),
    "hospital": mostly(["North", "St Thomas' Hospital"], "NORTH"),
    "grade": mostly(["0", "1", "2"], "yes", "No", "1.5", "007", "1e5"),
}
PATH_DIRT = [
    "../secret.jpg", "/etc/hostname", "nowhere.jpg", "000_LEFT.JPG", "000_left", ".\\001_right.jpg", "C:\\x\\a.jpg", "x/../002_left.jpg",
    "a" * 300, ".", "", "..", "images/\0", "~/x.jpg",
]  # fmt: skip
PATIENT_DIRT = ["1.0", "1", "1.23E+05", "", "NA", " 001 ", "0000001", "-1", "ID"]


@dataclass
class Manifest:
    header: list[str]
    rows: list[list[str]]
    hidden: set[str] = field(default_factory=set)


@st.composite
def manifests(draw: st.DrawFn) -> Manifest:
    count = draw(st.one_of(st.integers(6, 12), st.integers(1, 12)))
    columns = [c for c in CELLS if draw(st.integers(0, 9)) < 9]
    hidden = set()
    rows: list[dict[str, str]] = []
    for number in range(count):
        file = FILES[number % len(FILES)]
        row = {"row_number": str(number + 2), "image_file": file, "patient_id": file[:3]}
        if draw(st.integers(0, 7)) == 7:
            row["image_file"] = draw(st.one_of(words(PATH_DIRT), words(FILES), hostile))
        if draw(st.integers(0, 7)) == 7:
            row["patient_id"] = draw(st.one_of(words(PATIENT_DIRT), hostile))
        row |= {c: draw(CELLS[c]) for c in columns}
        rows.append(row)
    if draw(st.integers(0, 5)) == 5:
        column = draw(words(sorted(AMBIGUOUS)))
        for row in rows:
            if column in row and draw(st.booleans()):
                row[column] = draw(words(AMBIGUOUS[column]))
    if draw(st.booleans()):
        kind = draw(words(sorted(IDENTIFIERS)))
        name = draw(words({"birth": ["date_of_birth", "DOB"]}.get(kind, ["field 7", "contact", "notes"])))
        for number, row in enumerate(rows):
            row[name] = IDENTIFIERS[kind][number // 2 % PEOPLE]
        hidden |= {row[name] for row in rows}
    if draw(st.integers(0, 9)) == 9:
        rows[draw(st.integers(0, count - 1))]["patient_id" if draw(st.booleans()) else "image_file"] = ""
    header = list(rows[0])
    for at in draw(st.lists(st.integers(0, len(header) - 1), max_size=2)) if draw(st.integers(0, 2)) == 2 else []:
        if header[at] not in ("row_number",):
            header[at] = draw(words([header[at].upper(), f" {header[at]} ", header[at].replace("_", "-"), "", "GRADE", "a\nb", "Größe"]))
    hidden |= {cell for row in rows for c, cell in row.items() if c in CELLS and cell in SINGLE}
    return Manifest(header, [list(row.values()) for row in rows], hidden)


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shared") / "images"
    for number, name in enumerate(FILES):
        draw_photograph(folder / name, number, side=32)
    draw_photograph(folder.parent / "secret.jpg", 99, side=32)
    return folder


def write(folder: Path, manifest: Manifest) -> Path:
    path = folder / "manifest.csv"
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([manifest.header, *manifest.rows])
    return path


def everything_written(folder: Path) -> str:
    texts = []
    for path in sorted(folder.rglob("*")):
        if path.suffix == ".parquet":
            texts += pd.read_parquet(path).astype("string").fillna("").to_numpy().ravel().tolist()
            texts += list(pd.read_parquet(path).columns)
        elif path.is_file():
            texts.append(path.read_text(encoding="utf-8"))
    return "\n".join(texts)


def check_cohort(folder: Path, manifest: Manifest, listed: int) -> None:
    read = read_cohort(folder)
    table, ledger, about = read.table, read.ledger(), read.about
    assert table["image_id"].is_unique
    assert (table["image_id"].str.strip() != "").all()
    assert (table["patient_id"].str.strip() != "").all()
    assert table["age"].dropna().between(0, 120, inclusive="left").all()
    assert set(table["sex"].dropna()) <= {"female", "male", "other"}
    assert set(table["laterality"].dropna()) <= {"left", "right"}
    assert table["acquired_on"].dropna().map(lambda d: bool(re.fullmatch(r"(19|20)\d\d-\d\d-\d\d", d))).all()
    assert set(ledger["rule"]) <= set(RULES)
    counts = about["counts"]
    assert counts["rows"] == listed
    assert counts["images"] == len(table) == listed - counts["refused_rows"]
    assert about["rules"] == ledger["rule"].value_counts().sort_index().to_dict()
    written = everything_written(folder)
    assert not [value for value in manifest.hidden if value in written]


def check_every_row(folder: Path, manifest: Manifest) -> None:
    """Every row is in the cohort or has an entry that refuses it; every value is what it was or has an entry."""
    read = read_cohort(folder)
    table, ledger = read.table, read.ledger()
    if "row_number" not in manifest.header or "row_number" not in table.columns:
        return
    kept = set(table["row_number"])
    refused = set(ledger.loc[ledger["rule"].isin(REFUSING), "row"])
    assert {int(row[0]) for row in manifest.rows} == kept | refused
    assert not kept & refused
    changed = set(zip(ledger["row"], ledger["column"], strict=True))
    for target, source in {"sex": "sex", "laterality": "eye", "device": "camera", "site": "hospital", "acquired_on": "exam_date"}.items():
        if source not in manifest.header or source in read.about["identifiers"]:
            continue
        at = manifest.header.index(source)
        raw = {int(row[0]): row[at].strip() for row in manifest.rows}
        for number, value in zip(table["row_number"], table[target], strict=True):
            now = "" if pd.isna(value) else str(value)
            assert now.casefold() == raw[number].casefold() or (number, target) in changed, (target, raw[number], now)


def assert_one_line(message: str, manifest: Manifest) -> None:
    assert message.strip()
    assert "\n" not in message
    assert not [value for value in manifest.hidden if value in message]


@SETTINGS
@given(manifest=manifests(), scheme=st.sampled_from(["as-recorded", "ons-2021", "us-omb"]))
def test_a_manifest_becomes_a_clean_cohort_or_one_line(pictures: Path, manifest: Manifest, scheme: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path, out = write(Path(folder), manifest), Path(folder) / "cohort"
        try:
            ingest_archive(path, images=[pictures], out=out, ethnicity_scheme=scheme, max_bad=1.0, workers=1)
        except UserError as error:
            assert_one_line(str(error), manifest)
            assert not out.exists()
            return
        check_cohort(out, manifest, len(manifest.rows))
        check_every_row(out, manifest)


@settings(SETTINGS, max_examples=30)
@given(manifest=manifests())
def test_checking_finds_what_ingesting_finds_and_writes_nothing(pictures: Path, manifest: Manifest) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path, out = write(Path(folder), manifest), Path(folder) / "cohort"
        try:
            checked = ingest_archive(path, images=[pictures], out=out, check=True, max_bad=1.0, workers=1)
            problems = checked["problems"]
        except UserError as error:
            problems = [str(error)]
        assert sorted(p.name for p in Path(folder).iterdir()) == ["manifest.csv"]
        if problems:
            with pytest.raises(UserError) as caught:
                ingest_archive(path, images=[pictures], out=out, max_bad=1.0, workers=1)
            assert str(caught.value).startswith(problems[0])
            return
        made = ingest_archive(path, images=[pictures], out=out, max_bad=1.0, workers=1)
        assert {k: checked[k] for k in ("counts", "rules", "missing")} == {k: made[k] for k in ("counts", "rules", "missing")}


@settings(SETTINGS, max_examples=50)
@given(
    rows=st.lists(
        st.fixed_dictionaries(
            {
                "Case": st.one_of(st.integers(0, 5).map(str), words(MISSING)),
                "Left": st.one_of(words(FILES), words(MISSING), hostile),
                "Right": st.one_of(words(FILES), words(MISSING), hostile),
                "sex": CELLS["sex"],
                "age": CELLS["age"],
                "Left finding": hostile,
                "Right finding": st.one_of(hostile, words(SINGLE)),
            }
        ),
        min_size=1,
        max_size=6,
    )
)
def test_a_wide_table_gives_every_eye_a_row(pictures: Path, rows: list[dict[str, str]]) -> None:
    manifest = Manifest(list(rows[0]), [list(row.values()) for row in rows])
    eyes = ["left:path=Left", "right:path=Right", "left:finding=Left finding", "right:finding=Right finding"]
    with tempfile.TemporaryDirectory() as folder:
        path, out = write(Path(folder), manifest), Path(folder) / "cohort"
        try:
            about = ingest_archive(
                path, images=[pictures], out=out, eyes=eyes, column_map=["patient_id=Case"], max_bad=1.0, workers=1
            )  # fmt: skip
        except UserError as error:
            assert_one_line(str(error), manifest)
            return
        listed = about["counts"]["rows"]
        assert len(rows) <= listed <= 2 * len(rows)
        check_cohort(out, manifest, listed)
        assert set(read_cohort(out).ledger()["row"]) <= set(range(1, len(rows) + 2))


@settings(SETTINGS, max_examples=4)
@given(manifest=manifests())
def test_the_command_leaves_with_0_or_2_and_no_traceback(pictures: Path, manifest: Manifest) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = write(Path(folder), manifest)
        command = [
            sys.executable,
            "-m",
            "curate",
            "ingest",
            path,
            "--images",
            pictures,
            "--out",
            Path(folder) / "cohort",
            "--max-bad",
            "100%",
        ]
        done = subprocess.run([*map(str, command), "--json", "--workers", "1"], check=False, capture_output=True, text=True)
        assert done.returncode in (0, 2), done.stderr
        assert "Traceback" not in done.stderr
        if done.returncode == 0:
            assert json.loads(done.stdout)["counts"]["rows"] == len(manifest.rows)
        else:
            assert_one_line(done.stderr.splitlines()[-1], manifest)
            assert not (Path(folder) / "cohort").exists()
