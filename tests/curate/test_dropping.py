"""Work that is done with goes at once: a command killed while it clears up finds all of it the next time, or none."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from curate.artefacts import drop, sweep


def work(folder: Path) -> Path:
    parts = folder / "parts"
    parts.mkdir()
    for name in ("a.done", "a.index", "b.done", "b.index"):
        (parts / name).write_text(name)
    return parts


def test_a_dropped_folder_is_gone_and_what_is_not_there_is_no_matter(tmp_path: Path) -> None:
    parts = work(tmp_path)
    drop(parts)
    drop(parts)
    assert list(tmp_path.iterdir()) == []


def test_killed_while_dropping_nothing_of_that_name_is_left_and_the_rest_is_swept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parts, remove = work(tmp_path), shutil.rmtree

    def killed(folder: Path, **options: Any) -> None:
        if folder.is_dir():
            (folder / "a.index").unlink()
            raise KeyboardInterrupt
        remove(folder, **options)

    monkeypatch.setattr(shutil, "rmtree", killed)
    with pytest.raises(KeyboardInterrupt):
        drop(parts)
    monkeypatch.undo()
    assert not parts.exists()
    again = work(tmp_path)  # the next run does the work anew
    drop(again)
    sweep(tmp_path)
    assert list(tmp_path.iterdir()) == []
