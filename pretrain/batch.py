"""Batches: what a step sees, as named tensors whose first dimension counts samples."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor


@dataclass
class Batch:
    """One global batch, or a part of it.

    Attributes:
        tensors: name -> [B, ...]; which there are is a matter of the method's views.
        keys: of the samples, in the order of the batch.
        damaged: keys of samples that could not be used and were replaced.
    """

    tensors: dict[str, Tensor]
    keys: list[str] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return next(iter(self.tensors.values())).shape[0]

    def __getitem__(self, name: str) -> Tensor:
        return self.tensors[name]

    def to(self, device: torch.device) -> Batch:
        """Copy the tensors to a device, without waiting for it where the memory allows that."""
        return replace(self, tensors={name: t.to(device, non_blocking=True) for name, t in self.tensors.items()})

    def split(self, size: int | None) -> Iterator[Batch]:
        """Cut into parts of at most `size` samples; None: one part."""
        for start in range(0, len(self), size or len(self)):
            part = slice(start, start + (size or len(self)))
            yield Batch({name: t[part] for name, t in self.tensors.items()}, self.keys[part])
