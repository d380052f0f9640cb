"""Databases: one query's rows, read without the means to write.

SQLite and DuckDB are read from their files; everything else through SQLAlchemy. A password in the URL goes to the
database driver and nowhere else: not into an artefact, not into a message.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curate.errors import UserError, nearest
from curate.manifest.source import FIRST_ROW, Source
from curate.manifest.text_table import CHUNK, NestedValue, TextTable, digest_of, frame_of, text_of
from curate.redaction import redact

if TYPE_CHECKING:
    import pandas as pd

_MISSING = 'pip install "evenfooting[sql]"'
_COMMENT = re.compile(r"--[^\n]*|/\*.*?\*/", re.DOTALL)


def database_kind(path: Path) -> str | None:
    """Recognise a database file by its first bytes: "sqlite", "duckdb" or None."""
    try:
        with open(path, "rb") as file:
            start = file.read(16)
    except OSError:
        return None
    return "sqlite" if start == b"SQLite format 3\0" else "duckdb" if start[8:12] == b"DUCK" else None


def read_database(manifest: str, *, query: str | None) -> Source:
    """Read what a query selects.

    Args:
        manifest: a SQLAlchemy URL, or the path of a SQLite or DuckDB file.
        query: ``SELECT ...``, or the name of a table or view.

    Returns:
        All columns as text. Rows are numbered in the order of the query's ORDER BY; without one, in the order of their
        values, so that the same data give the same numbers.

    Raises:
        UserError: where it can't be reached, the query is not one SELECT, or it selects bytes.
    """
    import pandas as pd

    shown = redact(manifest)
    engine, file = _engine(manifest)
    read = {"sqlite": _read_sqlite, "duckdb": _read_duckdb}.get(engine)
    table = read(file, query, shown) if read and file else _read_url(manifest, query, shown)
    if not _ordered(query or ""):
        table = table.sort_values(list(table.columns), kind="stable") if table.columns.is_unique else table
        table = table.set_axis(pd.RangeIndex(FIRST_ROW, FIRST_ROW + len(table)), axis=0)
    where = file or Path(re.split(r"[?#]", manifest)[0])
    return Source(
        table=table,
        inputs={(file.name if file else shown): digest_of(table)},
        name=(file.resolve().parent.name if file else where.name) or "database",
        folder=file.parent if file else None,
        synthetic=file is not None and (file.parent / "simulation.json").is_file(),
    )


def _engine(manifest: str) -> tuple[str, Path | None]:
    """Give the kind of database and, where it is one, its file."""
    scheme, has_scheme, rest = manifest.partition("://")
    kind = scheme.partition("+")[0].lower() if has_scheme else ""
    if has_scheme and kind not in ("sqlite", "duckdb"):
        return kind, None
    path = Path(rest.removeprefix("/").partition("?")[0] if has_scheme else manifest)
    if not path.is_file():
        raise UserError(f"{redact(manifest)}: no such file: {path}" if has_scheme else f"{path}: no such file")
    if has_scheme and database_kind(path) not in (kind, None):
        raise UserError(f"{path}: is a {database_kind(path)} database, not {kind}")
    return kind or database_kind(path) or "", path


def _ordered(query: str) -> bool:
    return bool(re.search(r"\border\s+by\b", _COMMENT.sub(" ", query), re.IGNORECASE))


def _select(query: str | None, tables: Sequence[str], quote: Any, shown: str) -> str:
    """Make one SELECT of what was asked for.

    Args:
        query: as the user gave it.
        tables: the database's tables and views, for messages and for names with spaces.
        quote: makes an identifier of a name.
        shown: the database, for messages.
    """
    if query is None or not query.strip():
        raise UserError(f"{shown}: say what to read, as --query 'SELECT * FROM images'{nearest('', tables)}")
    bare = query.strip().rstrip(";").rstrip()
    if bare in tables:
        return f"SELECT * FROM {quote(bare)}"
    if re.fullmatch(r"[\w$]+(\.[\w$]+){0,2}", bare):
        if "." in bare:
            return "SELECT * FROM " + ".".join(quote(part) for part in bare.split("."))
        raise UserError(f"--query {bare}: no such table{nearest(bare, tables)}")
    first = re.match(r"[\s(]*(\w+)", _COMMENT.sub(" ", bare))
    if not first or first[1].lower() not in ("select", "with", "values", "from"):
        raise UserError(f"--query: begins with '{first[1] if first else bare[:20]}'; only a SELECT is run, or the name of a table")
    return bare


def _gather(names: Sequence[str], rows: Iterable[Sequence[Any]], shown: str) -> pd.DataFrame:
    table = TextTable(shown)
    held: list[Sequence[Any]] = []

    def flush() -> None:
        columns = {}
        for place, values in enumerate(zip(*held, strict=True)):
            try:
                columns[place] = [text_of(v) for v in values]
            except NestedValue as kind:
                raise UserError(f"{shown}: the query's column '{names[place]}' holds {kind}; leave it out of --query") from None
        start = FIRST_ROW + len(table)
        table.add(columns, range(start, start + len(held)))
        held.clear()

    for row in rows:
        held.append(row)
        if len(held) == CHUNK:
            flush()
    if held:
        flush()
    doubled = next((n for n in names if list(names).count(n) > 1), None)
    if doubled is not None:
        raise UserError(f"{shown}: the query gives two columns called '{doubled}'; rename one with AS")
    # Columns without a value are still columns.
    return table.frame(names).reindex(columns=list(names), fill_value="")


def _read_sqlite(path: Path, query: str | None, shown: str) -> pd.DataFrame:
    import sqlite3
    from urllib.parse import quote as escape

    try:
        connection = sqlite3.connect(f"file:{escape(str(path.resolve()))}?mode=ro", uri=True)
    except sqlite3.Error as error:
        raise UserError(f"{shown}: cannot be opened ({error})") from None
    try:
        connection.execute("PRAGMA query_only = 1")
        names = [n for (n,) in connection.execute("SELECT name FROM sqlite_master WHERE type IN ('table', 'view') ORDER BY name")]
        chosen = _select(query, names, _quote, shown)
        cursor = connection.execute(chosen)
        return _gather([c[0] for c in cursor.description or ()], cursor, shown)
    except (sqlite3.Error, sqlite3.Warning, UnicodeError) as error:
        raise UserError(f"{shown}: the query failed ({_one_line(error)})") from None
    finally:
        connection.close()


def _quote(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _read_duckdb(path: Path, query: str | None, shown: str) -> pd.DataFrame:
    try:
        import duckdb
    except ModuleNotFoundError:
        raise UserError(f"{shown}: reading DuckDB needs a further package: {_MISSING}") from None
    try:
        connection = duckdb.connect(str(path), read_only=True)
    except duckdb.Error as error:
        raise UserError(f"{shown}: cannot be opened ({_one_line(error)})") from None
    try:
        names = [n for (n,) in connection.execute("SELECT table_name FROM information_schema.tables ORDER BY 1").fetchall()]
        chosen = _select(query, names, _quote, shown)
        statements = connection.extract_statements(chosen)
        if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
            raise UserError("--query: only one SELECT is run")
        found = connection.sql(chosen).to_arrow_table()
    except duckdb.Error as error:
        raise UserError(f"{shown}: the query failed ({_one_line(error)})") from None
    finally:
        connection.close()
    return frame_of(found, shown, leave_out_nested=False)


def _read_url(url: str, query: str | None, shown: str) -> pd.DataFrame:
    try:
        import sqlalchemy
        from sqlalchemy import exc
    except ModuleNotFoundError:
        raise UserError(f"{shown}: reading a database needs further packages: {_MISSING}") from None
    if url.partition("?")[0].count("@") > 1:
        raise UserError(f"{shown}: its user or password holds an @; write it as %40 (and : as %3A, / as %2F)")
    secrets: list[str] = []
    try:
        parsed = sqlalchemy.make_url(url)
        secrets += [str(parsed.password)] if parsed.password else []
        secrets += [str(v) for k, v in parsed.query.items() if re.search("pass|pwd|secret|token|key", k, re.IGNORECASE)]
        if parsed.drivername in ("postgresql", "postgres"):
            parsed = parsed.set(drivername="postgresql+psycopg")
        postgres = parsed.drivername.startswith("postgresql")
        engine = sqlalchemy.create_engine(parsed, poolclass=sqlalchemy.NullPool)
        with engine.connect() as connection:
            if postgres:
                connection = connection.execution_options(postgresql_readonly=True)
            elif parsed.get_backend_name() in ("mysql", "mariadb"):
                connection.exec_driver_sql("SET SESSION TRANSACTION READ ONLY")
                connection.rollback()
            inspector = sqlalchemy.inspect(connection)
            names = sorted({*inspector.get_table_names(), *inspector.get_view_names()})
            chosen = _select(query, names, engine.dialect.identifier_preparer.quote, shown)
            streamed = connection.execution_options(stream_results=True, no_parameters=True, max_row_buffer=10_000)
            result = streamed.exec_driver_sql(chosen)
            if not result.returns_rows:
                raise UserError("--query: only one SELECT is run")
            table = _gather(list(result.keys()), result, shown)
            connection.rollback()
            return table
    except ModuleNotFoundError as error:
        needs = _MISSING if error.name == "psycopg" else f"pip install {error.name}"
        raise UserError(f"{shown}: the driver '{error.name}' is not installed: {needs}") from None
    except ValueError:
        raise UserError(f"{shown}: not the URL of a database; expected one as postgresql://USER@HOST:5432/DATABASE") from None
    except exc.SQLAlchemyError as error:
        reason = _one_line(getattr(error, "orig", None) or error)
        for secret in filter(None, secrets):
            reason = reason.replace(secret, "***")
        raise UserError(f"{shown}: {redact(reason)}") from None


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())
