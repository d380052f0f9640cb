"""The anatomy of a phantom eye: optic disc, fovea and the parameters of its vessels.

Coordinates are those of a right eye photographed with a 45 degree field: the field of view is the unit disc around
the origin, x runs to the nasal side (right), y down. A left eye is drawn mirrored. 0.14 units are about the radius of
an optic disc, 0.72 units the distance from disc to fovea (1.8 mm and 4.7 mm at 13 mm across the field).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from curate.phantom.vessels import Vessel, VesselTraits, grow_vessels

# What age does to the vessels, per year from 50. Nothing else known about a person enters here: sex and ethnicity
# must change nothing, so that an analysis which finds them to matter is known to be wrong.
AGE_ON_BRANCHING = -0.0050  # log of the branches per length
AGE_ON_THINNEST = 0.0050  # log of the calibre below which vessels are lost
AGE_ON_CALIBRE = -0.0016  # log of all calibres
AGE_ON_TORTUOSITY = 0.0120  # log of the amplitude of meandering


@dataclass(frozen=True)
class Anatomy:
    """One eye, as far as a photograph shows it.

    Attributes:
        disc: centre of the optic disc, (x, y).
        disc_axes: its half axes, horizontal and vertical.
        cup_ratio: cup-to-disc ratio.
        fovea: (x, y).
        traits: the parameters of the vessel trees.
        vessels: the trees, thinnest vessel first.
        pigment: darkness of the fundus about 0, in standard deviations; independent of ethnicity.
        choroid: how far choroidal vessels show through, 0 to 1.
        atrophy: strength of the crescent beside the disc, 0 to 1.
        sheen: strength of the bright reflexes of a young retina, 0 to 1.
    """

    disc: tuple[float, float]
    disc_axes: tuple[float, float]
    cup_ratio: float
    fovea: tuple[float, float]
    traits: VesselTraits
    vessels: tuple[Vessel, ...]
    pigment: float
    choroid: float
    atrophy: float
    sheen: float


def draw_traits(age: float, person: np.random.Generator, eye: np.random.Generator) -> VesselTraits:
    """Draw the parameters of an eye's vessel trees.

    Args:
        age: years.
        person: random numbers shared by both eyes of a person: most of the variation between people.
        eye: the eye's own.
    """
    years = age - 50.0
    shared, own = person.standard_normal(5), eye.standard_normal(5)
    return VesselTraits(
        branching=float(np.exp(AGE_ON_BRANCHING * years + 0.10 * shared[0] + 0.05 * own[0])),
        thinnest=float(0.0021 * np.exp(AGE_ON_THINNEST * years + 0.06 * shared[1] + 0.03 * own[1])),
        calibre=float(np.exp(AGE_ON_CALIBRE * years + 0.05 * shared[2] + 0.025 * own[2])),
        tortuosity=float(np.exp(AGE_ON_TORTUOSITY * years + 0.22 * shared[3] + 0.10 * own[3])),
        arcade=float(1.0 + 0.05 * shared[4] + 0.03 * own[4]),
    )


def draw_anatomy(age: float, person: np.random.Generator, eye: np.random.Generator) -> Anatomy:
    """Draw an eye.

    The same generators in the same state give the same eye; a later visit differs by age alone.

    Args:
        age: years.
        person: random numbers shared by both eyes of a person.
        eye: the eye's own.
    """
    traits = draw_traits(age, person, eye)
    shared, own = person.standard_normal(6), eye.standard_normal(6)
    disc = (0.615 + 0.03 * shared[0] + 0.015 * own[0], -0.045 + 0.03 * own[1])
    height = 0.142 * float(np.exp(0.07 * shared[1] + 0.03 * own[2]))
    axes = (height * float(np.clip(0.90 + 0.04 * shared[2], 0.8, 0.99)), height)
    fovea = (disc[0] - 0.71 + 0.02 * own[3], disc[1] + 0.085 + 0.02 * own[4])
    cup = float(np.clip(0.40 + 0.0008 * (age - 50) + 0.10 * shared[3] + 0.03 * own[5], 0.15, 0.8))
    pigment, choroid = float(shared[4]), float(np.clip(0.25 + 0.007 * (age - 50) + 0.22 * shared[5], 0.0, 1.0))
    atrophy = float(np.clip(0.2 + 0.010 * (age - 50) + 0.25 * person.standard_normal(), 0.0, 1.0))
    sheen = float(np.clip((42.0 - age) / 25.0 + 0.15 * person.standard_normal(), 0.0, 1.0))
    vessels = grow_vessels(traits, disc, fovea, eye)
    return Anatomy(disc, axes, cup, fovea, traits, vessels, pigment, choroid, atrophy, sheen)
