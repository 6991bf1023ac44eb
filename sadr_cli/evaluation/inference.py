"""Run the network over a benchmark: decoded in threads, batched, cached in parts, resumable."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sadr_cli.arrays import write_npz
from sadr_cli.crop import box_iou, crop_from_landmarks, extract_crop, points_box
from sadr_cli.errors import InputError, UsageError
from sadr_cli.evaluation.data.benchmark import MISSING_HINT, Benchmark, read_image
from sadr_cli.evaluation.data.predictions import SMALL, Predictions
from sadr_cli.faces import Crop, Detection, Face
from sadr_cli.folder import open_file
from sadr_cli.passes import second_pass
from sadr_cli.protocols import FaceDetector, FaceReconstructor
from sadr_cli.render.contour import contour_landmarks

PART = 64  # images per part: at most these are computed again after an interruption
MIN_OVERLAP = 0.3  # least IoU of a detection with the true box
CONTENT = 4  # increased whenever the content of a part changes
NO_FACE = "the detector found no face at the true one"


@dataclass(frozen=True)
class Job:
    """A crop for the network, and its image (H, W, 3) if a second pass may follow."""

    pixels: NDArray[np.uint8]
    crop: Crop
    image: Any = None
    detection: Detection | None = None


def predict(
    benchmark: Benchmark,
    network: FaceReconstructor,
    cache: Path,
    *,
    detector: FaceDetector | None = None,
    dense: bool = False,
    allow_missing: bool = False,
    progress: Callable[[int], None] = lambda n: None,
) -> Predictions:
    """Faces of all images of ``benchmark``.

    cache: folder of the parts; a later call with the same weights, images and crops reads those
        that are finished and computes the rest. Parts with changed images are computed again.
    detector: None crops around the true landmarks (the paper's setting); with a detector, its
        detection nearest to the true face is cropped by its calibration and again from the
        landmarks of the first pass; the more confident face is kept, as in `sadr reconstruct`.
        Where it finds none, the face is missing.
    dense: keep all vertices, 0.5 MB per face.
    """
    crops = "truth" if detector is None else detector.name
    key = cache_key(
        network,
        images=benchmark.list_sha256,
        folder=str(benchmark.folder.resolve()),
        truth=benchmark.truth_sha256,
        crop=crops,
        dense=dense,
        part=PART,
        content=CONTENT,
    )
    folder, out = cache / key, cache.parent
    starts = range(0, len(benchmark), PART)
    paths = {start: folder / f"part-{start:06d}.npz" for start in starts}
    parts: dict[int, dict[str, NDArray[Any]]] = {}
    stamps = np.array([_stamp(path) for path in benchmark.images])
    for start, path in paths.items():
        part = read_cached(path, out)
        if part is not None and np.array_equal(part["stamp"], stamps[start : start + PART]):
            parts[start] = part
            progress(len(part["reason"]))
    todo = [start for start in starts if start not in parts]
    for start, jobs in _Reader(benchmark, network, detector, allow_missing).parts(todo):
        part = _run_part(jobs, network, detector is not None, dense)
        part["stamp"] = stamps[start : start + PART]
        write_npz(paths[start], part, root=out)
        parts[start] = part
        progress(len(jobs))
    keys = list(parts[0])
    merged = {key: _join([parts[start] for start in starts], key) for key in keys}
    del merged["stamp"]
    reasons = {
        name: str(reason)
        for name, reason in zip(benchmark.names, merged.pop("reason"), strict=True)
        if reason
    }
    # The documented npz, for ``--predictions`` and ``--compare``.
    vertices = merged.pop("vertices", None)
    names = np.array(benchmark.names)
    write_npz(out / "predictions.npz", {"name": names, **merged}, compressed=True)
    small: dict[str, Any] = {key: merged[key].astype(float) for key in SMALL}
    return Predictions(
        **small,
        vertices=vertices,
        reasons=reasons,
        details={"crop": crops if detector is None else f"detector {crops}"},
    )


@dataclass(frozen=True)
class _Reader:
    """Reads, detects and crops in threads, one part ahead of the network."""

    benchmark: Benchmark
    network: FaceReconstructor
    detector: FaceDetector | None
    allow_missing: bool

    def parts(self, starts: list[int]) -> Iterator[tuple[int, list[Job | str]]]:
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
            queue: list[tuple[int, list[Future[Job | str]]]] = []
            try:
                for start in starts:
                    indices = range(start, min(start + PART, len(self.benchmark)))
                    queue.append((start, [pool.submit(self._job, i) for i in indices]))
                    if len(queue) > 1:
                        first, futures = queue.pop(0)
                        yield first, [f.result() for f in futures]
                for first, futures in queue:
                    yield first, [f.result() for f in futures]
            finally:
                pool.shutdown(wait=True, cancel_futures=True)

    def _job(self, index: int) -> Job | str:
        """The job of one image, or why it has none."""
        path = self.benchmark.images[index]
        truth = self.benchmark.landmarks[index]
        size = self.network.crop_resolution
        try:
            if path is None:
                raise InputError(f"no image of {self.benchmark.names[index]}")
            image = read_image(path)
            if self.detector is None:
                crop = crop_from_landmarks(truth)
                return Job(extract_crop(image, crop, size), crop)
            found = matching_detection(self.detector.detect(image), truth)
            if found is None:
                return NO_FACE
            crop = self.network.crop_for(found)
            return Job(extract_crop(image, crop, size), crop, image, found)
        except InputError as error:
            if not self.allow_missing:
                raise InputError(f"{error}; {MISSING_HINT}") from error
            return str(error)


def matching_detection(detections: list[Detection], truth: NDArray[Any]) -> Detection | None:
    """The detection that overlaps the box of the true landmarks best, if any does enough."""

    def overlap(detection: Detection) -> float:
        return box_iou(detection.box, points_box(truth))

    best = max(detections, key=overlap, default=None)
    return best if best is not None and overlap(best) >= MIN_OVERLAP else None


def reconstruct(jobs: list[Job], network: FaceReconstructor, two_pass: bool) -> list[Face]:
    """The faces of ``jobs``; with ``two_pass`` cropped again as in ``sadr reconstruct``."""
    if not jobs:
        return []

    def crop_again(chosen: list[int], crops: list[Crop]) -> list[Face]:
        pairs = zip(chosen, crops, strict=True)
        pixels = [extract_crop(jobs[k].image, c, network.crop_resolution) for k, c in pairs]
        return network.reconstruct_crops(pixels, crops, [jobs[k].detection for k in chosen])

    pixels, crops, found = zip(*((j.pixels, j.crop, j.detection) for j in jobs), strict=True)
    faces = network.reconstruct_crops(pixels, crops, found)
    return second_pass(faces, crop_again) if two_pass else faces


def _run_part(
    jobs: list[Job | str], network: FaceReconstructor, two_pass: bool, dense: bool
) -> dict[str, NDArray[Any]]:
    """The arrays of a part: one row per image, NaN where there is no face."""
    ready = {k: job for k, job in enumerate(jobs) if isinstance(job, Job)}
    faces = reconstruct(list(ready.values()), network, two_pass)
    shapes: dict[str, tuple[int, ...]] = {
        "landmarks": (68, 3), "landmarks_p": (68, 3), "landmarks_contour": (68, 3),
        "landmark_visibility": (68,), "confidence": (), "rotation": (3, 3), "crop": (4,),
    }  # fmt: skip
    if dense:
        shapes["vertices"] = (network.uv.vertex_count, 3)
    out: dict[str, NDArray[Any]] = {}
    for key, shape in shapes.items():
        dtype = np.float64 if key in ("rotation", "crop") else np.float32
        out[key] = np.full((len(jobs), *shape), np.nan, dtype)
    for k, face in zip(ready, faces, strict=True):
        out["landmarks"][k] = face.landmarks
        out["landmarks_p"][k] = face.pose_face[network.uv.landmark_indices]
        out["landmarks_contour"][k] = contour_landmarks(face.vertices, network.uv)
        out["landmark_visibility"][k] = face.landmark_visibility
        out["confidence"][k] = face.confidence
        out["rotation"][k] = face.rotation
        crop = face.crop
        out["crop"][k] = crop.center_x, crop.center_y, crop.size, crop.angle
        if dense:
            out["vertices"][k] = face.vertices
    out["reason"] = np.array([job if isinstance(job, str) else "" for job in jobs], dtype=str)
    return out


def cache_key(network: FaceReconstructor, **inputs: Any) -> str:
    """A name in the cache for what ``network`` computes from ``inputs`` (JSON values)."""
    if not network.info.sha256:
        raise UsageError("the weights have no checksum, so cached results cannot be identified")
    what = {
        "weights": network.info.sha256,
        "alignment": str(getattr(network, "alignment", "")),
        "flip": bool(getattr(network, "flip", False)),
        **inputs,
    }
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:16]


def read_cached(path: Path, root: Path) -> dict[str, NDArray[Any]] | None:
    """The arrays of a cache file below ``root``; None where it is missing or damaged."""
    try:
        with open_file(path, root) as opened, np.load(opened, allow_pickle=False) as file:
            return {key: file[key] for key in file.files}
    except Exception:  # damaged files raise many types
        return None


def _join(parts: list[dict[str, NDArray[Any]]], name: str) -> NDArray[Any]:
    """One array of all parts. Frees each part's own on the way: vertices take gigabytes."""
    dtype = np.result_type(*(part[name] for part in parts))
    total = sum(len(part[name]) for part in parts)
    out = np.empty((total, *parts[0][name].shape[1:]), dtype)
    start = 0
    for part in parts:
        values = part.pop(name)
        out[start : start + len(values)] = values
        start += len(values)
    return out


def _stamp(path: Path | None) -> tuple[int, int]:
    """Size and modification time of an image: when they change, its part is computed again."""
    try:
        if path is not None:
            status = path.stat()
            return status.st_size, status.st_mtime_ns
    except OSError:
        pass
    return -1, -1
