"""``curate simulate``: writes a phantom archive with its manifest, its task and the truth about it."""

from __future__ import annotations

import os
import shutil
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from curate.artefacts import begin, drop, finish, provenance, read_json, write_json, write_parquet, writing
from curate.errors import UserError
from curate.parts import run_parts, slices
from curate.phantom.anatomy import Anatomy, draw_anatomy
from curate.phantom.devices import DEVICES
from curate.phantom.dirt import COLUMNS, KEPT_OF_TRUNCATED, Soiled, sow_faults
from curate.phantom.lesions import draw_lesions
from curate.phantom.people import Photo, Site, draw_photos, make_sites, patient_id, patients_of_sites, random_numbers
from curate.phantom.render import draw_exposure, photograph
from curate.phantom.truth import encode_artery_vein, encode_jpeg, encode_mask, measure_vessels
from curate.phantom.view import View, disc_mask, draw_vessels, field_of_view

SMALLEST, LARGEST = 256, 1024  # pixels
PATIENTS_A_PART = 24
MASKS = ("vessels", "artery_vein", "disc")
MANIFEST = ("image_file", "patient_id", "eye", "exam_date", "age", "sex", "ethnicity", "camera", "hospital", "dr_grade")
TASK = """\
name: dr-grade
title: Grade of diabetic retinopathy
label: dr_grade
classes:
  none: [0]
  mild: [1]
  moderate: [2]
  severe: [3]
  proliferative: [4]
split: {test: holdout, val: 0.2}
subgroups: [age, sex, ethnicity]
bins: {age: [40, 70]}
"""


def simulate_archive(
    out: Path, *, sites: int = 2, patients: int = 600, size: int = 256, seed: int = 0, dirt: bool = False, workers: int = 0
) -> dict[str, Any]:
    """Write a phantom retinal archive.

    ``manifest.csv`` and ``images/`` are what a hospital would hand over; ``task.yaml`` asks for the grade of
    retinopathy; ``truth/`` holds what is known of each photograph: ``truth.parquet`` (one row an image: the person,
    the parameters drawn, what is in the picture), masks of vessels (``vessels/``), of arteries, veins and their
    crossings in red, blue and green (``artery_vein/``) and of the optic disc (``disc/``), and under `dirt` every
    fault (``dirt.csv``). New vessels of proliferative retinopathy are lesions: they are not in the vessel masks.

    Args:
        out: the archive's folder.
        sites: hospitals; the first two differ in age as London and Shanghai do in Zhou et al. (2025).
        patients: over all sites.
        size: width and height of the images in pixels, 256 to 1024.
        seed: of every random choice.
        dirt: whether to sow the faults of real archives.
        workers: processes; 0 is one a core. Never changes the result.

    Returns:
        Counts: images (rows of the manifest), patients (true people), sites, faults; images and patients by hospital.

    Raises:
        UserError: where an argument is out of range, or `out` holds something else.
    """
    _check(sites, patients, size, seed)
    specification = {"sites": sites, "patients": patients, "size": size, "dirt": dirt}
    made_by = provenance(specification, {}, seed)
    folder = begin(out, "simulation.json", made_by)
    if folder is None:
        return dict(read_json(out / "simulation.json", "a phantom archive")["counts"])
    for name in ("images", *(f"truth/{mask}" for mask in MASKS)):
        (folder / name).mkdir(parents=True, exist_ok=True)
    hospitals = make_sites(sites, seed)
    parts = _parts(folder, hospitals, patients, size, seed)
    results = run_parts(_simulate_part, parts, markers=folder / "parts", workers=workers, label="drawing photographs", unit="patients")
    truth = pd.DataFrame([row for result in results for row in result["rows"]])
    write_parquet(folder / "truth" / "truth.parquet", truth)
    manifest = _manifest(truth)
    faults = 0
    if dirt:
        soiled = sow_faults(manifest, random_numbers(seed, 0, 0))
        _apply(soiled, folder)
        manifest, faults = soiled.manifest, len(soiled.faults)
        _write_csv(folder / "truth" / "dirt.csv", pd.DataFrame(soiled.faults, columns=list(COLUMNS)))
    _write_csv(folder / "manifest.csv", manifest)
    with writing(folder / "task.yaml", "w") as file:
        file.write(TASK)
    by_site = {
        str(name): {"images": len(rows), "patients": int(rows["patient_id"].nunique())}
        for name, rows in truth.groupby("hospital", sort=False)
    }
    counts = {"images": len(manifest), "patients": patients, "sites": sites, "faults": faults, "hospitals": by_site}
    drop(folder / "parts")
    write_json(folder / "simulation.json", {"made_by": made_by, "counts": counts})
    finish(out)
    return counts


def _check(sites: int, patients: int, size: int, seed: int) -> None:
    if sites < 1:
        raise UserError(f"--sites {sites}: an archive needs at least one hospital")
    if patients < sites:
        raise UserError(f"--patients {patients}: fewer than the {sites} sites; give at least one patient a site")
    if not SMALLEST <= size <= LARGEST:
        raise UserError(f"--size {size}: expected {SMALLEST} to {LARGEST} pixels")
    if seed < 0:
        raise UserError(f"--seed {seed}: expected a whole number from 0")


def _parts(folder: Path, hospitals: list[Site], patients: int, size: int, seed: int) -> list[tuple[str, int, tuple[Any, ...]]]:
    """Cut the patients into parts, each within one hospital."""
    parts: list[tuple[str, int, tuple[Any, ...]]] = []
    first = 1
    for site, count in zip(hospitals, patients_of_sites(patients, len(hospitals)), strict=True):
        for start, stop in slices(count, PATIENTS_A_PART):
            parts.append((f"patients-{first + start:07d}", stop - start, (folder, site, first + start, first + stop, size, seed)))
        first += count
    return parts


def _simulate_part(folder: Path, site: Site, first: int, stop: int, size: int, seed: int) -> dict[str, Any]:
    """Draw the photographs of a run of patients; gives their rows of the truth."""
    import cv2

    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)  # one process a core is faster than threads over small images
    try:
        rows = []
        for patient in range(first, stop):
            for photo in draw_photos(site, patient, seed):
                files, row = simulate_photo(photo, size, seed)
                for name, data in files.items():
                    # Not synced file by file: an interrupted part is drawn again as a whole.
                    with writing(folder / name, durable=False) as file:
                        file.write(data)
                rows.append(row)
        return {"rows": rows}
    finally:
        cv2.setNumThreads(threads)


@lru_cache(maxsize=4)
def _anatomy(seed: int, patient: int, eye: int, age: float) -> Anatomy:
    """Give an eye's anatomy, kept for the patient's further visits."""
    return draw_anatomy(age, random_numbers(seed, patient, 1), random_numbers(seed, patient, 2, eye))


def simulate_photo(photo: Photo, size: int, seed: int) -> tuple[dict[str, bytes], dict[str, Any]]:
    """Draw one photograph with its masks.

    Args:
        photo: whose, when and with which camera.
        size: pixels.
        seed: the archive's.

    Returns:
        The files by their path in the archive, and the row of the truth.
    """
    eye = int(photo.left)
    anatomy = _anatomy(seed, photo.patient, eye, photo.first_age)
    rng = random_numbers(seed, photo.patient, 3, eye, photo.visit)
    device = DEVICES[photo.device]
    shift = (float(0.035 * rng.standard_normal()), float(0.03 * rng.standard_normal()))
    view = View(size, photo.left, shift, float(0.05 * rng.standard_normal()), device.magnification, device.flat)
    exposure = draw_exposure(photo.age, rng)
    lesions = draw_lesions(photo.grade, anatomy, random_numbers(seed, photo.patient, 4, eye))
    maps = draw_vessels(anatomy, view)
    picture = photograph(anatomy, lesions, maps, device, exposure, view, rng)
    field = field_of_view(size, view.flat) > 0.5
    stem = f"{patient_id(photo.patient)}_{'left' if photo.left else 'right'}_{photo.visit}"
    artery, vein = maps.artery & field, maps.vein & field
    files = {
        f"images/{stem}.jpg": encode_jpeg(picture),
        f"truth/vessels/{stem}.png": encode_mask(artery | vein),
        f"truth/artery_vein/{stem}.png": encode_artery_vein(artery, vein),
        f"truth/disc/{stem}.png": encode_mask(disc_mask(anatomy, view) & field),
    }
    row = {
        **_person(photo, f"{stem}.jpg"),
        **measure_vessels(maps, anatomy, view),
        **_parameters(anatomy, view),
        "haze": exposure.haze,
        "defocus": exposure.defocus,
        "brightness": exposure.brightness,
        **lesions.counts(),
    }
    return files, row


def _person(photo: Photo, file: str) -> dict[str, Any]:
    return {
        "image_file": file,
        "patient_id": patient_id(photo.patient),
        "eye": "left" if photo.left else "right",
        "visit": photo.visit,
        "exam_date": photo.day.isoformat(),
        "age": photo.age,
        "sex": photo.sex,
        "ethnicity": photo.ethnicity,
        "camera": photo.device,
        "hospital": photo.site,
        "dr_grade": photo.grade,
    }


def _parameters(anatomy: Anatomy, view: View) -> dict[str, Any]:
    """Give the anatomy's parameters; places and lengths in pixels of the photograph."""
    disc, fovea = view.pixels(np.array(anatomy.disc)), view.pixels(np.array(anatomy.fovea))
    traits = anatomy.traits
    return {
        "branching": traits.branching,
        "thinnest": traits.thinnest,
        "calibre": traits.calibre,
        "tortuosity": traits.tortuosity,
        "vessels": len(anatomy.vessels),
        "disc_x": float(disc[0]),
        "disc_y": float(disc[1]),
        "disc_width": 2 * anatomy.disc_axes[0] * view.scale,
        "disc_height": 2 * anatomy.disc_axes[1] * view.scale,
        "cup_to_disc": anatomy.cup_ratio,
        "fovea_x": float(fovea[0]),
        "fovea_y": float(fovea[1]),
        "pigment": anatomy.pigment,
        "choroid": anatomy.choroid,
    }


def _manifest(truth: pd.DataFrame) -> pd.DataFrame:
    """Give the manifest as a hospital has it: all text, completed years, "" where nothing is recorded."""
    manifest = truth[list(MANIFEST)].copy()
    manifest["age"] = np.floor(manifest["age"]).astype(int)
    return manifest.astype(object).where(manifest.notna(), "").astype(str)


def _apply(soiled: Soiled, folder: Path) -> None:
    """Damage, remove and copy images. What is damaged is set aside first, so that doing it again changes nothing."""
    aside = folder / "parts" / "originals"
    aside.mkdir(exist_ok=True)
    for file in [*soiled.truncated, *soiled.missing]:
        if not (aside / file).exists():
            os.replace(folder / "images" / file, aside / file)
    for file in soiled.truncated:
        data = (aside / file).read_bytes()
        (folder / "images" / file).write_bytes(data[: int(KEPT_OF_TRUNCATED * len(data))])
    for file, original in soiled.copies.items():
        shutil.copyfile(folder / "images" / original, folder / "images" / file)


def _write_csv(path: Path, table: pd.DataFrame) -> None:
    with writing(path, "w") as file:
        table.to_csv(file, index=False, lineterminator="\n")
