"""Artefacts: folders of open formats that appear whole or not at all.

A command writes its artefact in ``NAME.partial`` beside the place where it belongs and renames it when it is
complete. The specification (what is asked, from what) is written first: the same command issued again finds it
and resumes, or finds the finished artefact and does nothing; another specification on the same folder is refused
with the difference shown. Nothing in an artefact depends on the clock, the machine or the number of workers.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import secrets
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from curate import lock
from curate.console import mode
from curate.engines import PartDone, current
from curate.errors import Unfinished, UserError

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd


@cache
def tool_version() -> str:
    """Give the installed version of evenfooting."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("evenfooting")
    except PackageNotFoundError:
        return "not installed"


def sha256_file(path: Path) -> str:
    """Give the SHA-256 of a file as 64 hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def canonical_json(value: Any) -> str:
    """Write a value as JSON that is the same text for the same value: sorted keys, no NaN, two spaces."""
    return json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False, default=_plain) + "\n"


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "item"):  # a numpy or pandas scalar
        return value.item()
    raise TypeError(f"{type(value).__name__} does not go into JSON")


@contextmanager
def writing(path: Path, mode: str = "wb", *, durable: bool = True) -> Iterator[IO[Any]]:
    """Open a file that appears under its name only when it has been written whole.

    Args:
        path: the final name; the parent must exist.
        mode: ``"wb"`` or ``"w"``.
        durable: whether it is on the disk, and not only in the machine's memory, when this returns.
    """
    # Process ids recur on other machines that write into the same folder; this name doesn't.
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    try:
        with open(temporary, mode, **({} if "b" in mode else {"encoding": "utf-8", "newline": "\n"})) as file:  # type: ignore[call-overload]
            yield file
            file.flush()
            if durable:
                os.fsync(file.fileno())
        os.replace(temporary, path)
        if durable:
            _sync_names(path.parent)
    except OSError as error:
        error.filename = error.filename or str(path)  # a full disk doesn't say which file it was
        raise
    finally:
        temporary.unlink(missing_ok=True)


def _sync_names(folder: Path) -> None:
    """Make sure that names given in a folder outlive a power cut, where the file system can."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF, errno.EACCES):
            error.filename = str(folder)
            raise
    finally:
        os.close(descriptor)


def sweep(folder: Path) -> None:
    """Remove what killed processes left of files they were writing; call it when nothing is being written there."""
    for left_over in list(folder.rglob(".*.tmp")):
        if left_over.is_dir() and not left_over.is_symlink():
            shutil.rmtree(left_over, ignore_errors=True)
        else:
            left_over.unlink(missing_ok=True)


def drop(folder: Path) -> None:
    """Remove a folder of work that is done with, if it is there: whoever is killed meanwhile leaves all of it or nothing of that name."""
    gone = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(gone, ignore_errors=True)
    if folder.is_dir():
        folder.rename(gone)
        shutil.rmtree(gone, ignore_errors=True)


def write_json(path: Path, value: Any) -> None:
    """Write canonical JSON, atomically."""
    with writing(path, "w") as file:
        file.write(canonical_json(value))


def read_json(path: Path, what: str) -> dict[str, Any]:
    """Read one of an artefact's JSON files.

    Args:
        path: the file.
        what: what it is, for the message, as "a shard set".

    Raises:
        UserError: if it is missing or is not JSON.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path.parent}: not {what} ({path.name} is missing)") from None
    except (ValueError, NotADirectoryError) as error:
        raise UserError(f"{path}: not {what} ({error})") from None
    if not isinstance(value, dict):
        raise UserError(f"{path}: not {what} (expected a JSON object)")
    return value


def write_array(path: Path, array: np.ndarray) -> None:
    """Write an array as ``.npy``, atomically."""
    import io

    import numpy as np

    # numpy's own writing to a file says neither the file nor the reason when the disk is full
    buffer = io.BytesIO()
    np.save(buffer, array)
    with writing(path) as file:
        file.write(buffer.getbuffer())


def write_parquet(path: Path, frame: pd.DataFrame) -> None:
    """Write a data frame as Parquet, atomically and without its index; equal frames give equal bytes."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    with writing(path) as file:
        pq.write_table(pa.Table.from_pandas(frame, preserve_index=False).replace_schema_metadata(None), file, compression="zstd")


def provenance(specification: dict[str, Any], inputs: dict[str, str], seed: int | None = None) -> dict[str, Any]:
    """Describe what made an artefact: tool and version, command, seed, specification, SHA-256 of each input.

    Args:
        specification: everything asked for that decides the result, as plain values.
        inputs: name of each input -> SHA-256.
        seed: the seed, where the command has one.
    """
    return {
        "tool": "evenfooting",
        "version": tool_version(),
        "python": f"{sys.version_info.major}.{sys.version_info.minor}",
        "command": mode.command,
        "seed": seed,
        "specification": specification,
        "inputs": inputs,
    }


def partial_of(out: Path) -> Path:
    """Name the folder in which an artefact is being made: beside the artefact, or beside what it links to."""
    place = _place(out)
    return place.with_name(place.name + ".partial")


def _place(out: Path) -> Path:
    return out.resolve() if out.is_symlink() or out.name in ("", "..") else out


def begin(out: Path, name: str, made_by: dict[str, Any]) -> Path | None:
    """Start, resume or skip the making of an artefact.

    Args:
        out: the artefact's folder.
        name: its JSON file, as ``"sample.json"``, which holds `made_by` under that name.
        made_by: from `provenance`; version, seed, specification and inputs decide whether it is the same artefact.

    Returns:
        The folder to write into (what an interrupted run left there is to be used again), or None where the
        finished artefact is already there.

    Raises:
        UserError: where `out` holds something else, or another specification, or another process is at work on it.
        PartDone: in a task of an array job, where all that is missing is `finish`.
    """
    occupied = out.exists() and (not out.is_dir() or any(out.iterdir()))
    if (out / name).exists():  # looked up last: another process may just have finished it
        same_or_refuse(out, read_json(out / name, f"an artefact with {name}").get("made_by", {}), made_by)
        if (out / lock.NAME).exists():
            (out / lock.NAME).unlink(missing_ok=True)
        return None
    if occupied:
        raise UserError(f"{out}: exists and is not an artefact of this command; choose another folder with --out")
    if out.is_dir() and (os.path.ismount(out) or out.samefile(Path.cwd())):
        raise UserError(
            f"{out}: can't be replaced by a finished folder (it is where a disk is mounted, or the current one); name a new one"
        )
    partial, part = partial_of(out), current().part
    if _is_foreign(partial, name):
        raise UserError(f"{partial}: in the way and not made by this command; move or remove it")
    partial.mkdir(parents=True, exist_ok=True)
    try:
        lock.hold(partial, shared=part is not None)
    except FileNotFoundError:
        return begin(out, name, made_by)
    if (out / name).exists():
        lock.release(partial)
        shutil.rmtree(partial, ignore_errors=True)
        return begin(out, name, made_by)
    return _resume(out, partial, name, made_by)


def _resume(out: Path, partial: Path, name: str, made_by: dict[str, Any]) -> Path | None:
    """Look at what an earlier run left in the folder, which this process holds now; see `begin`."""
    whole, started, part = partial / name, partial / "specification.json", current().part
    if whole.exists() or started.exists():
        there = read_json(whole, "an artefact").get("made_by", {}) if whole.exists() else read_json(started, "an unfinished artefact")
        if _identity(there) == _identity(made_by):
            if not whole.exists():
                return partial
            if part is not None:
                raise PartDone(part)
            finish(out)  # the run ended before it could be renamed
            return None
        if part is not None:  # other tasks may be at work on it
            same_or_refuse(partial, there, made_by, advice="remove it, then start the tasks")
        # An unfinished attempt at something else is of no use to anyone.
        if whole.exists():
            os.replace(whole, started)
        _clear(partial)
    write_json(started, made_by)
    return partial


def _is_foreign(partial: Path, name: str) -> bool:
    """Say whether a folder holds files, but not those with which the making of this artefact begins or ends."""
    for _ in range(4):  # a listing can miss a file that another process is just replacing
        try:
            names = os.listdir(partial)  # asked once: between two questions another task may have made the folder
        except FileNotFoundError:
            return False
        except NotADirectoryError:
            return True
        if all(n == lock.NAME or n.endswith(".tmp") for n in names):
            return False
        if {"specification.json", name} & set(names) or (partial / "specification.json").exists() or (partial / name).exists():
            return False
        time.sleep(0.1)
    return True


def _clear(partial: Path) -> None:
    """Empty a folder; what says whose it is goes last, so that an interrupted removal can be told from foreign files."""
    for path in sorted(partial.iterdir(), key=lambda p: p.name == "specification.json"):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.name != lock.NAME:
            path.unlink(missing_ok=True)


def discard(out: Path) -> None:
    """Remove what was written towards an artefact, where anything was."""
    partial = partial_of(out)
    if partial.is_dir():
        _clear(partial)
        lock.release(partial)
        shutil.rmtree(partial, ignore_errors=True)


def give_up(out: Path, error: UserError) -> None:
    """Remove what was written towards an artefact that can't be made as it was asked for.

    What can be resumed stays, and so does what other tasks of an array job may be writing.

    Args:
        out: the artefact's folder.
        error: why.
    """
    if not isinstance(error, Unfinished) and current().part is None:
        discard(out)


def finish(out: Path) -> None:
    """Give a completed artefact its name: removes the traces of the work and renames the folder.

    The artefact's own JSON file, with `made_by` in it, must have been written last: its presence is what says complete.
    """
    partial, place = partial_of(out), _place(out)
    sweep(partial)
    (partial / "specification.json").unlink(missing_ok=True)
    os.replace(partial, place)  # an empty folder of that name, as `begin` allows, is replaced
    # Held until here, so that nobody begins again in a folder that is about to get its name.
    lock.release(partial)
    (place / lock.NAME).unlink(missing_ok=True)
    _sync_names(place.parent)


def _identity(made_by: dict[str, Any]) -> dict[str, Any]:
    identity = {k: made_by.get(k) for k in ("version", "seed", "specification", "inputs")}
    return json.loads(canonical_json(identity))


def same_or_refuse(
    out: Path, there: dict[str, Any], wanted: dict[str, Any], *, advice: str = "choose another folder with --out, or remove it"
) -> None:
    """Refuse to go on in a folder that was made from another specification.

    Args:
        out: the artefact's folder or file, for the message.
        there: its `made_by`.
        wanted: the `made_by` of what is asked for now.
        advice: what the user can do, for the message.

    Raises:
        UserError: where version, seed, specification or inputs differ, with the differences.
    """
    differences = sorted(_differences(_identity(there), _identity(wanted)))
    if differences:
        shown = "; ".join(differences[:6]) + ("; ..." if len(differences) > 6 else "")
        raise UserError(f"{out}: was made with another specification ({shown}); {advice}")


def _differences(there: Any, wanted: Any, name: str = "") -> Iterator[str]:
    if isinstance(there, dict) and isinstance(wanted, dict):
        for key in there.keys() | wanted.keys():
            yield from _differences(there.get(key), wanted.get(key), f"{name}.{key}" if name else str(key))
    elif there != wanted:
        yield f"{name.removeprefix('specification.')}: there {_short(there)}, asked {_short(wanted)}"


def _short(value: Any) -> str:
    text = json.dumps(value, default=str)
    return text[:60] + ("..." if len(text) > 60 else "")
