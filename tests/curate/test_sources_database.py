"""Databases: SQLite, DuckDB and PostgreSQL for real; passwords go nowhere."""

from __future__ import annotations

import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from decimal import Decimal
from glob import glob
from pathlib import Path

import pandas as pd
import pytest

from archives import people
from commands import run
from curate.cohort import read_cohort
from curate.command import recorded_command
from curate.errors import UserError
from curate.ingest import ingest_archive
from curate.manifest import read_source
from curate.redaction import redact
from forms import fill

Archive = Callable[..., Path]
COMPARED = ["image_id", "patient_id", "laterality", "acquired_on", "age", "sex", "ethnicity", "device", "site", "sha256"]


@pytest.fixture
def sqlite(tmp_path: Path) -> Path:
    path = tmp_path / "eyes.db"
    connection = sqlite3.connect(path)
    fill(connection.execute, people(6), date="TEXT")
    connection.execute("CREATE TABLE notes (id INTEGER, scan BLOB, share REAL)")
    connection.execute("INSERT INTO notes VALUES (7, x'ff', 1.5)")
    connection.commit()
    connection.close()
    return path


@pytest.fixture
def duck(tmp_path: Path) -> Path:
    duckdb = pytest.importorskip("duckdb")
    path = tmp_path / "eyes.duckdb"
    connection = duckdb.connect(str(path))
    fill(connection.execute, people(6), number="DECIMAL(5, 1)")
    connection.execute("CREATE VIEW adults AS SELECT * FROM images WHERE age >= 18")
    connection.execute("CREATE TABLE lists AS SELECT 'a.jpg' AS image_file, [1, 2] AS marks")
    connection.close()
    return path


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    """A server of its own with a password, on a free port; gives its URL without the scheme."""
    pytest.importorskip("psycopg")
    places = [os.path.dirname(p) for p in (shutil.which("pg_ctl"),) if p] + sorted(glob("/usr/lib/postgresql/*/bin"), reverse=True)
    programs = next((p for p in places if os.path.exists(f"{p}/initdb") and os.path.exists(f"{p}/pg_ctl")), None)
    if programs is None:
        pytest.skip("PostgreSQL (initdb, pg_ctl) is not installed")
    folder = Path(tempfile.mkdtemp(prefix="postgres-"))  # pytest's own folders are closed to other users
    other: list[str] = []
    if os.geteuid() == 0:  # the server refuses to run as root
        user = next(
            (u for u in ("postgres", "nobody") if subprocess.run(["id", u], check=False, capture_output=True).returncode == 0), None
        )
        if user is None or shutil.which("setpriv") is None:
            pytest.skip("PostgreSQL does not run as root, and there is no other user to run it as")
        other = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"]
        shutil.chown(folder, user)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (folder / "password").write_text("open/se:s@me")
    (folder / "password").chmod(0o644)

    def call(*command: str) -> None:
        done = subprocess.run([*other, *command], check=False, capture_output=True, text=True, cwd="/", env={**os.environ, "LC_ALL": "C"})
        if done.returncode:
            pytest.skip(f"PostgreSQL cannot be started here: {done.stderr.strip().splitlines()[-1:]}")

    data = str(folder / "data")
    call(
        f"{programs}/initdb",
        "-D",
        data,
        "-U",
        "reader",
        "-A",
        "scram-sha-256",
        f"--pwfile={folder / 'password'}",
        "-E",
        "UTF8",
        "--no-sync",
    )
    options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1 -c fsync=off"
    call(f"{programs}/pg_ctl", "-D", data, "-l", str(folder / "log"), "-o", options, "-w", "-t", "30", "start")
    try:
        yield f"reader:open%2Fse%3As%40me@127.0.0.1:{port}/postgres"
    finally:
        subprocess.run([*other, f"{programs}/pg_ctl", "-D", data, "-m", "immediate", "stop"], check=False, capture_output=True, cwd="/")
        shutil.rmtree(folder, ignore_errors=True)


def from_csv(archive: Archive, tmp_path: Path) -> pd.DataFrame:
    manifest = archive(people(6))
    ingest_archive(manifest, images=[tmp_path / "images"], out=tmp_path / "from-csv", workers=1)
    return read_cohort(tmp_path / "from-csv").table[COMPARED]


def test_a_sqlite_file_gives_the_cohort_that_its_csv_gives(archive: Archive, sqlite: Path, tmp_path: Path) -> None:
    expected = from_csv(archive, tmp_path)
    said = run("curate", "ingest", "eyes.db", "--query", "SELECT * FROM images", "--images", "images", cwd=tmp_path)
    assert "12 images of 6 patients (12 rows, 0 refused, 0 values changed)" in said
    pd.testing.assert_frame_equal(read_cohort(tmp_path / "cohort").table[COMPARED], expected)
    run("curate", "sample", "--balance", "sex", "--holdout", "0", "--quality", "any", "--size", "0", cwd=tmp_path)


def test_a_duckdb_file_gives_the_cohort_that_its_csv_gives(archive: Archive, duck: Path, tmp_path: Path) -> None:
    expected = from_csv(archive, tmp_path)
    ingest_archive(str(duck), query="adults", images=[tmp_path / "images"], out=tmp_path / "cohort", workers=1)
    pd.testing.assert_frame_equal(read_cohort(tmp_path / "cohort").table[COMPARED], expected)
    assert read_source(f"duckdb:///{duck}", query="adults").inputs == read_source(duck, query="adults").inputs


def test_a_postgresql_server_gives_the_cohort_that_its_csv_gives(archive: Archive, postgres: str, tmp_path: Path) -> None:
    import psycopg

    expected = from_csv(archive, tmp_path)
    with psycopg.connect(f"postgresql://{postgres}", autocommit=True) as connection:
        connection.execute("DROP TABLE IF EXISTS images")
        fill(lambda text: connection.execute(text.encode()), people(6), number="NUMERIC(5, 2)")
    query = "SELECT * FROM images WHERE image_file LIKE '%.jpg' AND ':x' <> '' ORDER BY image_file"
    said = run("curate", "ingest", f"postgresql+psycopg://{postgres}", "--query", query, "--images", "images", cwd=tmp_path)
    assert "12 images of 6 patients (12 rows, 0 refused, 0 values changed)" in said
    pd.testing.assert_frame_equal(read_cohort(tmp_path / "cohort").table[COMPARED], expected)
    for file in (tmp_path / "cohort").rglob("*"):
        assert file.is_dir() or (b"open" not in file.read_bytes() and b"s@me" not in file.read_bytes()), file
    about = (tmp_path / "cohort" / "cohort.json").read_text()
    assert "postgresql+psycopg://reader:***@127.0.0.1" in about


def test_a_postgresql_server_is_only_read(postgres: str) -> None:
    import psycopg

    with psycopg.connect(f"postgresql://{postgres}", autocommit=True) as connection:
        connection.execute("CREATE TABLE kept (n INTEGER)")
        connection.execute("CREATE SEQUENCE counted")
        connection.execute("INSERT INTO kept VALUES (1)")
        with pytest.raises(UserError, match="read-only transaction"):
            read_source(f"postgresql://{postgres}", query="SELECT nextval('counted') AS n")
        with pytest.raises(UserError, match="data-modifying"):
            read_source(f"postgresql://{postgres}", query="WITH gone AS (DELETE FROM kept RETURNING n) SELECT * FROM gone")
        assert read_source(f"postgresql://{postgres}", query="kept").table["n"].tolist() == ["1"]
        connection.execute("DROP TABLE kept")


def test_a_wrong_password_is_not_repeated(postgres: str, tmp_path: Path) -> None:
    url = f"postgresql+psycopg://{postgres}".replace("open%2Fse%3As%40me", "sw0rdfish")
    command = [sys.executable, "-m", "curate", "ingest", url, "--query", "images", "--debug"]
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 2
    assert "password authentication failed" in done.stderr
    assert "sw0rdfish" not in done.stdout + done.stderr
    assert not list(tmp_path.iterdir())


def test_what_a_postgresql_server_says_of_a_wrong_query_is_passed_on(postgres: str) -> None:
    with pytest.raises(UserError, match=r'relation "absent" does not exist') as caught:
        read_source(f"postgresql://{postgres}", query="SELECT * FROM absent")
    assert "\n" not in str(caught.value)
    assert "open" not in str(caught.value).replace("opened", "")


def test_values_of_every_type_become_text(sqlite: Path) -> None:
    table = read_source(sqlite, query="SELECT 7.0 AS whole, 7.5 AS half, NULL AS missing, '007' AS id, 12 AS count").table
    assert table.to_dict("records") == [{"whole": "7", "half": "7.5", "missing": "", "id": "007", "count": "12"}]
    from curate.manifest.text_table import text_of

    assert [text_of(v) for v in (Decimal("7.00"), Decimal("7.50"), Decimal("NaN"))] == ["7", "7.50", ""]


def test_rows_without_an_order_are_numbered_by_their_values(sqlite: Path) -> None:
    plain = read_source(sqlite, query="SELECT patient_id, eye FROM images").table
    assert plain["patient_id"].is_monotonic_increasing
    ordered = read_source(sqlite, query="SELECT patient_id, eye FROM images ORDER BY patient_id DESC, eye").table
    assert ordered["patient_id"].is_monotonic_decreasing
    assert plain.index.tolist() == ordered.index.tolist() == list(range(2, 14))


@pytest.mark.parametrize(
    ("query", "message"),
    [
        (None, r"say what to read, as --query .*; there are: images, notes"),
        ("imgaes", r"--query imgaes: no such table; did you mean 'images'\?"),
        ("DELETE FROM images", r"begins with 'DELETE'; only a SELECT is run"),
        ("/* SELECT */ DROP TABLE images", r"begins with 'DROP'"),
        ("SELECT 1; DROP TABLE images", r"one statement at a time"),
        ("WITH x AS (SELECT 1) DELETE FROM images", r"readonly"),
        ("SELECT absent FROM images", r"the query failed \(no such column: absent\)"),
        ("SELECT scan FROM notes", r"column 'scan' holds bytes; leave it out of --query"),
        ("SELECT age, sex AS age FROM images", r"two columns called 'age'"),
        ("SELECT * FROM images WHERE age > 1000", r"holds no rows"),
    ],
)
def test_a_query_that_is_not_one_select_of_values_is_refused(sqlite: Path, query: str | None, message: str) -> None:
    before = sqlite.read_bytes()
    with pytest.raises(UserError, match=message) as caught:
        read_source(sqlite, query=query)
    assert "\n" not in str(caught.value)
    assert sqlite.read_bytes() == before


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("SELECT 1 AS a; SELECT 2 AS a", "only one SELECT is run"),
        ("SELECT * FROM absent", "the query failed"),
        ("SELECT * FROM lists", "column 'marks' holds nested values"),
        ("WITH x AS (SELECT 1) INSERT INTO images SELECT * FROM images", "only one SELECT is run|failed"),
    ],
)
def test_duckdb_runs_one_select_alone(duck: Path, query: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_source(duck, query=query)


def test_an_absent_database_is_not_made(tmp_path: Path) -> None:
    for name in ("absent.db", f"sqlite:///{tmp_path / 'absent.db'}", f"duckdb:///{tmp_path / 'absent.db'}"):
        with pytest.raises(UserError, match="no such file"):
            read_source(name, query="images")
    assert not list(tmp_path.iterdir())


def test_an_unknown_or_unreachable_database_is_one_line_without_the_password(tmp_path: Path) -> None:
    for url, message in {
        "nosuchdb://reader:sw0rdfish@host/db": "nosuchdb",
        "postgresql://reader:sw0rdfish@127.0.0.1:1/db": "127.0.0.1",
        "postgresql+psycopg://reader:sw0rdfish@127.0.0.1:port/db": "not the URL of a database",
        "postgresql://reader:sw0rdfish@sw0rdfish@127.0.0.1/db": "holds an @; write it as %40",
        "postgresql:/reader:sw0rdfish@host/db": "no such file or folder",
    }.items():
        with pytest.raises(UserError, match=message) as caught:
            read_source(url, query="images")
        assert "sw0rdfish" not in str(caught.value)
        assert "\n" not in str(caught.value)


def test_the_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "a.duckdb").write_bytes(bytes(8) + b"DUCK" + bytes(100))
    monkeypatch.setitem(sys.modules, "duckdb", None)
    monkeypatch.setitem(sys.modules, "sqlalchemy", None)
    for manifest in (tmp_path / "a.duckdb", "postgresql://host/db"):
        with pytest.raises(UserError, match=r'pip install "evenfooting\[sql\]"$'):
            read_source(manifest, query="images")


def test_the_recorded_command_hides_passwords() -> None:
    url = "postgresql+psycopg://reader:pa@ss/wo:rd@host/db?sslpassword=two&options=x"
    recorded = recorded_command(["curate", "ingest", url, "--query", "SELECT * FROM postgres_scan('host=h password=three', 'a')"])
    assert recorded == (
        "curate ingest 'postgresql+psycopg://reader:***@host/db?sslpassword=***&options=x' "
        "--query 'SELECT * FROM postgres_scan('\"'\"'host=h password=***'\"'\"', '\"'\"'a'\"'\"')'"
    )
    assert redact("images/1:2@3.jpg") == "images/1:2@3.jpg"
    assert redact("user@tenant is no URL") == "user@tenant is no URL"
