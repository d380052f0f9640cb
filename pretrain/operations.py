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


# Dense bf16 matrix peak, FLOP/s, from the makers' data sheets, by what a GPU's name holds; the first that fits counts.
_PEAKS = {
    "B200": 2250e12,
    "GH200": 989e12,
    "H200": 989e12,
    "H100 PCIe": 756e12,
    "H100 NVL": 835e12,
    "H100": 989e12,
    "A100": 312e12,
    "L40S": 362e12,
    "L4": 121e12,
    "A40": 149.7e12,
    "A30": 165e12,
    "A10": 125e12,
    "RTX 5090": 209.5e12,
    "RTX 4090": 165.2e12,
    "RTX 3090": 71e12,
}


def peak_flops(name: str) -> float | None:
    """Give the bf16 peak of a GPU, FLOP/s; None where it is not known.

    Args:
        name: as the driver says it.

    Example:
        >>> peak_flops("NVIDIA A100-SXM4-80GB")
        312000000000000.0
    """
    words = name.replace("-", " ").split()
    return next((peak for model, peak in _PEAKS.items() if all(word in words for word in model.split())), None)
