"""Finding a manifest's files on disk, however their names are written, and nowhere but in the image folders."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path
from urllib.parse import unquote_to_bytes

from curate.manifest import IMAGE_SUFFIXES


class Folders:
    """The image folders; keeps what it has listed.

    Args:
        folders: where images may lie, searched in this order.
    """

    def __init__(self, folders: list[Path]) -> None:
        self.roots = [str(f.resolve()) for f in folders]
        self.root = Path(os.path.commonpath(self.roots))
        self._listed: dict[str, dict[str, list[str]]] = {}

    def find(self, path: str) -> tuple[str, str | None]:
        """Find a file.

        Args:
            path: as the manifest says it: from one of the folders, or absolute.

        Returns:
            The path from the folders' common parent, and the ledger's rule: None where it lies there as it was said,
            "path-extension", "path-spelling", "path-outside" or "image-missing".
        """
        if "\0" in path:
            return path, "path-unreadable"
        for written, rule in ((path, None), (path.replace("\\", "/"), "path-spelling")):
            if rule and written == path:
                break
            for base in self.roots:
                full = os.path.normpath(os.path.join(base, written))
                if not _inside(full, base) or _is_drive(written):
                    return path, "path-outside"
                found, repair = self._named(full) or self._spelt(base, os.path.relpath(full, base)) or (None, None)
                if found:
                    # A link from one image folder to something beside it must not pass because both have one parent.
                    outside = not any(_inside(os.path.realpath(found), other) for other in self.roots)
                    return (path, "path-outside") if outside else (os.path.relpath(found, self.root), repair or rule)
        rule = "path-unreadable" if self._is_not_unicode(path) else "image-missing"
        return os.path.relpath(os.path.normpath(os.path.join(self.roots[0], path)), self.root), rule

    def _is_not_unicode(self, path: str) -> bool:
        """Say whether a path stands, with its odd bytes as %FF, for a file whose name isn't Unicode."""
        raw = os.fsdecode(unquote_to_bytes(path)) if "%" in path else path
        return raw != path and "\0" not in raw and any(os.path.lexists(os.path.join(base, raw)) for base in self.roots)

    def _named(self, full: str) -> tuple[str, str | None] | None:
        if os.path.isfile(full):
            return full, None
        for suffix in IMAGE_SUFFIXES:
            for ending in (suffix, suffix.upper()):
                if os.path.isfile(full + ending):
                    return full + ending, "path-extension"
        return None

    def _spelt(self, base: str, path: str) -> tuple[str, str | None] | None:
        """Find the one file whose name differs in capitals or in how accents are encoded, folder by folder."""
        here = base
        *parents, name = path.split(os.sep)
        for part in parents:
            there = [n for n in self._list(here).get(_plain(part), ()) if os.path.isdir(os.path.join(here, n))]
            if part in there:
                there = [part]
            if len(there) != 1:
                return None
            here = os.path.join(here, there[0])
        for ending in ("", *IMAGE_SUFFIXES):
            there = [n for n in self._list(here).get(_plain(name + ending), ()) if os.path.isfile(os.path.join(here, n))]
            if len(there) == 1:
                return os.path.join(here, there[0]), "path-spelling"
        return None

    def _list(self, folder: str) -> dict[str, list[str]]:
        if folder not in self._listed:
            found: dict[str, list[str]] = {}
            try:
                for name in sorted(os.listdir(folder)):
                    found.setdefault(_plain(name), []).append(name)
            except OSError:
                pass
            self._listed[folder] = found
        return self._listed[folder]


def _inside(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)


def _is_drive(path: str) -> bool:
    return len(path) > 2 and path[0].isalpha() and path[1:3] in (":\\", ":/")


def _plain(name: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())
