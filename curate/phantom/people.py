"""The people of a phantom archive: hospitals, who comes to them, their visits and their retinopathy.

Age is what differs between the first two hospitals, as between the two archives of Zhou et al. (2025): means of 69 and
47 years. Nothing here but age reaches the vessels; sex and ethnicity reach nothing in the picture.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np

from curate.phantom.devices import DEVICES

YOUNGEST, OLDEST = 18.0, 95.0
BOTH_EYES = 0.88  # share of people of whom both eyes were photographed
TWO_VISITS = 0.22
FIRST_DAY, DAYS = date(2012, 1, 1), 8 * 365
# Latent severity of retinopathy (standard normal at age 58) above which a grade begins.
GRADE_BEGINS = (0.15, 0.60, 1.10, 1.58)
AGE_ON_SEVERITY = 0.011  # a year
YEARS_ON_SEVERITY = 0.12  # a year between visits


@dataclass(frozen=True)
class Site:
    """A hospital.

    Attributes:
        name: invented.
        age: mean and standard deviation of age in years, before ages are kept within 18 to 95.
        female: share of women.
        ethnicity: value -> share; the rest is not recorded.
        devices: camera -> share.
    """

    name: str
    age: tuple[float, float]
    female: float
    ethnicity: dict[str, float]
    devices: dict[str, float]


NORTHGATE = Site(
    "Northgate Eye Hospital",
    (70.1, 14.0),
    0.53,
    {"White": 0.55, "Asian": 0.16, "Black": 0.11, "Other": 0.05, "Mixed": 0.03},
    {"Kestrel RX-2": 0.50, "Aurion NM-45": 0.30, "Visiona C8": 0.20},
)
PUJIANG = Site(
    "Pujiang Eye Centre",
    (45.9, 15.0),
    0.55,
    {"Asian": 0.96, "Other": 0.01},
    {"Lumora 3D-1": 0.45, "Optavue F200": 0.35, "Aurion NM-45": 0.20},
)
_FURTHER = (
    "Harbour Street Clinic", "Riverside University Hospital", "St Alban Infirmary", "Lakeside Screening Centre",
    "Hillcrest Medical Centre", "Westmoor General Hospital", "Marienfeld Clinic", "Southbank Eye Unit",
)  # fmt: skip


@dataclass(frozen=True)
class Photo:
    """One photograph in the manifest, as it truly is.

    Attributes:
        patient: number of the patient, from 1.
        site: the hospital.
        left: whether it shows a left eye.
        visit: 1 or 2.
        day: of the visit.
        age: years, exact.
        first_age: at the first visit: the eye's anatomy is drawn for it and stays.
        sex: "female", "male" or None where not recorded.
        ethnicity: as recorded, or None.
        device: name of the camera.
        grade: of diabetic retinopathy, 0 to 4.
    """

    patient: int
    site: str
    left: bool
    visit: int
    day: date
    age: float
    first_age: float
    sex: str | None
    ethnicity: str | None
    device: str
    grade: int


def random_numbers(seed: int, patient: int, *stream: int) -> np.random.Generator:
    """Give the random numbers of one purpose for one patient, whoever asks and in whatever order.

    Args:
        seed: the archive's.
        patient: the patient's number.
        stream: the purpose, as whole numbers: 0 the person's life; 1 the person's anatomy; 2, eye the eye's anatomy;
            3, eye, visit the photograph; 4, eye the lesions.
    """
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(entropy=seed, spawn_key=(patient, *stream))))


def make_sites(count: int, seed: int) -> list[Site]:
    """Make the hospitals: the two of the study's contrast, then others in between.

    Args:
        count: how many, from 1.
        seed: the archive's.
    """
    sites = [NORTHGATE, PUJIANG]
    for number in range(2, count):
        rng = random_numbers(seed, 0, number)
        name = _FURTHER[(number - 2) % len(_FURTHER)]
        round_ = (number - 2) // len(_FURTHER)
        mix = float(rng.uniform(0.1, 0.9))
        blend = {k: round((1 - mix) * NORTHGATE.ethnicity.get(k, 0) + mix * PUJIANG.ethnicity.get(k, 0), 4) for k in NORTHGATE.ethnicity}
        names = sorted(str(d) for d in rng.choice(sorted(DEVICES), int(rng.integers(2, 4)), replace=False))
        sites.append(
            Site(
                name if not round_ else f"{name} {round_ + 1}",
                (float(rng.uniform(49, 67)), float(rng.uniform(13, 16))),
                float(rng.uniform(0.47, 0.58)),
                blend,
                {device: 1 / len(names) for device in names},
            )
        )
    return sites[:count]


def patients_of_sites(patients: int, sites: int) -> list[int]:
    """Share patients out over sites as evenly as whole numbers allow, the first sites first."""
    return [patients // sites + (site < patients % sites) for site in range(sites)]


def patient_id(patient: int) -> str:
    """Give a patient's hospital number, six digits with leading zeros.

    Example:
        >>> patient_id(123)
        '000123'
    """
    return f"{patient:06d}"


def draw_photos(site: Site, patient: int, seed: int) -> list[Photo]:
    """Draw a patient and the photographs taken of them.

    Args:
        site: their hospital.
        patient: their number.
        seed: the archive's.

    Returns:
        One entry a photograph, by visit, then right before left.
    """
    rng = random_numbers(seed, patient, 0)
    age = _age(site, rng)
    sex = None if rng.random() < 0.01 else ("female" if rng.random() < site.female else "male")
    ethnicity = _one_of(site.ethnicity, rng)
    both, which = rng.random() < BOTH_EYES, rng.random() < 0.5
    eyes = [False, True] if both else [which]
    days = [FIRST_DAY + timedelta(days=int(rng.integers(DAYS)))]
    gap = int(rng.integers(250, 1300))
    if rng.random() < TWO_VISITS:
        days.append(days[0] + timedelta(days=gap))
    severity = 0.88 * rng.standard_normal() + AGE_ON_SEVERITY * (age - 58)
    own = 0.475 * rng.standard_normal(2)
    first = _one_of(site.devices, rng) or next(iter(site.devices))
    later = (_one_of(site.devices, rng) or first) if rng.random() < 0.4 else first
    photos = []
    for visit, day in enumerate(days, 1):
        years = (day - days[0]).days / 365.25
        for left in eyes:
            latent = severity + own[int(left)] + YEARS_ON_SEVERITY * years
            grade = int(np.searchsorted(GRADE_BEGINS, latent))
            device = first if visit == 1 else later
            photos.append(Photo(patient, site.name, left, visit, day, age + years, age, sex, ethnicity, device, grade))
    return photos


def _age(site: Site, rng: np.random.Generator) -> float:
    """Draw an age from the normal distribution cut at `YOUNGEST` and `OLDEST` (by its inverse: one draw a person)."""
    from scipy.special import ndtr, ndtri

    mean, deviation = site.age
    low, high = ndtr((YOUNGEST - mean) / deviation), ndtr((OLDEST - mean) / deviation)
    return float(mean + deviation * ndtri(low + (high - low) * rng.random()))


def _one_of(shares: dict[str, float], rng: np.random.Generator) -> str | None:
    """Draw one of the names by their shares; None with what the shares leave of 1."""
    draw, total = rng.random(), 0.0
    for name, share in shares.items():
        total += share
        if draw < total:
            return name
    return None
