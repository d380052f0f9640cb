"""Counting operations by formula."""

from __future__ import annotations


def layer_flops(tokens: int, width: int, *, mlp_ratio: float = 4.0) -> float:
    """Give the operations of one transformer layer, forward, for one image (a multiply-add is two).

    Queries, keys, values and output: 8 n d^2; the two products of attention: 4 n^2 d; the MLP: 4 r n d^2.

    Args:
        tokens: n.
        width: d.
        mlp_ratio: r.
    """
    return (8 + 4 * mlp_ratio) * tokens * width**2 + 4 * tokens**2 * width
