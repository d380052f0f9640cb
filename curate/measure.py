"""curate measure: one row of measures for every image of a cohort.

Work is cut into parts of at most 128 images in the order of their ids; each writes its own table, so killing the command
costs at most the parts that were under way. ``measurements.json`` is written last: it says complete.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curate import console
from curate.artefacts import begin, discard, provenance, read_json, same_or_refuse, write_json, write_parquet
from curate.cohort import Cohort, read_cohort
from curate.errors import UserError, nearest
from curate.imported import add_imports, import_tables, join_ledgers
from curate.modalities import load_modality
from curate.parts import run_parts, slices

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from curate.imported import Imported
    from curate.retina.network import Network

UNREADABLE = "unreadable"
NOT_IMPORTED = "not in the tables"
DEFAULT_RESOLUTION = 512
_PART, _LEAST = 128, 16  # images of a part, at most and at least
_PARTS = 64  # that even a small cohort is cut into, so that workers end at about the same time


def measure_cohort(
    cohort: Path,
    *,
    modality: str | None = None,
    resolution: int | None = None,
    masks: Path | None = None,
    compatible: str | None = None,
    models: Sequence[Path] = (),
    imports: Mapping[str, Path] | None = None,
    workers: int = 0,
    max_bad: float = 0.01,
) -> dict[str, Any]:
    """Measure every image of a cohort into ``measurements.parquet`` and ``measurements.json``.

    Args:
        cohort: the cohort folder.
        modality: what is measured, see `curate.modalities`; None is the retina.
        resolution: pixels to which the field of view (retina) or the longer side (generic) is brought; None is
            `DEFAULT_RESOLUTION`, or the one that `compatible` needs.
        masks: a folder of what is known of the photographs (see `curate.retina.masks`): arteries and veins, the disc's
            zones and the calibres are measured too. Images without masks go without these.
        compatible: whose definitions hold, see `curate.retina.compatible`; None: our own.
        models: YAML files that describe networks (see `curate.retina.network`): what they mark is measured as a mask is, where
            `masks` has none of that kind.
        imports: tool, or profile of a tool -> file or folder: its tables are brought in (see `curate.imported`). The photographs
            are then measured only where one of the arguments before says how; an imported column takes the place of ours.
        workers: processes; 0 is one a core. Never changes the result.
        max_bad: share of images that may be unreadable.

    Returns:
        What ``measurements.json`` holds: ``made_by``; ``images``; ``states`` and, where it is graded, ``quality``:
        value -> number of images; ``of_the_photograph``: measures that say how an image was taken and not what it shows;
        ``masks``, where given: kind -> number of images that have one; ``medians``: measure -> median over the images that
        have it, or None; ``imports``, where there are any: what became of each tool's rows. Values of theirs that became
        missing stand in ``measurements_ledger.parquet``: image_id, tool, file, row, column, before, after, rule.

    Raises:
        UserError: where there is no such cohort or modality, its images are gone or too many can't be read, the
            cohort was measured with another specification, `compatible` is unknown or doesn't go with the modality or the
            resolution, a model isn't what its file says, or a table can't be imported.
    """
    source = read_cohort(cohort)
    if not len(source.table):
        raise UserError(f"{cohort}: the cohort has no image: there is nothing to measure")
    imported = _import(imports or {}, source)
    measured = not imported or bool(models) or any(asked is not None for asked in (modality, resolution, masks, compatible))
    modality = modality or "retina"
    of_the_photograph = load_modality(modality).of_the_photograph if measured else ()
    resolution = _resolution(resolution, modality, compatible)
    if resolution < 128:
        raise UserError(f"--resolution {resolution}: at least 128 pixels are needed")
    inputs = {"cohort.parquet": source.digest}
    networks = _read_networks(modality, models)
    specification: dict[str, Any] = {"modality": modality, "resolution": resolution, "compatible": compatible}
    if not measured:
        specification |= {"modality": None, "resolution": None}
    if networks:
        specification["models"] = [network.specification() for network in networks]
        inputs |= {f"model {network.segments}": network.sha256.lower() for network in networks}
    if imported:
        theirs = next((found.compatible for found in imported if found.compatible is not None), None)
        specification |= {"imports": [found.profile.title for found in imported], "compatible": compatible or theirs}
        inputs |= {name: digest for found in imported for name, digest in found.inputs.items()}
    files: list[dict[str, Path]] | None = None
    if masks is not None:
        files = _find_masks(modality, masks, source)
        inputs["masks"] = _listing(masks, files)
    made_by = provenance(specification, inputs)
    table_file, about_file = cohort / "measurements.parquet", cohort / "measurements.json"
    ledger_file = cohort / "measurements_ledger.parquet"
    if about_file.exists():
        there = read_json(about_file, "a table of measures")
        same_or_refuse(about_file, there.get("made_by", {}), made_by, advice="remove it to measure again")
        if table_file.exists():
            discard(cohort / "measurements")
            return there
        about_file.unlink(missing_ok=True)  # says complete of a table that is gone
    if measured:
        if not source.images.is_dir():
            raise UserError(f"{source.images}: the cohort's image folder is missing; put it back, or ingest again with --images")
        table = _measure(source, _Ways(modality, resolution, compatible, networks), files, workers, made_by, max_bad)
    else:
        table = _states(source, imported)
    table = add_imports(table, imported)
    if imported:
        write_parquet(ledger_file, join_ledgers(imported))
    else:
        ledger_file.unlink(missing_ok=True)  # of a table that is replaced
    write_parquet(table_file, table)
    about = {"made_by": made_by, **_summary(table), "of_the_photograph": [c for c in of_the_photograph if c in table.columns]}
    if imported:
        about["imports"] = [found.about for found in imported]
    if files is not None:
        about["masks"] = {kind: sum(kind in f for f in files) for kind in sorted({kind for f in files for kind in f})}
    for left_over in cohort.glob(".measurements*.tmp"):  # of a process that was killed here
        left_over.unlink(missing_ok=True)
    write_json(about_file, about)
    discard(cohort / "measurements")
    return about


def _resolution(asked: int | None, modality: str, compatible: str | None) -> int:
    """Give the resolution at which to measure, where what is asked for goes together."""
    if compatible is None:
        return DEFAULT_RESOLUTION if asked is None else asked
    if modality != "retina":
        raise UserError(f"--compatible {compatible}: is for --modality retina; leave it out for {modality}")
    from curate.retina.compatible import COMPATIBLE, RESOLUTION

    if compatible not in COMPATIBLE:
        raise UserError(f"--compatible {compatible}: unknown{nearest(compatible, COMPATIBLE)}")
    if asked not in (None, RESOLUTION):
        raise UserError(f"--resolution {asked}: --compatible {compatible} measures at {RESOLUTION} pixels; leave --resolution out")
    return RESOLUTION


def _import(imports: Mapping[str, Path], source: Cohort) -> list[Imported]:
    found = [import_tables(tool, place, source.table) for tool, place in imports.items()]
    titles = [one.profile.title for one in found]
    if twice := [title for title in titles if titles.count(title) > 1]:
        raise UserError(f"--import: two profiles are called {twice[0]}; give one")
    return found


def _states(source: Cohort, imported: Sequence[Imported]) -> pd.DataFrame:
    """Make a table that says of each image whether it was imported, for measures that nobody has taken here."""
    import pandas as pd

    ids = source.table["image_id"].sort_values(kind="stable").reset_index(drop=True)
    there = pd.concat([ids.isin(found.table.index) for found in imported], axis=1).any(axis=1)
    return pd.DataFrame({"image_id": ids, "state": pd.Series("ok", index=ids.index, dtype="string").where(there, NOT_IMPORTED)})


def _read_networks(modality: str, models: Sequence[Path]) -> tuple[Network, ...]:
    if not models:
        return ()
    if modality != "retina":
        raise UserError(f"--model {models[0]}: models are for --modality retina; leave it out for {modality}")
    from curate.retina.network import read_networks

    return read_networks(models)


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


@dataclass(frozen=True)
class _Ways:
    """How photographs are measured; see `measure_cohort`."""

    modality: str
    resolution: int
    compatible: str | None
    networks: tuple[Network, ...]


def _measure(
    source: Cohort,
    ways: _Ways,
    masks: list[dict[str, Path]] | None,
    workers: int,
    made_by: dict[str, Any],
    max_bad: float,
) -> pd.DataFrame:
    import pandas as pd

    if ways.networks:
        from curate.retina.network import try_networks

        try_networks(ways.networks)
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
                ways,
                None if masks is None else masks[start:stop],
                partial / f"images-{number:06d}.parquet",
            ),
        )
        for number, (start, stop) in enumerate(slices(len(rows), max(_LEAST, min(_PART, len(rows) // _PARTS))))
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


def _measure_part(images: str, rows: pd.DataFrame, ways: _Ways, masks: list[dict[str, Path]] | None, to: Path) -> dict[str, Any]:
    import cv2
    import pandas as pd

    cv2.setNumThreads(1)
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # what can't be read is counted, not printed in its terms
    kind = load_modality(ways.modality)
    measures = kind.measures
    if masks is not None or ways.networks:
        from curate.retina import masks as retinal
        from curate.retina import network

        measures = measures | retinal.MEASURES
    resolution, networks = ways.resolution, ways.networks
    options: dict[str, Any] = {"resolution": resolution} | ({"compatible": ways.compatible} if ways.compatible is not None else {})
    results: list[dict[str, Any]] = []
    unread: list[str] = []
    finest = max((max(described.input.shape) for described in networks), default=0)
    for number, (path, width, height) in enumerate(zip(rows["path"], rows["width"], rows["height"], strict=True)):
        rgb = read_image(os.path.join(images, path), at_least=2 * resolution, size=(int(width), int(height)))
        if rgb is None:
            unread.append(path)
            results.append({"state": UNREADABLE})
        elif masks is not None or networks:
            drawn = retinal.Masks() if masks is None else retinal.read_masks(masks[number])
            if networks:
                closer = None
                if finest > 2 * resolution:  # the network sees more than the measures need
                    closer = read_image(os.path.join(images, path), at_least=finest, size=(int(width), int(height)))
                drawn = network.add_masks(drawn, rgb if closer is None else closer, networks)
            results.append(kind.row(path, rgb, **options, masks=drawn))
        else:
            results.append(kind.row(path, rgb, **options))
    columns = {}
    for name, dtype in measures.items():
        try:
            columns[name] = pd.Series([r.get(name) for r in results], dtype=dtype)
        except (TypeError, ValueError) as error:
            raise UserError(f"--modality {ways.modality}: '{name}' was measured as something that is no {dtype}: {error}") from error
    write_parquet(to, pd.DataFrame({"image_id": rows["image_id"], **columns}))
    return {"images": len(results), "bad": len(unread), "first": unread[0] if unread else None}


def read_image(path: str, *, at_least: int, size: tuple[int, int]) -> np.ndarray | None:
    """Read an image as 8-bit RGB; 16-bit ones are scaled by their own maximum.

    Args:
        path: the file.
        at_least: pixels of the shorter side that are needed: a JPEG that is larger by a power of two is decoded
            at that fraction, which is several times faster.
        size: its width and height in pixels, from the cohort.

    Returns:
        (H, W, 3) uint8, upright, the first of several pages; None where the file is missing, damaged or cut short, or
        holds values that are not numbers.
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
        image = None
    if image is None or image.ndim != 3:
        return _read_with_pillow(path)
    if image.dtype != np.uint8:
        values = image.astype(np.float64)
        if not np.isfinite(values).all():
            return None  # a hole in the image: black in its place would be made up
        top = float(values.max())
        image = np.clip(values * (255.0 / top), 0, 255).astype(np.uint8) if top > 0 else np.zeros(image.shape, np.uint8)
    return np.ascontiguousarray(image[:, :, ::-1])


def _read_with_pillow(path: str) -> np.ndarray | None:
    """Read what OpenCV can't, as a grey TIFF of floating-point numbers: what ingest could read can be measured."""
    import numpy as np
    from PIL import Image, ImageOps

    from curate.photographs import to_eight_bits

    try:
        with Image.open(path) as image:
            return np.array(ImageOps.exif_transpose(to_eight_bits(image)).convert("RGB"))
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError):
        return None


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
