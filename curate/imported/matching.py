"""Which image of the cohort a row of another tool's table is of: by file name, with or without folder and ending."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from curate.manifest import IMAGE_SUFFIXES

_SUFFIXES = (*IMAGE_SUFFIXES, ".dcm", ".gif", ".webp", ".npy", ".jp2")


@dataclass(frozen=True)
class Matches:
    """Which rows belong to which image.

    Attributes:
        image: for each name, the position of its image, or None.
        unmatched: names that belong to no image, each once.
        ambiguous: names that could belong to several, each once.
    """

    image: list[int | None]
    unmatched: list[str]
    ambiguous: list[str]


@dataclass(frozen=True)
class _Name:
    folders: tuple[str, ...]
    stem: str
    ending: str

    @classmethod
    def of(cls, text: str) -> _Name:
        whole = PurePosixPath(unicodedata.normalize("NFC", text.strip().replace("\\", "/")))
        ending = whole.suffix if whole.suffix.lower() in _SUFFIXES else ""
        return cls(whole.parent.parts, whole.name.removesuffix(ending), ending.lower())

    def keys(self, stem: str) -> list[tuple[str, ...]]:
        """Give the stem with ever more of the innermost folders, all in small letters: ("1",), ("1", "site"), ("1", "site", "archive")."""
        inwards = [folder.casefold() for folder in reversed(self.folders)]
        return [(stem.casefold(), *inwards[:depth]) for depth in range(len(inwards) + 1)]


def match(names: Sequence[str], paths: Iterable[str], *, cut: bool = False) -> Matches:
    """Find the image that each name belongs to.

    An image is a candidate where the names agree but for folder, ending and capitals. Of several, the one with which most of
    the innermost folders agree is taken, then the one with the same ending, then the one with the same capitals; where that
    leaves several the name is ambiguous. Where several names fit one image, those with which most folders agree are taken.

    Args:
        names: of the rows, as the tool wrote them.
        paths: of the cohort's images.
        cut: the tool cuts names at the first dot and changes the ending, which then says nothing.

    Returns:
        For each name its image.
    """
    images = [_Name.of(path) for path in paths]
    whole: dict[tuple[str, ...], list[int]] = {}
    short: dict[tuple[str, ...], list[int]] = {}
    for number, image in enumerate(images):
        for index, stem in ((whole, image.stem), *(((short, image.stem.split(".")[0]),) if cut else ())):
            for key in image.keys(stem):
                index.setdefault(key, []).append(number)
    found: dict[str, tuple[int, int]] = {}  # name -> image, folders that agree
    decided: dict[tuple[object, ...], list[int]] = {}
    unmatched, ambiguous = [], []
    for text in dict.fromkeys(names):
        name = _Name.of(text)
        index = short if cut and "." not in name.stem else whole  # a name that still has a dot was not cut
        longest = next((key for key in reversed(name.keys(name.stem)) if key in index), None) if name.stem else None
        if longest is None:
            unmatched.append(text)
            continue
        asked = (longest, index is short, name.stem, name.ending)
        if asked not in decided:  # of a hundred thousand images called left.jpg, look through the candidates once
            decided[asked] = _closest(name, [(c, images[c]) for c in index[longest]], cut)
        if len(decided[asked]) == 1:
            found[text] = decided[asked][0], len(longest)
        else:
            ambiguous.append(text)
    most: dict[int, int] = {}
    for position, agree in found.values():
        most[position] = max(agree, most.get(position, 0))
    # "b/1.png" is not c/1.jpg where "c/1.png" is there too.
    others = [text for text, (position, agree) in found.items() if agree < most[position]]
    for text in others:
        del found[text]
    return Matches([found[text][0] if text in found else None for text in names], unmatched + others, ambiguous)


def _closest(name: _Name, candidates: list[tuple[int, _Name]], cut: bool) -> list[int]:
    """Choose by ending, then by capitals."""
    if cut or len(candidates) == 1:
        return [number for number, _ in candidates]
    like = [(image.ending == name.ending, image.stem == name.stem) for _, image in candidates]
    best = max(like)
    return [number for (number, _), one in zip(candidates, like, strict=True) if one == best]
