"""Which patches of the student's global crops are hidden: blocks, as in BEiT (Bao et al. 2022) and DINOv2 (Oquab et al. 2024)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_SMALLEST = 4.0  # patches of a block
_ASPECT = (0.3, 1 / 0.3)  # height / width of a block
_TRIES = 10  # draws of a block before the mask is left as it is


def deal_ratios(samples: int, rng: np.random.Generator, *, share: float, ratios: tuple[float, float]) -> list[tuple[float, float]]:
    """Share out the mask ratios over the two global crops of every sample of a batch.

    A fixed number of the 2 x samples crops is masked. The range of ratios is cut into as many bins of one width, each
    masked crop draws from a bin of its own, and the whole is shuffled: the patches hidden in a batch are nearly
    the same number from batch to batch.

    Args:
        samples: of the global batch.
        rng: source of the draws.
        share: of the crops that is masked, 0 to 1; the number is rounded down.
        ratios: smallest and largest share of a masked crop's patches.

    Returns:
        For each sample the ratios of its first and second global crop, 0 for one that is not masked.

    Example:
        >>> dealt = deal_ratios(4, np.random.default_rng(0), share=0.5, ratios=(0.1, 0.5))
        >>> sorted(ratio for pair in dealt for ratio in pair if ratio) [0] < 0.2
        True
        >>> sum(ratio > 0 for pair in dealt for ratio in pair)
        4
    """
    masked = int(2 * samples * share + 1e-9)
    edges = np.linspace(*ratios, masked + 1)
    dealt = np.zeros(2 * samples)
    dealt[:masked] = rng.uniform(edges[:-1], edges[1:])
    rng.shuffle(dealt)
    return [(first, second) for first, second in dealt.reshape(samples, 2).tolist()]


def block_mask(grid: tuple[int, int], target: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Hide rectangular blocks of patches until about `target` of them are hidden, never more.

    A block has an area of 4 patches to what is still to be hidden, drawn evenly, and an aspect of 0.3 to 1 / 0.3, drawn
    evenly in its logarithm; its sides are rounded, and shorter than the grid's. Blocks may overlap. One that does not
    fit, or would add nothing or too much, is drawn again; after ten such draws in a row the mask is left as it is,
    so it may fall short by a few patches.

    Args:
        grid: rows and columns of patches.
        target: patches to hide; 0 hides none.
        rng: source of the draws.

    Returns:
        bool [rows * columns], row by row, True where hidden.
    """
    mask = np.zeros(grid, dtype=bool)
    left = target
    while left > 0:
        for draws in rng.random((_TRIES, 4)).tolist():
            top, start, height, width = draw_block(grid, left, draws)
            block = mask[top : top + height, start : start + width]
            new = block.size - int(np.count_nonzero(block))
            if 0 < new <= left:
                block[:] = True
                left -= new
                break
        else:
            break
    return mask.reshape(-1)


def draw_block(grid: tuple[int, int], largest: float, draws: Sequence[float]) -> tuple[int, int, int, int]:
    """Turn four numbers from 0 to 1 into a block of patches.

    Args:
        grid: rows and columns of patches.
        largest: area; with less than 4, the area lies between it and 4.
        draws: for area, aspect, row and column.

    Returns:
        First row, first column, rows, columns; the last two are 0 where the block isn't smaller than the grid both ways.
    """
    rows, columns = grid
    low, high = math.log(_ASPECT[0]), math.log(_ASPECT[1])
    size, shape, down, along = draws
    area = _SMALLEST + size * (largest - _SMALLEST)
    aspect = math.exp(low + shape * (high - low))
    height, width = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
    if height >= rows or width >= columns:
        return 0, 0, 0, 0
    return int(down * (rows - height + 1)), int(along * (columns - width + 1)), height, width
