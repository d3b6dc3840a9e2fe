"""Tensors in parts of a bounded size."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

from torch import Tensor

T = TypeVar("T", bound=Tensor)


def in_parts(tensors: Iterable[T], elements: int) -> Iterator[list[T]]:
    """Split tensors into runs of at least `elements`; only the last may have fewer."""
    part: list[T] = []
    size = 0
    for tensor in tensors:
        part.append(tensor)
        size += tensor.numel()
        if size >= elements:
            yield part
            part, size = [], 0
    if part:
        yield part
