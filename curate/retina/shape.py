"""The shape of the vessels in one map, found or drawn: all measures of `curate.retina.morphology` by their column names."""

from __future__ import annotations

import cv2
import numpy as np

from curate.retina import morphology

FEWEST = 0.005  # share of the field: less marked than this is no vessel tree, and nothing is said about its shape
SHAPES = (
    "Fractal_dimension", "Vessel_density", "Average_width", "Distance_tortuosity", "Squared_curvature_tortuosity",
    "Tortuosity_density", "Branch_density", "Branching_angle",
)  # fmt: skip


def vessel_measures(marked: np.ndarray, mask: np.ndarray, skeleton: morphology.Skeleton | None = None) -> dict[str, float | str | None]:
    """Measure a vessel map.

    Args:
        marked: (R, R) uint8 of 0 and 1, 1 where vessel, in a normalised field.
        mask: (R, R) uint8, 1 where the photograph shows the field, or the zone of it that is meant.
        skeleton: of the map within the mask, where it is at hand.

    Returns:
        A value for each of `SHAPES`; empty where fewer than 0.5 % of the mask is marked.
    """
    density = morphology.vessel_density(marked, mask)
    if density < FEWEST:
        return {}
    resolution = marked.shape[0]
    skeleton = morphology.skeleton_of(marked) if skeleton is None else skeleton
    distance, squared, turns = morphology.tortuosities(skeleton.curves, resolution)
    return {
        "Fractal_dimension": morphology.fractal_dimension(cv2.copyTo(marked, mask)),
        "Vessel_density": density,
        "Average_width": morphology.average_width(marked, skeleton),
        "Distance_tortuosity": distance,
        "Squared_curvature_tortuosity": squared,
        "Tortuosity_density": turns,
        "Branch_density": morphology.branch_density(skeleton, resolution),
        "Branching_angle": morphology.branching_angle(skeleton, resolution),
    }
