"""Pixel centres and edges: the only module with half-pixel offsets.

The centre of pixel k is at coordinate k, so a picture n pixels wide covers [-0.5, n - 0.5].
Networks, textures and resizing measure from the picture's edge instead: there the centre of pixel k
is at k + 0.5. All functions take and return numbers, NumPy arrays or PyTorch tensors.
"""

from __future__ import annotations

from typing import Any, TypeVar

Position = TypeVar("Position", bound=Any)


def to_edge(position: Position) -> Position:
    """Coordinates with pixel centres at integers -> distances from the left or top edge."""
    return position + 0.5


def from_edge(distance: Position) -> Position:
    """Distances from the left or top edge -> coordinates with pixel centres at integers."""
    return distance - 0.5


def resized(position: Position, ratio: Any) -> Position:
    """``position`` after its picture has been resized to ``ratio`` times its size."""
    return from_edge(to_edge(position) * ratio)


def to_unit(position: Position, size: int) -> Position:
    """Pixels of a picture ``size`` wide -> -1 at its left edge to 1 at its right edge.

    These are the coordinates of PyTorch's ``grid_sample`` with ``align_corners=False``.
    """
    return to_edge(position) * (2 / size) - 1


def from_unit(unit: Position, size: int) -> Position:
    """The inverse of :func:`to_unit`."""
    return from_edge((unit + 1) * (size / 2))


def image_box(height: int, width: int) -> tuple[float, float, float, float]:
    """x0, y0, x1, y1: the edges of a picture in its pixels."""
    return from_edge(0.0), from_edge(0.0), from_edge(float(width)), from_edge(float(height))
