"""Measures without photographs: people of the phantom archive, whose age drives the measures while sex and ethnicity don't."""

from __future__ import annotations

from functools import cache

import numpy as np
import pandas as pd

from curate.phantom.people import draw_photos, make_sites


@cache
def _photos(patients: int, seed: int) -> pd.DataFrame:
    rows = []
    first = 1
    for site in make_sites(2, seed):
        for patient in range(first, first + patients // 2):
            rows += [vars(photo) for photo in draw_photos(site, patient, seed)]
        first += patients // 2
    return pd.DataFrame(rows)


def people_and_measures(patients: int, seed: int, *, confounding: float | None = None, effect: float = 0.35) -> pd.DataFrame:
    """Draw photographs and eight measures of each.

    Args:
        patients: over two sites.
        seed: of everything.
        confounding: None leaves ethnicity as each site has it; a number draws it anew, Asian or White, so that its latent normal
            variable correlates with that of age by as much.
        effect: deviations of a measure that age's own deviation shifts it by; half of the measures bend, as an eye does that changes
            faster after 60.

    Returns:
        The cohort's columns and m0 ... m7.
    """
    rng = np.random.default_rng([seed, 7])
    photos = _photos(patients, seed)
    table = pd.DataFrame(
        {
            "image_id": [f"im{i:06d}" for i in range(len(photos))],
            "patient_id": photos["patient"].map("{:06d}".format),
            "age": np.floor(photos["age"]),
            "sex": photos["sex"],
            "ethnicity": photos["ethnicity"],
            "site": photos["site"],
            "device": photos["device"],
        }
    )
    if confounding is not None:
        age = photos.groupby("patient")["first_age"].first()
        latent = confounding * (age - age.mean()) / age.std() + np.sqrt(1 - confounding**2) * rng.standard_normal(len(age))
        table["ethnicity"] = photos["patient"].map(latent > 0).map({True: "White", False: "Asian"})
    people = photos["patient"].to_numpy() - 1
    straight = ((photos["age"] - 58) / 18).to_numpy()
    bent = np.maximum(photos["age"].to_numpy() - 60, 0) / 12
    for m in range(8):
        own = rng.standard_normal(patients)[people]
        table[f"m{m}"] = effect * (straight if m % 2 else bent) + 0.7 * own + 0.6 * rng.standard_normal(len(table))
    return table
