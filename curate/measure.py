"""curate measure: one row of measures for every image of a cohort.

Work is cut into parts of 128 images in the order of their ids; each writes its own table, so killing the command
costs at most the parts that were under way. ``measurements.json`` is written last: it says complete.
"""

from __future__ import annotations

import hashlib
import importlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curate import console
from curate.artefacts import begin, discard, provenance, read_json, same_or_refuse, write_json, write_parquet
from curate.cohort import Cohort, read_cohort
from curate.errors import UserError, nearest
from curate.parts import run_parts, slices

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

UNREADABLE = "unreadable"
DEFAULT_RESOLUTION = 512
_PART = 128

# Modality -> module with MEASURES (column -> type) and measure_image(rgb, *, resolution) -> {column: value or None}.
MODALITIES = {"retina": "curate.retina", "generic": "curate.generic"}
ENTRY_POINTS = "evenfooting.modalities"  # the group in which other packages name such modules


def measure_cohort(
    cohort: Path,
    *,
    modality: str = "retina",
    resolution: int = DEFAULT_RESOLUTION,
    masks: Path | None = None,
    workers: int = 0,
    max_bad: float = 0.01,
) -> dict[str, Any]:
    """Measure every image of a cohort into ``measurements.parquet`` and ``measurements.json``.

    Args:
        cohort: the cohort folder.
        modality: one of `MODALITIES`, or a name of the entry point group `ENTRY_POINTS`: what is measured.
        resolution: pixels to which the field of view (retina) or the longer side (generic) is brought.
        masks: a folder of what is known of the photographs (see `curate.retina.masks`): arteries and veins, the disc's
            zones and the calibres are measured too. Images without masks go without these.
        workers: processes; 0 is one a core. Never changes the result.
        max_bad: share of images that may be unreadable.

    Returns:
        What ``measurements.json`` holds: ``made_by``; ``images``; ``states`` and, where it is graded, ``quality``:
        value -> number of images; ``masks``, where given: kind -> number
        of images that have one; ``medians``: measure -> median over the images that have it, or None.

    Raises:
        UserError: where there is no such cohort or modality, its images are gone or too many can't be read, or the
            cohort was measured with another specification.
    """
    source = read_cohort(cohort)
    _modality(modality)
    if resolution < 128:
        raise UserError(f"--resolution {resolution}: at least 128 pixels are needed")
    inputs = {"cohort.parquet": source.digest}
    files: list[dict[str, Path]] | None = None
    if masks is not None:
        files = _find_masks(modality, masks, source)
        inputs["masks"] = _listing(masks, files)
    made_by = provenance({"modality": modality, "resolution": resolution}, inputs)
    table_file, about_file = cohort / "measurements.parquet", cohort / "measurements.json"
    if about_file.exists():
        there = read_json(about_file, "a table of measures")
        same_or_refuse(about_file, there.get("made_by", {}), made_by, advice="remove it to measure again")
        if table_file.exists():
            discard(cohort / "measurements")
            return there
        about_file.unlink(missing_ok=True)  # says complete of a table that is gone
    if not source.images.is_dir():
        raise UserError(f"{source.images}: the cohort's image folder is missing; put it back, or ingest again with --images")
    table = _measure(source, modality, resolution, files, workers, made_by, max_bad)
    write_parquet(table_file, table)
    about = {"made_by": made_by, **_summary(table)}
    if files is not None:
        about["masks"] = {kind: sum(kind in f for f in files) for kind in sorted({kind for f in files for kind in f})}
    for left_over in cohort.glob(".measurements.*.tmp"):  # of a process that was killed here
        left_over.unlink(missing_ok=True)
    write_json(about_file, about)
    discard(cohort / "measurements")
    return about


def _find_masks(modality: str, folder: Path, source: Cohort) -> list[dict[str, Path]]:
    """Find the masks of the cohort's images, in the order of their ids."""
    if modality != "retina":
        raise UserError(f"--masks {folder}: masks are for --modality retina; leave it out for {modality}")
    from curate.retina.masks import find_masks

    return find_masks(folder, source.table.sort_values("image_id", kind="stable")["path"])


def _listing(folder: Path, files: list[dict[str, Path]]) -> str:
    """Give a digest of the masks' names and sizes: reading a million of them again would take as long as measuring."""
    lines = [f"{file.relative_to(folder).as_posix()} {file.stat().st_size}" for found in files for file in found.values()]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _measure(
    source: Cohort,
    modality: str,
    resolution: int,
    masks: list[dict[str, Path]] | None,
    workers: int,
    made_by: dict[str, Any],
    max_bad: float,
) -> pd.DataFrame:
    import pandas as pd

    partial = begin(source.folder / "measurements", "measurements.json", made_by)
    assert partial is not None  # measurements.json never stands in the folder of parts
    rows = source.table[["image_id", "path", "width", "height"]].sort_values("image_id", kind="stable")
    parts = [
        (
            f"images-{number:06d}",
            stop - start,
            (
                str(source.images),
                rows.iloc[start:stop].reset_index(drop=True),
                modality,
                resolution,
                None if masks is None else masks[start:stop],
                partial / f"images-{number:06d}.parquet",
            ),
        )
        for number, (start, stop) in enumerate(slices(len(rows), _PART))
    ]
    results = run_parts(_measure_part, parts, markers=partial, workers=workers, label="measuring")
    bad = sum(r["bad"] for r in results)
    if bad > max_bad * len(rows):
        # The parts concerned are measured again next time: by then the user has mended the files.
        concerned = [(part[0], r["first"]) for part, r in zip(parts, results, strict=True) if r["bad"]]
        for name, _ in concerned:
            (partial / f"{name}.done").unlink()
        raise UserError(
            f"{bad:,} of {len(rows):,} images cannot be read, more than {100 * max_bad:g} %; first: {source.images / concerned[0][1]}; "
            "mend or restore them and run the same command again"
        )
    if bad:
        console.warn(f"{bad:,} of {len(rows):,} images cannot be read; their state is '{UNREADABLE}'")
    return pd.concat([pd.read_parquet(part[2][-1]) for part in parts], ignore_index=True)


def _measure_part(
    images: str, rows: pd.DataFrame, modality: str, resolution: int, masks: list[dict[str, Path]] | None, to: Path
) -> dict[str, Any]:
    import cv2
    import pandas as pd

    cv2.setNumThreads(1)
    measures, measure = _modality(modality)
    if masks is not None:
        from curate.retina import masks as retinal

        measures = measures | retinal.MEASURES
    results: list[dict[str, Any]] = []
    unread: list[str] = []
    for number, (path, width, height) in enumerate(zip(rows["path"], rows["width"], rows["height"], strict=True)):
        rgb = read_image(os.path.join(images, path), at_least=2 * resolution, size=(int(width), int(height)))
        if rgb is None:
            unread.append(path)
            results.append({"state": UNREADABLE})
        elif masks is not None:
            results.append(measure(rgb, resolution=resolution, masks=retinal.read_masks(masks[number])))
        else:
            results.append(measure(rgb, resolution=resolution))
    columns = {name: pd.Series([r.get(name) for r in results], dtype=kind) for name, kind in measures.items()}
    write_parquet(to, pd.DataFrame({"image_id": rows["image_id"], **columns}))
    return {"images": len(results), "bad": len(unread), "first": unread[0] if unread else None}


def _modality(name: str) -> tuple[dict[str, str], Callable[..., dict[str, Any]]]:
    """Import a modality: one that ships, or one that an installed package names among its entry points."""
    if name in MODALITIES:
        module = importlib.import_module(MODALITIES[name])
        return module.MEASURES, module.measure_image
    from importlib.metadata import entry_points

    plugins = {found.name: found for found in entry_points(group=ENTRY_POINTS)}
    if name not in plugins:
        raise UserError(f"--modality {name}: unknown{nearest(name, [*MODALITIES, *plugins])}")
    try:
        module = plugins[name].load()
        measures, measure = dict(module.MEASURES), module.measure_image
    except (ImportError, AttributeError) as error:
        raise UserError(f"--modality {name}: {plugins[name].value} can't be used: {error}") from error
    if measures.get("state") != "string":
        raise UserError(f"--modality {name}: MEASURES of {plugins[name].value} must have a column 'state' of type 'string'")
    return measures, measure


def read_image(path: str, *, at_least: int, size: tuple[int, int]) -> np.ndarray | None:
    """Read an image as 8-bit RGB; 16-bit ones are scaled by their own maximum.

    Args:
        path: the file.
        at_least: pixels of the shorter side that are needed: a JPEG that is larger by a power of two is decoded
            at that fraction, which is several times faster.
        size: its width and height in pixels, from the cohort.

    Returns:
        (H, W, 3) uint8, upright; None where the file is missing, damaged or cut short.
    """
    import cv2
    import numpy as np

    try:
        data = np.fromfile(path, dtype=np.uint8)
    except OSError:
        return None
    # The decoder fills the missing end of a JPEG with grey and says nothing: look for the end itself.
    if len(data) < 4 or (data[:2].tobytes() == b"\xff\xd8" and b"\xff\xd9" not in data[-65536:].tobytes()):
        return None
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH
    for factor, flag in ((4, cv2.IMREAD_REDUCED_COLOR_4), (2, cv2.IMREAD_REDUCED_COLOR_2)):
        if data[:2].tobytes() == b"\xff\xd8" and min(size) >= factor * at_least:
            flags = flag
            break
    try:
        image = cv2.imdecode(data, flags)
    except cv2.error:
        return None
    if image is None or image.ndim != 3:
        return None
    if image.dtype != np.uint8:
        values = np.nan_to_num(image.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)
        top = float(values.max())
        image = np.clip(values * (255.0 / top), 0, 255).astype(np.uint8) if top > 0 else np.zeros(image.shape, np.uint8)
    return np.ascontiguousarray(image[:, :, ::-1])


def _summary(table: pd.DataFrame) -> dict[str, Any]:
    import pandas as pd

    def counts(column: str) -> dict[str, int]:
        return {str(k): int(v) for k, v in table[column].value_counts().sort_index().items()}

    numbers = [c for c in table.columns if pd.api.types.is_float_dtype(table[c])]
    medians = {c: None if table[c].isna().all() else float(table[c].median()) for c in numbers}
    return {
        "images": len(table),
        "states": counts("state"),
        **({"quality": counts("quality")} if "quality" in table.columns else {}),
        "medians": medians,
    }
