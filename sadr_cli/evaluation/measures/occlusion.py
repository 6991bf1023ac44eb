"""Attention and visibility, measured on synthetic occlusion.

Photos come without labels of hidden pixels, so each face is covered by a known occluder: a shape
of random outline, size, position and texture, which depends only on a seed and the image's name;
and a second one, scaled until it covers a third of the face. The ground truth follows from
geometry: where the true surface lies in the crop, and what covers it.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from sadr_cli.crop import crop_from_landmarks, extract_crop, image_to_crop
from sadr_cli.errors import InputError
from sadr_cli.evaluation.data.benchmark import MISSING_HINT, Array, Benchmark, read_image
from sadr_cli.evaluation.measures import metrics
from sadr_cli.evaluation.measures.dense import DenseTruth
from sadr_cli.faces import Crop
from sadr_cli.pose import similarity, transform
from sadr_cli.render.rasterize import rasterize, vertex_normals

THRESHOLD = 0.5  # of attention and visibility
AREA = (0.08, 0.40)  # area of the occluder's box, as a share of the face's box
BATCH = 32
SHARE = 1 / 3  # of the face's pixels in the crop that the second occluder covers
_DEPTH_SLACK = 0.02  # of the crop's side: points within it of the depth map are on the surface


@dataclass(frozen=True, eq=False)
class Sample:
    """One face: its crop (n, n, 3) without and with each occluder, and the ground truth."""

    index: int
    crop: Crop
    clean: NDArray[np.uint8]
    occluded: NDArray[np.uint8]
    occluder: NDArray[np.bool_]  # (n, n)
    third: NDArray[np.uint8]  # the crop with a third of the face covered
    third_occluder: NDArray[np.bool_]
    face: NDArray[np.bool_]  # (n, n) where the true surface lies
    landmarks: Array  # (68, 3) true, crop pixels
    turned: NDArray[np.bool_]  # (68,) self-occluded


def measure(
    benchmark: Benchmark,
    network: Any,
    truth: DenseTruth | None = None,
    *,
    seed: int = 0,
    allow_missing: bool = False,
    progress: Callable[[int], None] = lambda n: None,
) -> dict[str, Any]:
    """Attention IoU, landmark-visibility accuracy and NME with and without an occluder.

    truth: decodes each image's true surface; without it the network's mean template is fitted
    to the 68 true points by a similarity. Requires 3-D true landmarks.
    """
    assert benchmark.dimensions == 3
    rows: list[dict[str, float]] = []
    visible: list[tuple[NDArray[Any], NDArray[Any], NDArray[Any]]] = []
    todo: list[Sample] = []
    skipped = 0
    for i in range(len(benchmark)):
        try:
            todo.append(make_sample(benchmark, i, network, truth, seed))
        except InputError as error:
            if not allow_missing:
                raise InputError(f"{error}; {MISSING_HINT}") from error
            skipped += 1
        if len(todo) == BATCH or i == len(benchmark) - 1:
            _score(benchmark, network, todo, rows, visible)
            todo = []
            progress(i + 1)
    if not rows:
        raise InputError("no image could be read for the occlusion measurement")
    return _summary(rows, visible, network, truth, seed, skipped)


def add_occluder(
    image: NDArray[np.uint8],
    box: Array,
    rng: np.random.Generator,
    face: NDArray[np.bool_] | None = None,
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """``image`` (n, n, 3) with one occluder inside ``box`` (x0, y0, x1, y1), and its mask.

    face: (n, n); if given, the occluder is scaled to cover the share ``SHARE`` of these pixels.
    """
    n = image.shape[0]
    center, outline = _outline(box, rng)
    size = 1.0
    if face is not None:
        low, high = 0.0, 10.0
        for _ in range(12):
            size = (low + high) / 2
            covers = (_fill(n, center + size * outline) & face).sum()
            low, high = (size, high) if covers < SHARE * face.sum() else (low, size)
    covered = _fill(n, center + size * outline)
    out = image.copy()
    out[covered] = _texture(n, rng)[covered]
    return out, covered


def _outline(box: Array, rng: np.random.Generator) -> tuple[Array, Array]:
    """Centre (2,) and corners (k, 2), relative to it, of an occluder."""
    width, height = box[2] - box[0], box[3] - box[1]
    center = box[:2] + rng.uniform(0.1, 0.9, 2) * [width, height]
    area = rng.uniform(*AREA) * width * height
    aspect = np.exp(rng.uniform(-0.7, 0.7))
    half = np.sqrt(area) / 2 * np.array([aspect, 1 / aspect])
    kind = rng.integers(3)
    corners = 4 if kind == 0 else 48 if kind == 1 else int(rng.integers(5, 10))
    angle = np.linspace(0, 2 * np.pi, corners, endpoint=False)
    radius = np.ones(corners)
    if kind == 0:
        angle, radius = angle + np.pi / 4, radius * np.sqrt(2)  # a rectangle
    elif kind == 2:
        radius = rng.uniform(0.7, 1.35, corners)  # a ragged polygon
    turn = rng.uniform(0, np.pi)
    shape = np.stack([np.cos(angle), np.sin(angle)], 1) * radius[:, None] * half
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    return center, shape @ rotation.T


def _fill(n: int, outline: Array) -> NDArray[np.bool_]:
    mask = np.zeros((n, n), np.uint8)
    cv2.fillPoly(mask, [np.round(outline * 16).astype(np.int32)], 1, cv2.LINE_8, 4)
    return mask.astype(bool)


def _texture(n: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """(n, n, 3) plain, striped or cloudy, in two random colours."""
    colors = rng.uniform(0, 255, (2, 3))
    kind = rng.integers(3)
    if kind == 0:
        blend = np.zeros((n, n))
    elif kind == 1:
        y, x = np.mgrid[0:n, 0:n] / n
        direction = rng.uniform(0, np.pi)
        wave = rng.uniform(6, 30) * (x * np.cos(direction) + y * np.sin(direction))
        blend = 0.5 + 0.5 * np.sin(2 * np.pi * wave)
    else:
        blend = np.zeros((n, n))
        for octave in range(3):
            side = 4 * 2**octave
            noise = rng.random((side, side)).astype(np.float32)
            blend += cv2.resize(noise, (n, n), interpolation=cv2.INTER_CUBIC) / 2**octave
        blend = np.clip(blend / 1.75, 0, 1)
    picture = colors[0] + blend[..., None] * (colors[1] - colors[0])
    return np.clip(picture + rng.normal(0, 4, (n, n, 1)), 0, 255).astype(np.uint8)


def make_sample(
    benchmark: Benchmark, index: int, network: Any, truth: DenseTruth | None, seed: int
) -> Sample:
    """The crop of image ``index`` with its occluders; InputError when it cannot be read.

    network: defines the crop's resolution and, without ``truth``, the mean template.
    """
    path = benchmark.images[index]
    if path is None:
        raise InputError(f"no image of {benchmark.names[index]}")
    image = read_image(path)
    n = network.crop_resolution
    landmarks = benchmark.landmarks[index]
    crop = crop_from_landmarks(landmarks)
    clean = extract_crop(image, crop, n)
    if truth is not None:
        surface = truth.face(truth.parameters_of(benchmark), index, image.shape[0])
        layout = truth.model.layout
    else:
        layout = network.uv
        # The mean template fitted to the true landmarks, in image pixels.
        mean = np.asarray(layout.mean_shape, float)
        fit = similarity(mean[layout.landmark_indices], landmarks * [1, -1, 1])
        surface = transform(mean, *fit) * [1, -1, 1]
    surface = image_to_crop(surface, crop, n)
    triangles = layout.triangles[:, ::-1]  # the image frame has y down
    face_index, _, depth = rasterize(surface, triangles, n, n)
    points = surface[layout.landmark_indices]
    facing = vertex_normals(surface, triangles)[layout.landmark_indices, 2] >= 0
    column, row = np.clip(np.rint(points[:, :2]).astype(int), 0, n - 1).T
    front = points[:, 2] >= depth[row, column] - _DEPTH_SLACK * n
    own = image_to_crop(landmarks, crop, n)
    face = face_index >= 0
    if not face.any():
        raise InputError(f"the face of {benchmark.names[index]} lies outside its crop")
    key = [seed, zlib.crc32(benchmark.names[index].encode())]
    box = np.concatenate([own[:, :2].min(0), own[:, :2].max(0)])
    occluded, mask = add_occluder(clean, box, np.random.default_rng(key))
    third, mask3 = add_occluder(clean, box, np.random.default_rng([*key, 3]), face)
    return Sample(index, crop, clean, occluded, mask, third, mask3, face, own, ~(facing & front))


def _score(
    benchmark: Benchmark,
    network: Any,
    samples: list[Sample],
    rows: list[dict[str, float]],
    visible: list[tuple[NDArray[Any], NDArray[Any], NDArray[Any]]],
) -> None:
    if not samples:
        return
    pictures = [getattr(s, kind) for kind in ("clean", "occluded", "third") for s in samples]
    faces = network.reconstruct_crops(pictures, [s.crop for s in samples] * 3)
    n = network.crop_resolution
    for k, sample in enumerate(samples):
        clean, covered, third = faces[k :: len(samples)]
        side = covered.attention.shape[-1]
        seen = _shrink(sample.face & ~sample.occluder, side)
        whole = _shrink(sample.face, side)
        rest = _shrink(sample.face & ~sample.third_occluder, side)
        g = benchmark.landmarks[sample.index][None]
        column, row = np.clip(np.rint(sample.landmarks[:, :2]).astype(int), 0, n - 1).T
        under = sample.occluder[row, column]
        row = {}
        for name, face, unhidden, occluder in (
            ("", covered, seen, sample.occluder),
            ("_clean", clean, whole, None),
            ("_third", third, rest, sample.third_occluder),
        ):
            row[f"iou{name}"] = metrics.mask_iou(face.attention >= THRESHOLD, unhidden)
            row[f"nme{name}"] = float(metrics.nme_2d(face.landmarks[None], g)[0])
            if occluder is not None:
                row[f"covered{name}"] = float(occluder[sample.face].mean())
        rows.append(row)
        visible.append(
            (covered.landmark_visibility >= THRESHOLD, ~(under | sample.turned), sample.turned)
        )


def _shrink(mask: NDArray[np.bool_], side: int) -> NDArray[np.bool_]:
    """(n, n) -> (side, side): cells of which at least half are true."""
    small = cv2.resize(mask.astype(np.float32), (side, side), interpolation=cv2.INTER_AREA)
    return np.asarray(small >= 0.5)


def _ratio(a: float, b: float) -> float:
    return a / b if b > 0 else float("nan")


def _summary(
    rows: list[dict[str, float]],
    visible: list[tuple[NDArray[Any], NDArray[Any], NDArray[Any]]],
    network: Any,
    truth: DenseTruth | None,
    seed: int,
    skipped: int,
) -> dict[str, Any]:
    mean = {key: float(np.mean([row[key] for row in rows])) for key in rows[0]}
    predicted, true, turned = (np.concatenate([v[k] for v in visible]) for k in range(3))
    every = metrics.binary_scores(predicted, true)
    front = metrics.binary_scores(predicted[~turned], true[~turned])
    figures = {
        "attention IoU, occluded": mean["iou"],
        "attention IoU, without occluder": mean["iou_clean"],
        "landmark visibility accuracy": every["accuracy"],
        "landmark visibility balanced accuracy": every["balanced_accuracy"],
        "visible landmarks called visible": every["recall_true"],
        "hidden landmarks called hidden": every["recall_false"],
        "occluded landmarks called hidden (surface faces the viewer)": front["recall_false"],
        "share of landmarks truly visible": every["share_true"],
        "NME 2D occluded (%)": mean["nme"],
        "NME 2D without occluder (%)": mean["nme_clean"],
        "NME ratio occluded / without": _ratio(mean["nme"], mean["nme_clean"]),
        "share of the face covered": mean["covered"],
        "attention IoU, a third covered": mean["iou_third"],
        "NME 2D, a third covered (%)": mean["nme_third"],
        "NME ratio a third covered / without": _ratio(mean["nme_third"], mean["nme_clean"]),
        "share of the face covered by the larger occluder": mean["covered_third"],
    }
    surface = "mean template fitted to the 68 true points" if truth is None else truth.note
    return {
        "figures": figures,
        "images": len(rows),
        "skipped": skipped,
        "seed": seed,
        "protocol": (
            f"{len(rows)} faces, one synthetic occluder each and one that covers a third of the "
            f"face (seed {seed}), truth crop; attention and visibility thresholded at {THRESHOLD}; "
            "attention compared with the visible part of the true surface, at the resolution of "
            f"the attention mask; surface: {surface}. Occlusion present in the photos counts "
            "against the network."
        ),
    }
