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
from sadr_cli.evaluation.data.predictions import Predictions
from sadr_cli.faces import Crop, Detection
from sadr_cli.folder import open_file
from sadr_cli.passes import second_pass
from sadr_cli.protocols import FaceDetector, FaceReconstructor
from sadr_cli.render.contour import contour_landmarks

PART = 64  # images per part: at most these are computed again after an interruption
MIN_OVERLAP = 0.3  # least IoU of a detection with the true box
CONTENT = 4  # increased whenever the content of a part changes
NO_FACE = "the detector found no face at the true one"


@dataclass(frozen=True)
class _Job:
    """One image, ready for the network; ``reason``: why it cannot be processed."""

    index: int
    image: NDArray[np.uint8] | None = None
    pixels: NDArray[np.uint8] | None = None
    crop: Crop | None = None
    detection: Detection | None = None
    reason: str = ""


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
    merged = {name: _join([parts[start] for start in starts], name) for name in list(parts[0])}
    del merged["stamp"]
    reasons = {
        name: str(reason)
        for name, reason in zip(benchmark.names, merged.pop("reason"), strict=True)
        if reason
    }
    # The documented npz, for ``--predictions`` and ``--compare``.
    small = {key: value for key, value in merged.items() if key != "vertices"}
    names = np.array(benchmark.names)
    write_npz(out / "predictions.npz", {"name": names, **small}, compressed=True)
    return Predictions(
        landmarks=merged["landmarks"].astype(float),
        rotation=merged["rotation"].astype(float),
        vertices=merged.get("vertices"),
        landmarks_p=merged["landmarks_p"].astype(float),
        landmarks_contour=merged["landmarks_contour"].astype(float),
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

    def parts(self, starts: list[int]) -> Iterator[tuple[int, list[_Job]]]:
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
            queue: list[tuple[int, list[Future[_Job]]]] = []
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

    def _job(self, index: int) -> _Job:
        path = self.benchmark.images[index]
        truth = self.benchmark.landmarks[index]
        try:
            if path is None:
                raise InputError(f"no picture of {self.benchmark.names[index]}")
            image, found = read_image(path), None
            if self.detector is None:
                crop = crop_from_landmarks(truth)
            else:
                found = matching_detection(self.detector.detect(image), truth)
                if found is None:
                    return _Job(index, reason=NO_FACE)
                crop = self.network.crop_for(found)
        except InputError as error:
            if not self.allow_missing:
                raise InputError(f"{error}; {MISSING_HINT}") from error
            return _Job(index, reason=str(error))
        pixels = extract_crop(image, crop, self.network.crop_resolution)
        # The image itself is needed again only for the second pass.
        return _Job(index, image if self.detector is not None else None, pixels, crop, found)


def matching_detection(detections: list[Detection], truth: NDArray[Any]) -> Detection | None:
    """The detection that overlaps the box of the true landmarks best, if any does enough."""

    def overlap(detection: Detection) -> float:
        return box_iou(detection.box, points_box(truth))

    best = max(detections, key=overlap, default=None)
    return best if best is not None and overlap(best) >= MIN_OVERLAP else None


def _run_part(
    jobs: list[_Job], network: FaceReconstructor, two_pass: bool, dense: bool
) -> dict[str, NDArray[Any]]:
    ready = [job for job in jobs if job.pixels is not None and job.crop is not None]
    crops = [job.crop for job in ready if job.crop is not None]
    pixels = [job.pixels for job in ready if job.pixels is not None]
    detections = [job.detection for job in ready]
    faces = network.reconstruct_crops(pixels, crops, detections) if ready else []
    if two_pass:
        images = [job.image for job in ready if job.image is not None]
        size = network.crop_resolution
        faces = second_pass(
            faces,
            lambda ks, again: network.reconstruct_crops(
                [extract_crop(images[k], crop, size) for k, crop in zip(ks, again, strict=True)],
                again,
                [detections[k] for k in ks],
            ),
        )
    row = {job.index: k for k, job in enumerate(ready)}
    n = len(jobs)
    out: dict[str, NDArray[Any]] = {
        "reason": np.array([job.reason for job in jobs], dtype=str),
        "landmarks": np.full((n, 68, 3), np.nan, np.float32),
        "landmarks_p": np.full((n, 68, 3), np.nan, np.float32),
        "landmarks_contour": np.full((n, 68, 3), np.nan, np.float32),
        "rotation": np.full((n, 3, 3), np.nan),
        "landmark_visibility": np.full((n, 68), np.nan, np.float32),
        "confidence": np.full(n, np.nan, np.float32),
        "crop": np.full((n, 4), np.nan),
    }
    if dense:
        out["vertices"] = np.full((n, network.uv.vertex_count, 3), np.nan, np.float32)
    for k, job in enumerate(jobs):
        if job.index not in row:
            continue
        face = faces[row[job.index]]
        out["landmarks"][k] = face.landmarks
        out["landmarks_p"][k] = face.pose_face[network.uv.landmark_indices]
        out["landmarks_contour"][k] = contour_landmarks(face.vertices, network.uv)
        out["rotation"][k] = face.rotation
        out["landmark_visibility"][k] = face.landmark_visibility
        out["confidence"][k] = face.confidence
        crop = face.crop
        out["crop"][k] = crop.center_x, crop.center_y, crop.size, crop.angle
        if dense:
            out["vertices"][k] = face.vertices
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
