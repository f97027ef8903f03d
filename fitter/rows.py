"""Tensor dataclasses whose rows are picked, joined and moved together."""

from dataclasses import fields

import torch
from torch import Tensor

WHOLE_ROWS = 8  # `product` multiplies so many rows at a time, or a multiple


class Rows:
    """Dataclasses of tensors [N, ...], and dicts of such, whose rows can be picked, joined and moved."""

    def _each(self, function, *others):
        return type(self)(
            *(_apply(function, *(getattr(one, f.name) for one in (self, *others))) for f in fields(self))
        )

    def rows(self, index):
        """The rows `index` (slice, list, int64 or bool tensor), in that order."""
        return self._each(lambda part: part[index])

    def cat(self, *others):
        """These rows, then the others'."""
        return self._each(lambda *parts: torch.cat(parts), *others)

    def to(self, *device_or_dtype):
        """On another device; floats in another dtype. As torch.Tensor.to."""
        return self._each(lambda part: part.to(*_whole(part, device_or_dtype)))

    def replaced(self, rows: Tensor, other):
        """A copy with the rows where `rows` (bool [N]) holds taken from `other`; `other` where all do, on a CPU."""
        if rows.device.type == "cpu" and rows.all():
            return other
        return self._each(lambda a, b: torch.where(rows.reshape(-1, *[1] * (a.dim() - 1)), b, a), other)


def product(rows: Tensor, matrix: Tensor) -> Tensor:
    """rows [N, I] @ matrix [I, O], rounded alike in any company: MKL's routines for odd numbers of rows differ."""
    left_over = -len(rows) % WHOLE_ROWS
    if not left_over:
        return rows @ matrix
    return (torch.cat([rows, rows.new_zeros(left_over, rows.shape[1])]) @ matrix)[: len(rows)]


def as_of_several(function, *parts):
    """function(*parts), parts and what it returns Rows or tensors [N, ...], where a single row must come out as it does
    among others: one matrix is multiplied by another routine than several, which rounds otherwise."""
    first = parts[0] if isinstance(parts[0], Tensor) else getattr(parts[0], fields(parts[0])[0].name)
    if len(first) != 1:
        return function(*parts)
    found = function(*(_rows(part, [0, 0]) for part in parts))
    return tuple(_rows(part, [0]) for part in found) if isinstance(found, tuple) else _rows(found, [0])


def _rows(part, index):
    return part.rows(index) if isinstance(part, Rows) else part[index]


def _apply(function, *parts):
    first = parts[0]
    if isinstance(first, dict):
        return {key: _apply(function, *(part[key] for part in parts)) for key in first}
    return first._each(function, *parts[1:]) if isinstance(first, Rows) else function(*parts)


def _whole(part: Tensor, arguments):
    """Without the dtype for integers and masks."""
    return (
        arguments
        if part.is_floating_point()
        else [one for one in arguments if not isinstance(one, torch.dtype)]
    )
