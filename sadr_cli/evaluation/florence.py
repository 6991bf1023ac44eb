"""The paper's Florence protocol (IV-C, Table II), for Florence or any folder of textured scans.

Each scan is rendered in 20 views, pitch -15, 0, 20, 25 by yaw -80, -40, 0, 40, 80 degrees; the
network reconstructs each; the 19,000 vertices of its face nearest to the nose tip (86 mm on the
mean template) are brought onto the scan by rigid ICP; the error is their mean distance to the
scan's surface over the scan's 3-D outer-eye distance. Beside it stands the way back, from 19,000
visible points of the scan within the same distance of its nose tip to the reconstructed surface,
which a face that lies flat on some part of the head cannot make small.

Scans: every OBJ, PLY or WRL file in and below the folder is a subject. Landmarks beside a scan
(see :func:`sadr_cli.evaluation.data.scans.read_landmarks`) give the eye distance and the crop;
without them they are found in the frontal view by detector and network and lifted onto the scan.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from sadr_cli.crop import crop_from_landmarks, extract_crop
from sadr_cli.errors import MissingDataError, NothingToDoError, UsageError
from sadr_cli.evaluation.data.benchmark import Array, Benchmark, data_folder, list_files, settle
from sadr_cli.evaluation.data.predictions import Predictions
from sadr_cli.evaluation.data.scans import (
    SCAN_SUFFIXES,
    Scan,
    ScanLandmarks,
    View,
    flip_texture,
    ordered_landmarks,
    read_landmarks,
    read_scan,
    render,
    sample_surface,
    seen_from,
)
from sadr_cli.evaluation.inference import NO_FACE, matching_detection
from sadr_cli.evaluation.measures.metrics import (
    LEFT_OUTER_EYE,
    NOSE_TIP,
    RIGHT_OUTER_EYE,
    similarity,
    transform,
)
from sadr_cli.evaluation.measures.scoring import Scores, ced_figures
from sadr_cli.evaluation.measures.surface import Surface, icp_to_surface, surface_error
from sadr_cli.evaluation.report.record import Entry, Report
from sadr_cli.faces import Crop, Face
from sadr_cli.files import atomic_write, check_writable, make_folder
from sadr_cli.passes import second_pass
from sadr_cli.uv import UVLayout
from sadr_cli.version import __version__

FOLDER = "Florence"
PITCHES, YAWS = (-15.0, 0.0, 20.0, 25.0), (-80.0, -40.0, 0.0, 40.0, 80.0)
REGION = 19_000  # vertices
SIZE, EYE_PIXELS = 512, 110.0  # of the rendered pictures
CONTENT = 2  # counts up when what is kept of a scan changes
HINT = (
    "ask for the Florence 2D/3D face dataset at www.micc.unifi.it/resources/datasets, unpack it "
    "so that each subject's scan (OBJ, PLY or WRL) lies beside its texture, and name the folder "
    f"with --data, or put it at SADR_DATA/{FOLDER}"
)
PROTOCOL = {
    "views": "pitch -15, 0, 20, 25 by yaw -80, -40, 0, 40, 80 degrees, orthographic, "
    f"{SIZE} pixels, outer-eye distance {EYE_PIXELS:.0f} pixels",
    "renderer": "own NumPy z-buffer rasteriser with texture look-up (no GPU, no display)",
    "region": f"the {REGION} vertices nearest to the nose tip of the mean template",
    "error": "rigid ICP (closest points on the scan's surface), then mean distance to the "
    "surface / 3-D outer-eye distance of the scan, percent",
    "way back": f"mean distance of {REGION} visible points of the scan around its nose tip to the "
    "aligned face, the same normaliser; a check, not the paper's figure",
}


def face_region(uv: UVLayout, count: int = REGION) -> NDArray[np.intp]:
    """(count,) indices of the vertices nearest to the nose tip of the mean template."""
    mean = np.asarray(uv.mean_shape, float)
    distance = np.linalg.norm(mean - mean[uv.landmark_indices[NOSE_TIP]], axis=1)
    return np.sort(np.argsort(distance, kind="stable")[:count])


def views_of(landmarks: ScanLandmarks) -> list[View]:
    """The protocol's 20 cameras around the middle of the landmarks' box."""
    points = landmarks.points
    center = (points.min(0) + points.max(0)) / 2
    scale = EYE_PIXELS / landmarks.eye_distance
    x, y, z = (float(v) for v in center)
    return [View(p, yaw, scale, (x, y, z), SIZE) for p in PITCHES for yaw in YAWS]


@dataclass(frozen=True, eq=False)
class ScanTruth:
    """A scan made ready: its surface, and its face as evenly spread visible points (P, 3)."""

    scan: Scan
    landmarks: ScanLandmarks
    surface: Surface
    face: Array

    @classmethod
    def prepare(cls, scan: Scan, landmarks: ScanLandmarks, uv: UVLayout) -> ScanTruth:
        mean = np.asarray(uv.mean_shape, float)[uv.landmark_indices]
        eyes = float(np.linalg.norm(mean[LEFT_OUTER_EYE] - mean[RIGHT_OUTER_EYE]))
        reach = np.asarray(uv.mean_shape, float)[face_region(uv)] - mean[NOSE_TIP]
        radius = float(np.linalg.norm(reach, axis=1).max()) / eyes * landmarks.eye_distance
        surface = Surface(scan.vertices, scan.triangles, landmarks.eye_distance)
        # More than are needed: what lies inside (mouth, eye sockets) is no part of the face.
        points = sample_surface(scan, landmarks.nose_tip, radius, 4 * REGION)
        views = [v for v in views_of(landmarks) if v.pitch == 0]
        face = points[np.any([seen_from(v, scan, points) for v in views], axis=0)][:REGION]
        if not len(face):
            raise MissingDataError(f"scan {scan.name} has no visible surface around its nose tip")
        return cls(scan, landmarks, surface, face)


def view_errors(
    face: Face, truth: ScanTruth, view: View, depth: NDArray[np.float32], uv: UVLayout
) -> tuple[float, float]:
    """Reconstruction error of one view and the way back, percent of the eye distance."""
    vertices = np.asarray(face.vertices, float).copy()
    # A photo has no origin of depth: start ICP where the seen landmarks meet the picture's depth.
    xy = np.clip(np.rint(face.landmarks[:, :2]).astype(int), 0, view.size - 1)
    seen = depth[xy[:, 1], xy[:, 0]]
    difference = (seen - face.landmarks[:, 2])[np.isfinite(seen)]
    if len(difference):
        vertices[:, 2] += np.median(difference)
    else:
        vertices[:, 2] += view.project(truth.face)[:, 2].mean() - vertices[:, 2].mean()
    eyes = truth.landmarks.eye_distance
    lifted = view.lift(vertices)
    region = lifted[face_region(uv)]
    aligned = icp_to_surface(region, truth.surface, reach=0.25 * eyes)
    whole = transform(lifted, *similarity(region, aligned, with_scale=False))
    back = Surface(whole, uv.triangles, eyes)
    return (
        surface_error(aligned, truth.surface, eyes, align=False),
        surface_error(truth.face, back, eyes, align=False),
    )


def find_landmarks(scan: Scan, network: Any, detector: Any) -> tuple[Scan, ScanLandmarks]:
    """Landmarks from the frontal view, lifted onto the scan where it has depth there.

    Where no face is found, the texture is tried once more with its v counted downwards; the
    scan is returned as it showed a face.
    """
    low, high = scan.vertices.min(0), scan.vertices.max(0)
    x, y, z = (float(v) for v in (low + high) / 2)
    scale = 0.9 * SIZE / float((high - low)[:2].max())
    view = View(0.0, 0.0, scale, (x, y, z), SIZE)
    source = "estimated from the frontal view"
    picture, depth = render(scan, view)
    faces = detector.detect(picture)
    if not faces and scan.coordinates is not None:
        scan = flip_texture(scan)
        source += ", texture turned upside down"
        picture, depth = render(scan, view)
        faces = detector.detect(picture)
    if not faces:
        raise MissingDataError(
            f"no face in the frontal view of scan {scan.name}: it must stand upright, y up and "
            "facing along z, or have its landmarks beside it"
        )
    crop = network.crop_for(max(faces, key=lambda d: d.size))
    (face,) = _reconstruct(network, [picture], [crop], two_pass=True)
    if face is None or not np.isfinite(face.landmarks).all():
        raise MissingDataError(f"no landmarks in the frontal view of scan {scan.name}")
    points = np.asarray(face.landmarks, float).copy()
    column, row = np.clip(np.rint(points[:, :2]).astype(int), 0, SIZE - 1).T
    seen = depth[row, column]
    there = np.isfinite(seen)
    if there.any():
        offset = float(np.median(seen[there] - points[there, 2]))
        points[:, 2] = np.where(there, seen, points[:, 2] + offset)
    return scan, ordered_landmarks(view.lift(points), source)


def find_scans(data: Path | None) -> tuple[Path, dict[str, Path]]:
    """The folder and its subjects: name -> scan file."""
    folder = data_folder(data, HINT, FOLDER)
    files = list_files(folder, SCAN_SUFFIXES, recursive=True)
    if not files:
        raise MissingDataError(f"no OBJ, PLY or WRL scan in {folder}: {HINT}")
    return folder, {name: paths[0] for name, paths in files.items()}


def evaluate_florence(
    settings: Any, progress: Callable[[str, int, int], None] = lambda stage, done, total: None
) -> Report:
    """Run the protocol over a folder of scans."""
    from sadr_cli.evaluation.run import check_settings, make_detector, make_network, weights_info

    check_settings(settings)
    for option in ("predictions", "compare", "face_model", "occlusion"):
        if getattr(settings, option):
            name = option.replace("_", "-")
            raise UsageError(f"--{name} does not go with florence: its views are rendered here")
    folder, files = find_scans(settings.data)
    network = make_network(settings)
    detector = make_detector(settings)
    check_writable(settings.out)
    subjects: dict[str, dict[str, NDArray[Any]]] = {}
    problems: dict[str, str] = {}
    for done, (name, path) in enumerate(files.items()):
        try:
            subjects[name] = _subject(name, path, settings, network, detector)
        except MissingDataError as error:
            problems[name] = str(error)
            settle(problems, len(files) + 1, settings.allow_missing)
        progress("Scans", done + 1, len(files))
    settle(problems, len(files), settings.allow_missing)
    names = [f"{s}/pitch{p:+.0f}_yaw{y:+.0f}" for s in subjects for p in PITCHES for y in YAWS]
    views = np.array([(y, p, 0.0) for _ in subjects for p in PITCHES for y in YAWS])
    joined = {k: np.concatenate([s[k] for s in subjects.values()]) for k in _ARRAYS}
    errors = joined["error"]
    if not np.isfinite(errors).any():
        raise NothingToDoError(f"no face was found in any view of the {len(files)} scans")
    benchmark = Benchmark(
        name="florence",
        folder=folder,
        names=tuple(names),
        images=tuple(Path(str(p)) for p in joined["picture"]),
        landmarks=joined["truth"],
        angles=views,
        groups=tuple(s for s in subjects for _ in range(len(PITCHES) * len(YAWS))),
        excluded=problems,
        choices={f"landmarks of {n}": str(s["source"][0]) for n, s in subjects.items()},
    )
    reasons = {n: NO_FACE for n, e in zip(names, errors, strict=True) if not np.isfinite(e)}
    crop = "truth" if settings.crop == "truth" else f"detector {settings.detector}"
    predictions = Predictions(joined["landmarks"], reasons=reasons, details={"crop": crop})
    per_image = {"reconstruction": errors, "way_back": joined["back"]}
    results = {key: summarise_views(values, benchmark) for key, values in per_image.items()}
    scores = Scores(per_image, results)
    entry = Entry(
        f"sadr {network.info.name}",
        predictions,
        scores,
        {"kind": "network", "weights": weights_info(network)},
    )
    return Report(benchmark, (entry,), __version__, protocol=PROTOCOL, main="reconstruction")


def summarise_views(errors: NDArray[np.float64], benchmark: Benchmark) -> dict[str, Any]:
    """Mean by view, by subject, and over all."""
    assert benchmark.angles is not None
    yaw, pitch = benchmark.angles[:, 0], benchmark.angles[:, 1]

    def mean(which: NDArray[np.bool_]) -> float:
        part = errors[which & np.isfinite(errors)]
        return float(part.mean()) if part.size else float("nan")

    groups = np.array(benchmark.groups)
    return {
        "by view": {
            f"pitch {p:+.0f}": {f"yaw {y:+.0f}": mean((pitch == p) & (yaw == y)) for y in YAWS}
            for p in PITCHES
        },
        "by yaw": {f"{y:+.0f}": mean(yaw == y) for y in YAWS},
        "by subject": {s: mean(groups == s) for s in dict.fromkeys(benchmark.groups)},
        "all": ced_figures(errors),
    }


_ARRAYS = ("error", "back", "landmarks", "truth", "picture", "source")


def _subject(
    name: str, path: Path, settings: Any, network: Any, detector: Any
) -> dict[str, NDArray[Any]]:
    """Errors of the 20 views; kept in the cache of the output folder."""
    beside = [path.with_suffix(s) for s in (".txt", ".lm3", ".ljson")]
    what = {
        "scan": hashlib.sha256(path.read_bytes()).hexdigest(),
        "landmarks": [hashlib.sha256(p.read_bytes()).hexdigest() for p in beside if p.is_file()],
        "weights": network.info.sha256,
        "alignment": str(getattr(network, "alignment", "")),
        "flip": bool(getattr(network, "flip", False)),
        "crop": settings.crop,
        "detector": settings.detector,
        "protocol": PROTOCOL,
        "content": CONTENT,
        "sadr": __version__,
    }
    key = hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:16]
    stem = name.replace("/", "_")
    cached = settings.out / "cache" / f"scan-{key}.npz"
    pictures = settings.out / "views"
    try:
        with cached.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            found = {k: file[k] for k in _ARRAYS}
            if all(Path(str(p)).is_file() for p in found["picture"]):
                return found
    except Exception:  # not there, or damaged: compute it
        pass
    make_folder(pictures)
    make_folder(cached.parent)
    scan = read_scan(path, name)
    landmarks = read_landmarks(path)
    if landmarks is None:
        scan, landmarks = find_landmarks(scan, network, detector())
    truth = ScanTruth.prepare(scan, landmarks, network.uv)
    views = views_of(landmarks)
    rendered = [render(scan, view) for view in views]
    boxes = [view.project(landmarks.points) for view in views]
    crops: list[Crop | None] = []
    for (picture, _), points in zip(rendered, boxes, strict=True):
        if settings.crop == "truth":
            crops.append(crop_from_landmarks(points))
        else:
            match = matching_detection(detector().detect(picture), points)
            crops.append(None if match is None else network.crop_for(match))
    faces = _reconstruct(network, [r[0] for r in rendered], crops, settings.crop == "detector")
    out: dict[str, list[Any]] = {k: [] for k in _ARRAYS}
    for view, (picture, depth), points, face in zip(views, rendered, boxes, faces, strict=True):
        errors = (np.nan, np.nan)
        if face is not None:
            errors = view_errors(face, truth, view, depth, network.uv)
        file = pictures / f"{stem}_pitch{view.pitch:+.0f}_yaw{view.yaw:+.0f}.jpg"
        done, data = cv2.imencode(".jpg", picture[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 92])
        assert done
        atomic_write(file, data.tobytes())
        out["error"].append(errors[0])
        out["back"].append(errors[1])
        nothing = np.full((68, 3), np.nan)
        out["landmarks"].append(nothing if face is None else np.asarray(face.landmarks, float))
        out["truth"].append(points if landmarks.ordered else nothing)
        out["picture"].append(str(file))
        out["source"].append(landmarks.source)
    arrays = {k: np.array(v) for k, v in out.items()}
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    atomic_write(cached, buffer.getbuffer())
    return arrays


def _reconstruct(
    network: Any,
    pictures: list[NDArray[np.uint8]],
    crops: list[Crop | None],
    two_pass: bool,
) -> list[Face | None]:
    """The face of each picture; None where there is no crop."""

    def run(ks: list[int], crops: list[Crop]) -> list[Face]:
        size = network.crop_resolution
        cut = [extract_crop(pictures[k], crop, size) for k, crop in zip(ks, crops, strict=True)]
        return list(network.reconstruct_crops(cut, crops))

    faces: list[Face | None] = [None] * len(crops)
    used = {k: crop for k, crop in enumerate(crops) if crop is not None}
    if used:
        for k, face in zip(used, run(list(used), list(used.values())), strict=True):
            faces[k] = face
    return second_pass(faces, run) if two_pass else faces
