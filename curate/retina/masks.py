"""What masks of a photograph add to it: arteries and veins apart, the zones around the disc, and the calibres there.

A folder of masks holds any of ``vessels/`` (non-zero where vessel), ``artery_vein/`` (arteries red, veins blue, crossings
green) and ``disc/`` (non-zero inside the optic disc), each with one PNG an image under the image's own name.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import cv2
import numpy as np

from curate.errors import UserError
from curate.retina import calibre, compatible, field
from curate.retina.morphology import REFERENCE, Skeleton, skeleton_of, within
from curate.retina.shape import SHAPES, vessel_measures

KINDS = ("vessels", "artery_vein", "disc")
ZONES = {"_zone_b": (2.0, 3.0), "_zone_c": (2.0, 5.0)}  # rings around the disc, in disc radii from its centre
_SHOWN = 0.5  # share of a ring that the photograph must show
_SHORTEST = 0.4  # disc radii of a vessel inside a ring that its width is taken from
_CALIBRES = tuple(
    f"{vessel}_{formula}{zone}" for zone in ZONES for formula in ("Hubbard", "Knudtson") for vessel in ("CRAE", "CRVE", "AVR")
)

# Column -> numpy type, in the order in which they follow the photograph's own.
MEASURES: dict[str, str] = dict.fromkeys(
    (
        *(f"{prefix}{name}{zone}" for zone in ("", *ZONES) for prefix in ("", "Artery_", "Vein_") for name in SHAPES if prefix or zone),
        *_CALIBRES,
        "Disc_height",
        "Disc_width",
    ),
    "float64",
)


@dataclass(frozen=True)
class Masks:
    """Masks of one photograph, (H, W) uint8 of 0 and 1; None for what isn't known."""

    vessels: np.ndarray | None = None
    artery: np.ndarray | None = None
    vein: np.ndarray | None = None
    disc: np.ndarray | None = None

    def in_field(self, shape: tuple[int, int], found: field.Field, resolution: int) -> Masks:
        """Bring the masks to the normalised field of their photograph.

        Args:
            shape: height and width of the photograph that `found` is in pixels of; the masks may be larger or smaller.
            found: the field of view.
            resolution: pixels.

        Returns:
            Masks of (resolution, resolution).
        """
        return Masks(*(_in_field(m, shape, found, resolution) for m in (self.vessels, self.artery, self.vein, self.disc)))


def _in_field(drawn: np.ndarray | None, shape: tuple[int, int], found: field.Field, resolution: int) -> np.ndarray | None:
    if drawn is None:
        return None
    grey: np.ndarray = drawn * np.uint8(255)
    if grey.shape != shape:
        grey = cv2.resize(grey, shape[::-1], interpolation=cv2.INTER_AREA if grey.shape[0] > shape[0] else cv2.INTER_LINEAR)
    image, _ = field.normalise(cv2.merge([grey] * 3), found, resolution)
    return (image[:, :, 0] > 127).astype(np.uint8)


def find_masks(folder: Path, paths: Iterable[str]) -> list[dict[str, Path]]:
    """Find the masks of images, each as the image's path with the ending .png, or its bare name, under its kind.

    Args:
        folder: of the masks.
        paths: of the images in their own folder, as the cohort has them.

    Returns:
        Kind -> file, for each path.

    Raises:
        UserError: where the folder holds none of the kinds, or masks of none of the images.
    """
    there = {kind: {file.relative_to(folder / kind).as_posix() for file in (folder / kind).rglob("*.png")} for kind in KINDS}
    if not any(there.values()):
        raise UserError(f"--masks {folder}: holds no PNG files in {', '.join(f'{kind}/' for kind in KINDS)}")
    found = []
    for path in paths:
        named = PurePosixPath(path).with_suffix(".png")
        names = (str(named), named.name)
        found.append(
            {kind: folder / kind / next(n for n in names if n in there[kind]) for kind in KINDS if not there[kind].isdisjoint(names)}
        )
    if not any(found):
        example = next(name for names in there.values() for name in sorted(names))
        raise UserError(
            f"--masks {folder}: no mask belongs to an image of the cohort; masks are named like the images, this one is {example}"
        )
    return found


def read_masks(files: dict[str, Path]) -> Masks:
    """Read masks.

    Args:
        files: from `find_masks`.

    Raises:
        UserError: where a file is no image.
    """
    read = {}
    for kind, file in files.items():
        image = cv2.imread(str(file), cv2.IMREAD_COLOR)
        if image is None:
            raise UserError(f"{file}: not an image; a mask is a PNG of the photograph's shape")
        read[kind] = image
    artery = vein = None
    if "artery_vein" in read:
        blue, green, red = (plane > 127 for plane in cv2.split(read["artery_vein"]))
        crossing = green & ~red & ~blue
        artery = ((red & ~blue & ~green) | crossing).astype(np.uint8)
        vein = ((blue & ~red & ~green) | crossing).astype(np.uint8)
    return Masks(
        vessels=_marked(read["vessels"]) if "vessels" in read else None,
        artery=artery,
        vein=vein,
        disc=_marked(read["disc"]) if "disc" in read else None,
    )


def _marked(image: np.ndarray) -> np.ndarray:
    return (image.max(axis=2) > 0).astype(np.uint8)


def measure_masks(masks: Masks, mask: np.ndarray, *, as_defined_by: str | None = None) -> dict[str, float | str | None]:
    """Measure what the masks allow.

    Args:
        masks: of a normalised field, (R, R).
        mask: (R, R) uint8, 1 where the photograph shows the field.
        as_defined_by: one of `compatible.COMPATIBLE`, or None: our definitions. With AutoMorph's, calibres are in pixels.

    Returns:
        Some of `MEASURES`: shapes of all vessels in the zones, of arteries and veins in the whole field and the zones,
        CRAE, CRVE and AVR (micrometres of a field of 13 mm; None where fewer than six vessels of a kind cross the zone),
        and the disc's height and width in pixels of a 912 px field. Zones of which less than half is shown have none.
    """
    row: dict[str, float | str | None] = {}
    shape_of = compatible.vessel_measures if as_defined_by else vessel_measures
    known = (("", masks.vessels), ("Artery_", masks.artery), ("Vein_", masks.vein))
    kinds = {prefix: (marked, skeleton_of(marked)) for prefix, marked in known if marked is not None}
    disc = masks.disc
    for prefix in ("Artery_", "Vein_"):
        if prefix in kinds:
            marked, skeleton = kinds[prefix]
            row |= {f"{prefix}{name}": value for name, value in shape_of(marked, mask, skeleton).items()}
    if disc is None or not disc.any():
        return row
    resolution = len(mask)
    _, _, width, height = cv2.boundingRect(disc)
    row |= {"Disc_height": height * REFERENCE / resolution, "Disc_width": width * REFERENCE / resolution}
    (x, y), radius = _centre(disc), (width + height) / 4
    for zone, (inner, outer) in ZONES.items():
        ring = _ring(resolution, x, y, inner * radius, outer * radius)
        whole = np.pi * (outer**2 - inner**2) * radius**2
        ring &= mask
        if np.count_nonzero(ring) < _SHOWN * whole:
            continue
        cut = {prefix: (marked & ring, within(skeleton, ring)) for prefix, (marked, skeleton) in kinds.items()}
        for prefix, (marked, skeleton) in cut.items():
            row |= {f"{prefix}{name}{zone}": value for name, value in shape_of(marked, ring, skeleton).items()}
        if masks.artery is not None and masks.vein is not None:
            arteries, veins = (_widths(*cut[prefix], _SHORTEST * radius, as_defined_by) for prefix in ("Artery_", "Vein_"))
            row |= _calibres(arteries, veins, zone)
    return row


def _widths(marked: np.ndarray, skeleton: Skeleton, shortest: float, as_defined_by: str | None) -> np.ndarray:
    return compatible.widths(marked) if as_defined_by else calibre.widths(marked, skeleton.segments, shortest=shortest)


def _calibres(arteries: np.ndarray, veins: np.ndarray, zone: str) -> dict[str, float | str | None]:
    row: dict[str, float | str | None] = {}
    for formula, equivalent in (("Hubbard", calibre.hubbard), ("Knudtson", calibre.knudtson)):
        crae, crve = equivalent(arteries, "CRAE"), equivalent(veins, "CRVE")
        row |= {f"CRAE_{formula}{zone}": crae, f"CRVE_{formula}{zone}": crve}
        row[f"AVR_{formula}{zone}"] = crae / crve if crae is not None and crve is not None else None
    return row


def _centre(disc: np.ndarray) -> tuple[float, float]:
    x, y, width, height = cv2.boundingRect(disc)
    return x + (width - 1) / 2, y + (height - 1) / 2


def _ring(size: int, x: float, y: float, inner: float, outer: float) -> np.ndarray:
    axis = np.arange(size, dtype=np.float32)
    squared = (axis[None, :] - np.float32(x)) ** 2 + (axis[:, None] - np.float32(y)) ** 2
    return ((squared >= inner**2) & (squared <= outer**2)).astype(np.uint8)
