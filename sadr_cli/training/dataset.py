"""Labelled photos for training, decoded once and kept as tensors.

Two sources: shards (``.npz`` with WebP images and fitted shapes) and 300W-LP-style folders
(``.jpg`` beside ``.mat``). Both are read into a :class:`PhotoSet`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sadr_cli.arrays import read_npz
from sadr_cli.crop import crop_matrix, image_to_crop
from sadr_cli.errors import MissingDataError
from sadr_cli.evaluation.data.aflw2000 import read_annotation
from sadr_cli.faces import Crop
from sadr_cli.landmarks import JAW
from sadr_cli.model.face_model import FaceModel
from sadr_cli.pixels import resized
from sadr_cli.pose import euler_to_matrix
from sadr_cli.training.profiling import yaw_of

FIELDS = ("webp", "offset", "coeff", "scale", "rotation", "translation", "size")
HINTS = ("teacher_spread", "human_residual")  # optional, of a shard's labels
LABELS = ("coefficients", "scale", "rotation", "translation", "doubt")
STORED_MARGIN = 2.0  # photos of a folder are cropped to this times the landmark box


@dataclass
class PhotoSet:
    """N photos with their fitted shapes, all of the same side length n.

    images: (N, 4, n, n) uint8 RGB and alpha; alpha 0 where the crop extends beyond the photo.
    coefficients: (N, K) of the face model, in standard deviations.
    scale, rotation, translation: (N,), (N, 3, 3), (N, 2) with p = scale R S + t in the y-up
        frame of the stored image: x = p.x, y = -p.y, pixel centres at integers.
    names: origin of each photo.
    doubt: (N,) estimated error of the labels, as a share of the face's size; 0 where unknown.
    points: (N, 68, 3) annotated landmarks: x, y in pixels of the stored image, y down, and whether
        the point is visible (1), occluded (0) or self-occluded (-1); NaN where not annotated.
    """

    images: Tensor
    coefficients: Tensor
    scale: Tensor
    rotation: Tensor
    translation: Tensor
    names: list[str]
    doubt: Tensor = field(default_factory=Tensor)
    points: Tensor = field(default_factory=Tensor)

    def __post_init__(self) -> None:
        if not len(self.doubt):
            self.doubt = torch.zeros(len(self.names))
        if not len(self.points):
            self.points = torch.full((len(self.names), 68, 3), torch.nan)

    def __len__(self) -> int:
        return len(self.names)

    def _changed(self, names: list[str], change: Callable[[Tensor], Tensor]) -> PhotoSet:
        keys = [f.name for f in fields(self) if f.name != "names"]
        return PhotoSet(names=names, **{key: change(getattr(self, key)) for key in keys})

    @property
    def yaw(self) -> Tensor:
        """(N,) degrees, |yaw| up to 90 and beyond for faces turned past the profile."""
        return yaw_of(self.rotation)

    def to(self, device: torch.device) -> PhotoSet:
        return self._changed(self.names, lambda t: t.to(device))

    def select(self, index: Sequence[int]) -> PhotoSet:
        i = torch.as_tensor(index)
        return self._changed([self.names[k] for k in index], lambda t: t[i])

    @staticmethod
    def concatenate(sets: Sequence[PhotoSet]) -> PhotoSet:
        """All photos in one set. Empties the images of ``sets``: they take gigabytes."""
        if len(sets) == 1:
            return sets[0]
        images = torch.empty(sum(map(len, sets)), *sets[0].images.shape[1:], dtype=torch.uint8)
        start = 0
        for s in sets:
            images[start : start + len(s)] = s.images
            s.images = s.images[:0].clone()
            start += len(s)
        keys = [f.name for f in fields(PhotoSet) if f.name not in ("names", "images")]
        columns = {key: torch.cat([getattr(s, key) for s in sets]) for key in keys}
        return PhotoSet(images=images, names=[n for s in sets for n in s.names], **columns)


def replace_labels(photos: PhotoSet, path: str | Path) -> None:
    """Replace the fits of ``photos`` by those of an npz (``benchmarks/relabel.py`` writes it).

    The npz has ``names`` (M,) as in ``photos.names``, ``coefficients``, ``scale``, ``rotation``,
    ``translation`` and ``doubt`` as in :class:`PhotoSet`, for images of ``side`` pixels.
    MissingDataError when it is something else or lacks a photo.
    """
    data = read_npz(Path(path), ("names", "side", *LABELS))
    row = {str(name): i for i, name in enumerate(data["names"])}
    try:
        chosen = np.array([row[name] for name in photos.names])
    except KeyError as error:
        raise MissingDataError(f"{path} has no label for photo {error}: create it again") from error
    ratio = np.full(len(chosen), photos.images.shape[-1] / int(data["side"]))
    values = {k: data[k].astype(np.float32)[chosen] for k in LABELS}
    values["scale"], values["translation"] = _rescale(values["scale"], values["translation"], ratio)
    for key, value in values.items():
        setattr(photos, key, torch.from_numpy(value))


def add_human_points(photos: PhotoSet, path: str | Path) -> int:
    """Fill ``photos.points`` from an npz of annotated landmarks; returns how many photos have any.

    The npz has ``name`` (M,) as in ``photos.names``, ``pts`` (M, 68, 2) in pixels of the image
    stored in the shard (``side`` pixels wide, default 120), ``vis`` (M, 68) as the third column of
    ``points``, and optionally ``yaw`` (M,) in degrees: jaw points follow the outline of the face,
    which is the jaw only in near-frontal faces, and are left out beyond 15 degrees. Rows marked
    ``in_aflw2000`` belong to a test set and are never used.
    MissingDataError when the file is something else.
    """
    data = read_npz(Path(path), ("name", "pts", "vis"), ("yaw", "in_aflw2000", "side"))
    names, points, seen = (data[key] for key in ("name", "pts", "vis"))
    yaw = data.get("yaw", np.zeros(len(names)))
    test_set = data.get("in_aflw2000", np.zeros(len(names), bool))
    row = {name: i for i, name in enumerate(photos.names)}
    ratio = photos.images.shape[-1] / int(data.get("side", 120))
    found = 0
    for k in np.flatnonzero(~test_set):
        i = row.get(str(names[k]))
        if i is None:
            continue
        xy = resized(points[k].astype(np.float64), ratio)
        values = np.concatenate([xy, seen[k][:, None]], 1)
        values[np.isnan(xy).any(1)] = np.nan
        if abs(yaw[k]) > 15:
            values[JAW] = np.nan
        photos.points[i] = torch.from_numpy(values.astype(np.float32))
        found += 1
    return found


def photo_alpha(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """255 inside the photo, 0 in black bands that touch the border of a crop (H, W, 3)."""
    height, width = image.shape[:2]
    # A band covers a whole side of the crop; a dark corner of a photo does not.
    sides = [image[0], image[-1], image[:, 0], image[:, -1]]
    alpha = np.full((height, width), 255, np.uint8)
    if not any((side.max(1) <= 8).mean() > 0.98 for side in sides):
        return alpha
    dark = (cv2.inRange(image, (0, 0, 0), (8, 8, 8)) > 0).astype(np.uint8)
    solid = cv2.morphologyEx(dark, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    rows, columns = solid.mean(1) > 0.97, solid.mean(0) > 0.97
    top = int(np.argmin(rows)) if not rows.all() else 0
    bottom = int(np.argmin(rows[::-1])) if not rows.all() else 0
    inner = solid[top : height - bottom] if top + bottom < height else solid
    columns = inner.mean(0) > 0.97
    left = int(np.argmin(columns)) if not columns.all() else 0
    right = int(np.argmin(columns[::-1])) if not columns.all() else 0
    for band, extent in (
        (np.s_[:top], top),
        (np.s_[height - bottom :], bottom),
        (np.s_[:, :left], left),
        (np.s_[:, width - right :], right),
    ):
        if extent > 1:
            alpha[band] = 0
    return alpha


def _store(image: NDArray[np.uint8], out: NDArray[np.uint8]) -> None:
    """Write BGR (H, H, 3) as RGB and alpha to ``out`` (4, side, side)."""
    side = out.shape[1]
    alpha = photo_alpha(image)
    if image.shape[0] != side:
        how = cv2.INTER_AREA if image.shape[0] > side else cv2.INTER_LINEAR
        image = cv2.resize(image, (side, side), interpolation=how)
        if alpha.all():
            alpha = np.full((side, side), 255, np.uint8)
        else:
            alpha = cv2.resize(alpha, (side, side), interpolation=how)
    out[2], out[1], out[0] = cv2.split(image)
    out[3] = alpha


def _rescale(
    scale: NDArray[Any], translation: NDArray[Any], ratio: NDArray[Any]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Scale and translation after resizing images by ``ratio``."""
    x = resized(translation[:, 0], ratio)
    y = resized(-translation[:, 1], ratio)
    return (scale * ratio).astype(np.float32), np.stack([x, -y], 1).astype(np.float32)


def load_shards(paths: Iterable[str | Path], side: int) -> PhotoSet:
    """Read shards; each image is resized to ``side`` pixels. MissingDataError on a bad one."""
    return PhotoSet.concatenate([_load_shard(Path(path), side) for path in paths])


def _load_shard(path: Path, side: int) -> PhotoSet:
    data = read_npz(path, FIELDS, ("source", *HINTS))
    count = len(data["coeff"])
    images = np.empty((count, 4, side, side), np.uint8)
    offset, packed = data["offset"], data["webp"]

    def decode(i: int) -> None:
        picture = cv2.imdecode(packed[offset[i] : offset[i + 1]], cv2.IMREAD_COLOR)
        if picture is None:
            raise MissingDataError(f"image {i} of {path} is damaged: copy the shard again")
        _store(picture, images[i])

    with ThreadPoolExecutor() as pool:
        list(pool.map(decode, range(count)))
    ratio = side / data["size"].astype(np.float64)
    scale, translation = _rescale(data["scale"], data["translation"], ratio)
    hints = [np.maximum(data[key].astype(np.float32), 0) for key in HINTS if key in data]
    return PhotoSet(
        torch.from_numpy(images),
        torch.from_numpy(data["coeff"].astype(np.float32)),
        torch.from_numpy(scale),
        torch.from_numpy(data["rotation"].astype(np.float32)),
        torch.from_numpy(translation),
        data["source"].tolist() if "source" in data else [f"{path.stem}/{i}" for i in range(count)],
        torch.from_numpy(sum(hints, np.zeros(count, np.float32))),  # hints of -1: unknown
    )


def load_300wlp(folder: str | Path, model: FaceModel, side: int) -> PhotoSet:
    """Read a folder of ``.jpg`` + ``.mat`` (300W-LP, AFLW2000-3D), recursively.

    Coefficients that the face model lacks are dropped. An image without a ``.mat`` is skipped;
    MissingDataError when none has one.
    """
    folder = Path(folder)
    kpt = model.layout.landmark_indices
    mean, basis = model.layout.mean_shape[kpt], model.basis[kpt]
    n_id = model.identities
    n_exp = len(model.sigma) - n_id
    images, rows = [], []
    for picture in sorted(folder.rglob("*.jpg")):
        mat = picture.with_suffix(".mat")
        if not mat.is_file():
            continue
        data = read_annotation(mat, ("Pose_Para", "Shape_Para", "Exp_Para"))
        pitch, yaw, roll, tx, ty, _, f = data["Pose_Para"]
        raw = np.r_[data["Shape_Para"][:n_id], data["Exp_Para"][:n_exp]]
        image = cv2.imread(str(picture), cv2.IMREAD_COLOR)
        if image is None:
            raise MissingDataError(f"{picture} cannot be read: remove it or copy it again")
        c = raw / model.sigma
        rotation = euler_to_matrix(*np.rad2deg([yaw, pitch, roll]))
        scale = f * 1e3 / 0.015  # f acts on micrometres
        points = scale * (mean + basis @ c) @ rotation.T
        x, y = points[:, 0] + tx, image.shape[0] - (points[:, 1] + ty)
        size = STORED_MARGIN * (np.ptp(x) + np.ptp(y)) / 2
        crop = Crop((x.min() + x.max()) / 2, (y.min() + y.max()) / 2, size)
        step = size / side
        flags = cv2.WARP_INVERSE_MAP | (cv2.INTER_AREA if step > 1 else cv2.INTER_LINEAR)
        rgba = np.dstack([image[:, :, ::-1], np.full(image.shape[:2], 255, np.uint8)])
        stored = cv2.warpAffine(rgba, crop_matrix(crop, side), (side, side), flags=flags)
        images.append(stored.transpose(2, 0, 1))
        shift = image_to_crop(np.array([tx, image.shape[0] - ty]), crop, side) * (1, -1)
        rows.append((c, scale / step, rotation, shift, str(picture.relative_to(folder))))
    if not rows:
        raise MissingDataError(
            f"no .jpg with a .mat beside it under {folder}: give a 300W-LP-style folder"
        )
    *labels, names = zip(*rows, strict=True)
    c, scales, rotations, shifts = (
        torch.from_numpy(np.stack(values).astype(np.float32)) for values in labels
    )
    pictures = torch.from_numpy(np.stack(images))
    return PhotoSet(pictures, c, scales, rotations, shifts, list(names))


def trusted(photos: PhotoSet, share: float) -> Tensor:
    """(N,) bool: all but the ``share`` of photos with the least reliable labels.

    The share is taken of every 15 degrees of |yaw| by itself: doubt grows with the turn.
    """
    keep = torch.ones(len(photos), dtype=torch.bool)
    bins = _yaw_bins(photos.yaw).cpu()
    doubt = photos.doubt.cpu()
    for b in range(7):
        rows = torch.nonzero(bins == b)[:, 0]
        worst = doubt[rows].argsort(descending=True)[: int(share * len(rows))]
        keep[rows[worst]] = False
    return keep


def balanced_weights(yaw: Tensor, flatten: float = 0.5) -> Tensor:
    """(N,) sampling weights that flatten the distribution of |yaw| in 15-degree bins.

    ``flatten`` 0 keeps the data's own distribution, 1 gives every bin the same share.
    """
    bins = _yaw_bins(yaw)
    count = torch.bincount(bins, minlength=7).float().clamp_min(1)
    return count[bins] ** -flatten


def _yaw_bins(yaw: Tensor) -> Tensor:
    """(N,) 0 to 6: bins of 15 degrees of |yaw|."""
    return (yaw.abs() / 15).long().clamp(0, 6)
