"""Labelled photos for training, decoded once and kept as tensors.

Two sources: shards (``.npz`` with WebP pictures and fitted shapes) and 300W-LP-style folders
(``.jpg`` beside ``.mat``). Both end as a :class:`PhotoSet`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sadr_cli.crop import crop_matrix, image_to_crop
from sadr_cli.errors import MissingDataError
from sadr_cli.evaluation.data.aflw2000 import read_annotation
from sadr_cli.faces import Crop
from sadr_cli.model.face_model import FaceModel
from sadr_cli.pixels import resized
from sadr_cli.pose import euler_to_matrix
from sadr_cli.training.profiling import yaw_of

FIELDS = ("webp", "offset", "coeff", "scale", "rotation", "translation", "size")
HINTS = ("teacher_spread", "human_residual")  # of a shard's labels, if it has them
LABELS = ("coefficients", "scale", "rotation", "translation", "doubt")
JAW = 17  # landmarks before this are the jaw's
STORED_MARGIN = 2.0  # a folder's photos are cut at this times the landmark box


@dataclass
class PhotoSet:
    """N photos with their fitted shapes, all of one side length n.

    images: (N, 4, n, n) uint8 RGB and alpha; alpha 0 where the crop reaches past the photo.
    coefficients: (N, K) of the face model, in standard deviations.
    scale, rotation, translation: (N,), (N, 3, 3), (N, 2) with p = scale R S + t in the y-up
        frame of the stored picture: x = p.x, y = -p.y, pixel centres at integers.
    names: origin of each photo.
    doubt: (N,) how little the labels are trusted, a share of the face's size; 0 where unknown.
    points: (N, 68, 3) landmarks that people marked: x, y in pixels of the stored picture, y down,
        and whether the point is seen (1), hidden by something (0) or by the head itself (-1);
        NaN where nobody marked it.
    """

    images: Tensor
    coefficients: Tensor
    scale: Tensor
    rotation: Tensor
    translation: Tensor
    names: list[str]
    doubt: Tensor | None = None
    points: Tensor | None = None

    def __post_init__(self) -> None:
        if self.doubt is None:
            self.doubt = torch.zeros(len(self.names))
        if self.points is None:
            self.points = torch.full((len(self.names), 68, 3), torch.nan)

    @property
    def _tensors(self) -> list[Tensor]:
        assert self.doubt is not None
        assert self.points is not None
        return [self.images, self.coefficients, self.scale, self.rotation, self.translation,
                self.doubt, self.points]  # fmt: skip

    @staticmethod
    def _from(tensors: Sequence[Tensor], names: list[str]) -> PhotoSet:
        images, coefficients, scale, rotation, translation, doubt, points = tensors
        return PhotoSet(images, coefficients, scale, rotation, translation, names, doubt, points)

    def __len__(self) -> int:
        return len(self.names)

    @property
    def yaw(self) -> Tensor:
        """(N,) degrees, |yaw| up to 90 and beyond for faces turned past the profile."""
        return yaw_of(self.rotation)

    def to(self, device: torch.device) -> PhotoSet:
        return self._from([t.to(device) for t in self._tensors], self.names)

    def select(self, index: Sequence[int]) -> PhotoSet:
        i = torch.as_tensor(index)
        return self._from([t[i] for t in self._tensors], [self.names[k] for k in index])

    @staticmethod
    def concatenate(sets: Sequence[PhotoSet]) -> PhotoSet:
        """All photos in one set; the given ones lose their pictures, or memory would hold
        these gigabytes twice."""
        if len(sets) == 1:
            return sets[0]
        _, *columns = zip(*(s._tensors for s in sets), strict=True)
        images = torch.empty(sum(map(len, sets)), *sets[0].images.shape[1:], dtype=torch.uint8)
        start = 0
        for s in sets:
            images[start : start + len(s)] = s.images
            s.images = s.images[:0].clone()
            start += len(s)
        tensors = [images, *(torch.cat(c) for c in columns)]
        return PhotoSet._from(tensors, [n for s in sets for n in s.names])


def replace_labels(photos: PhotoSet, path: str | Path) -> None:
    """Replace the fits of ``photos`` by those of an npz (``benchmarks/relabel.py`` writes it).

    The npz has ``names`` (M,) as in ``photos.names``, ``coefficients``, ``scale``, ``rotation``,
    ``translation`` and ``doubt`` as in :class:`PhotoSet`, for pictures of ``side`` pixels.
    MissingDataError when it is something else or lacks a photo.
    """
    assert photos.doubt is not None
    try:
        with np.load(path, allow_pickle=False) as file:
            names, side = file["names"], int(file["side"])
            values = {k: file[k].astype(np.float32) for k in LABELS}
    except (KeyError, ValueError, OSError, BadZipFile) as error:
        raise MissingDataError(f"{path} is not a file of labels: names, side, "
                               f"{', '.join(LABELS)}") from error  # fmt: skip
    row = {str(name): i for i, name in enumerate(names)}
    try:
        chosen = np.array([row[name] for name in photos.names])
    except KeyError as error:
        raise MissingDataError(f"{path} has no label for photo {error}: make it anew") from error
    ratio = np.full(len(chosen), photos.images.shape[-1] / side)
    values = {k: v[chosen] for k, v in values.items()}
    values["scale"], values["translation"] = _rescale(values["scale"], values["translation"], ratio)
    for key, value in values.items():
        setattr(photos, key, torch.from_numpy(value))


def add_human_points(photos: PhotoSet, path: str | Path) -> int:
    """Fill ``photos.points`` from an npz of points that people marked; how many photos have some.

    The npz has ``name`` (M,) as in ``photos.names``, ``pts`` (M, 68, 2) in pixels of the picture
    as the shard stores it (``side`` of them, 120 unless said), ``vis`` (M, 68) as ``points``'
    third column, and, if known, ``yaw`` (M,) in degrees: jaw points follow the outline of the
    face, which is the jaw itself only in near-frontal faces, and are left out beyond 15 degrees.
    Rows marked ``in_aflw2000`` belong to a test set and are never taken.
    MissingDataError when the file is something else.
    """
    assert photos.points is not None
    try:
        with np.load(path, allow_pickle=False) as file:
            names, points, seen = file["name"], file["pts"], file["vis"]
            yaw = file["yaw"] if "yaw" in file else np.zeros(len(names))
            kept = ~file["in_aflw2000"] if "in_aflw2000" in file else np.ones(len(names), bool)
            side = int(file["side"]) if "side" in file else 120
    except (KeyError, ValueError, OSError, BadZipFile) as error:
        raise MissingDataError(f"{path} is not a file of points: name, pts and vis") from error
    row = {name: i for i, name in enumerate(photos.names)}
    ratio = photos.images.shape[-1] / side
    found = 0
    for k in np.flatnonzero(kept):
        i = row.get(str(names[k]))
        if i is None:
            continue
        xy = resized(points[k].astype(np.float64), ratio)
        values = np.concatenate([xy, seen[k][:, None]], 1)
        values[np.isnan(xy).any(1)] = np.nan
        if abs(yaw[k]) > 15:
            values[:JAW] = np.nan
        photos.points[i] = torch.from_numpy(values.astype(np.float32))
        found += 1
    return found


def photo_alpha(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """255 inside the photo, 0 in black bands that touch the border of a crop (H, W, 3)."""
    height, width = image.shape[:2]
    # A band runs along a whole side of the crop; a dark corner of a photo does not.
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
    """BGR (H, H, 3) -> RGB and alpha in ``out`` (4, side, side)."""
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
    """Pose after resizing pictures by ``ratio``: see :func:`sadr_cli.pixels.resized`."""
    x = resized(translation[:, 0], ratio)
    y = resized(-translation[:, 1], ratio)
    return (scale * ratio).astype(np.float32), np.stack([x, -y], 1).astype(np.float32)


def load_shards(paths: Iterable[str | Path], side: int) -> PhotoSet:
    """Read shards; each picture is resized to ``side`` pixels. MissingDataError on a bad one."""
    sets = []
    for path in map(Path, paths):
        try:
            # Opened here: of a damaged archive np.load leaves its own handle open.
            with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
                data = {k: file[k] for k in FIELDS}
                names = file["source"].tolist() if "source" in file else []
                doubt = np.zeros(len(data["coeff"]), np.float32)
                for hint in HINTS:
                    if hint in file:  # -1: not known
                        doubt += np.maximum(file[hint].astype(np.float32), 0)
        except (KeyError, ValueError, OSError, BadZipFile) as error:
            raise MissingDataError(
                f"{path} is not a training shard: an npz with {', '.join(FIELDS)} is expected"
            ) from error
        count = len(data["coeff"])
        images = np.empty((count, 4, side, side), np.uint8)
        offset, packed = data["offset"], data["webp"]

        def decode(
            i: int,
            offset: NDArray[Any] = offset,
            packed: NDArray[Any] = packed,
            images: NDArray[np.uint8] = images,
            path: Path = path,
        ) -> None:
            picture = cv2.imdecode(packed[offset[i] : offset[i + 1]], cv2.IMREAD_COLOR)
            if picture is None:
                raise MissingDataError(f"picture {i} of {path} is damaged: copy the shard again")
            _store(picture, images[i])

        with ThreadPoolExecutor() as pool:
            list(pool.map(decode, range(count)))
        ratio = side / data["size"].astype(np.float64)
        scale, translation = _rescale(data["scale"], data["translation"], ratio)
        sets.append(
            PhotoSet(
                torch.from_numpy(images),
                torch.from_numpy(data["coeff"].astype(np.float32)),
                torch.from_numpy(scale),
                torch.from_numpy(data["rotation"].astype(np.float32)),
                torch.from_numpy(translation),
                names or [f"{path.stem}/{i}" for i in range(count)],
                torch.from_numpy(doubt),
            )
        )
    if not sets:
        raise MissingDataError("no training shards were given")
    return PhotoSet.concatenate(sets)


def load_300wlp(folder: str | Path, model: FaceModel, side: int) -> PhotoSet:
    """Read a folder of ``.jpg`` + ``.mat`` (300W-LP, AFLW2000-3D), recursively.

    The coefficients the face model does not hold are left out. MissingDataError when nothing
    fits; a picture without its ``.mat`` is skipped.
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
    return PhotoSet(
        torch.from_numpy(np.stack(images)),
        torch.from_numpy(np.stack([r[0] for r in rows]).astype(np.float32)),
        torch.tensor([float(r[1]) for r in rows]),
        torch.from_numpy(np.stack([r[2] for r in rows]).astype(np.float32)),
        torch.from_numpy(np.stack([r[3] for r in rows]).astype(np.float32)),
        [r[4] for r in rows],
    )


def trusted(photos: PhotoSet, share: float) -> Tensor:
    """(N,) bool: without the ``share`` of photos whose labels are doubted most.

    The share is taken of every 15 degrees of |yaw| by itself: doubt grows with the turn.
    """
    assert photos.doubt is not None
    keep = torch.ones(len(photos), dtype=torch.bool)
    bins = (photos.yaw.abs() / 15).long().clamp(0, 6).cpu()
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
    bins = (yaw.abs() / 15).long().clamp(0, 6)
    count = torch.bincount(bins, minlength=7).float().clamp_min(1)
    return count[bins] ** -flatten
