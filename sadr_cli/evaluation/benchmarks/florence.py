"""The paper's Florence protocol (IV-C, Table II), for Florence or any folder of textured scans.

Each scan is rendered in 20 views, pitch -15, 0, 20, 25 by yaw -80, -40, 0, 40, 80 degrees, and
reconstructed in each. The 19,000 vertices of the face nearest to the nose tip (86 mm on the mean
template) are aligned to the scan by rigid ICP; the error is their mean distance to the scan's
surface over the scan's 3-D outer-eye distance. The reverse error, from 19,000 visible points of
the scan within the same distance of its nose tip to the reconstructed surface, is reported as a
check: a face that collapses onto a part of the head cannot make it small.

Every OBJ, PLY or WRL file in or below the folder is a subject. A landmark file beside a scan
(see :func:`sadr_cli.evaluation.data.scans.read_landmarks`) gives the eye distance and the crop;
without one, detector and network find the landmarks in the frontal view, and these are projected
back onto the scan.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from sadr_cli.arrays import write_npz
from sadr_cli.crop import crop_from_landmarks, extract_crop
from sadr_cli.errors import MissingDataError, NothingToDoError
from sadr_cli.evaluation.data.benchmark import (
    Array,
    PosedBenchmark,
    data_folder,
    list_files,
    settle,
)
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
)
from sadr_cli.evaluation.inference import (
    NO_FACE,
    Job,
    cache_key,
    matching_detection,
    read_cached,
    reconstruct,
)
from sadr_cli.evaluation.measures import views
from sadr_cli.evaluation.measures.scoring import Scores, ced_figures
from sadr_cli.evaluation.measures.views import PITCHES, YAWS, ScanTruth, view_errors, views_of
from sadr_cli.evaluation.photos import described
from sadr_cli.evaluation.report import published
from sadr_cli.evaluation.report.record import Cited, Entry, PosedProtocol, Report
from sadr_cli.evaluation.report.table import Table
from sadr_cli.evaluation.settings import Settings, Tools
from sadr_cli.faces import Crop, Face
from sadr_cli.files import atomic_write, check_writable
from sadr_cli.folder import read_file
from sadr_cli.protocols import FaceDetector, FaceReconstructor
from sadr_cli.version import __version__

FOLDER = "Florence"
CONTENT = 2  # increased whenever the content of a cache file changes
HINT = (
    "ask for the Florence 2D/3D face dataset at www.micc.unifi.it/resources/datasets, unpack it "
    "so that each subject's scan (OBJ, PLY or WRL) lies beside its texture, and name the folder "
    f"with --data, or put it at SADR_DATA/{FOLDER}"
)
CHOICES = {
    "views": "pitch -15, 0, 20, 25 by yaw -80, -40, 0, 40, 80 degrees, orthographic, "
    f"{views.SIZE} pixels, outer-eye distance {views.EYE_PIXELS:.0f} pixels",
    "renderer": "own NumPy z-buffer rasteriser with texture look-up (no GPU, no display)",
    "region": f"the {views.REGION} vertices nearest to the nose tip of the mean template",
    "error": "rigid ICP (closest points on the scan's surface), then mean distance to the "
    "surface / 3-D outer-eye distance of the scan, percent",
    "way back": f"mean distance of {views.REGION} visible points of the scan around its nose tip "
    "to the aligned face, the same normaliser; a check, not the paper's figure",
}
MEASURES = {"reconstruction": "reconstruction", "way_back": "reverse"}
REFUSED = {
    option: f"--{option.replace('_', '-')} does not apply to florence, whose views are rendered"
    for option in ("predictions", "compare", "face_model", "occlusion", "jaw")
}


class Florence(PosedProtocol):
    """Scans, of which views are rendered."""

    name = "florence"
    main = "reconstruction"
    measures = MEASURES
    drawn = tuple(MEASURES)
    drawn_together = ("reconstruction",)
    refused = REFUSED

    def run(self, settings: Settings, tools: Tools) -> Report[PosedBenchmark]:
        folder, files = find_scans(settings.data)
        network = tools.network()
        check_writable(settings.out)
        subjects: dict[str, Subject] = {}
        problems: dict[str, str] = {}
        for done, (name, path) in enumerate(files.items()):
            try:
                subjects[name] = _subject(name, path, settings, network, tools)
            except MissingDataError as error:
                problems[name] = str(error)
                settle(problems, len(files) + 1, settings.allow_missing)
            tools.progress("Scans", done + 1, len(files))
        settle(problems, len(files), settings.allow_missing)
        names = [f"{s}/pitch{p:+.0f}_yaw{y:+.0f}" for s in subjects for p in PITCHES for y in YAWS]
        every = tuple(subjects.values())
        errors = np.concatenate([s.error for s in every])
        if not np.isfinite(errors).any():
            raise NothingToDoError(f"no face was found in any view of the {len(files)} scans")
        benchmark = PosedBenchmark(
            name=self.name,
            folder=folder,
            names=tuple(names),
            images=tuple(Path(str(p)) for s in every for p in s.picture),
            landmarks=np.concatenate([s.truth for s in every]),
            angles=np.array([(y, p, 0.0) for _ in subjects for p in PITCHES for y in YAWS]),
            groups=tuple(s for s in subjects for _ in range(len(PITCHES) * len(YAWS))),
            excluded=problems,
            choices={f"landmarks of {n}": str(s.source) for n, s in subjects.items()},
        )
        reasons = {n: NO_FACE for n, e in zip(names, errors, strict=True) if not np.isfinite(e)}
        crop = "truth" if settings.crop == "truth" else f"detector {settings.detector}"
        landmarks = np.concatenate([s.landmarks for s in every])
        predictions = Predictions(landmarks, reasons=reasons, details={"crop": crop})
        per_image = {
            "reconstruction": errors,
            "way_back": np.concatenate([s.reverse for s in every]),
        }
        results = {key: summarise_views(values, benchmark) for key, values in per_image.items()}
        scores = Scores(per_image, results)
        entry = Entry(f"sadr {network.info.name}", predictions, scores, described(network))
        return Report(self, benchmark, (entry,), __version__)

    def choices(self, entries: Sequence[Entry]) -> dict[str, str]:
        return CHOICES

    def cited(self, results: dict[str, Any]) -> Cited:
        s = results["reconstruction"]["all"]
        what = "mean distance to the scan after rigid ICP over the 3-D outer-eye distance"
        return Cited(what, f"{s['mean']:.2f} %", s["missing"])

    def published(self, benchmark: PosedBenchmark) -> dict[str, Any]:
        return published.records(published.ALL)

    def tables(self, report: Report[PosedBenchmark]) -> list[Table]:
        return [_subjects_table(report), _views_table(report)]


PROTOCOL = Florence()


def find_scans(data: Path | None) -> tuple[Path, dict[str, Path]]:
    """The folder and its subjects: name -> scan file."""
    folder = data_folder(data, HINT, FOLDER)
    files = list_files(folder, SCAN_SUFFIXES, recursive=True)
    if not files:
        raise MissingDataError(f"no OBJ, PLY or WRL scan in {folder}: {HINT}")
    return folder, {name: paths[0] for name, paths in files.items()}


def find_landmarks(
    scan: Scan, network: FaceReconstructor, detector: FaceDetector
) -> tuple[Scan, ScanLandmarks]:
    """Landmarks found in the frontal view, with the scan's depth where it has any.

    If no face is found, the texture is flipped vertically and tried again; returns the scan in
    which a face was found.
    """
    low, high = scan.vertices.min(0), scan.vertices.max(0)
    x, y, z = (float(v) for v in (low + high) / 2)
    scale = 0.9 * views.SIZE / float((high - low)[:2].max())
    view = View(0.0, 0.0, scale, (x, y, z), views.SIZE)
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
            f"no face in the frontal view of scan {scan.name}: it must be upright, y up and facing "
            "along z, or have a landmark file beside it"
        )
    crop = network.crop_for(max(faces, key=lambda d: d.size))
    (face,) = _reconstruct(network, [picture], [crop], two_pass=True)
    if face is None or not np.isfinite(face.landmarks).all():
        raise MissingDataError(f"no landmarks in the frontal view of scan {scan.name}")
    points = np.asarray(face.landmarks, float).copy()
    column, row = np.clip(np.rint(points[:, :2]).astype(int), 0, view.size - 1).T
    seen = depth[row, column]
    there = np.isfinite(seen)
    if there.any():
        offset = float(np.median(seen[there] - points[there, 2]))
        points[:, 2] = np.where(there, seen, points[:, 2] + offset)
    return scan, ordered_landmarks(view.lift(points), source)


def summarise_views(errors: Array, benchmark: PosedBenchmark) -> dict[str, Any]:
    """Mean by view, by subject, and over all."""
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


@dataclass(frozen=True, eq=False)
class Subject:
    """The results of one scan, cached in the output folder.

    error, reverse: (20,) percent, NaN for a face not found. landmarks, truth: (20, 68, 3) pixels
    of the view; truth is NaN where the scan's landmarks are not the 68. picture: (20,) paths.
    source: where the landmarks come from.
    """

    error: Array
    reverse: Array
    landmarks: Array
    truth: Array
    picture: NDArray[np.str_]
    source: NDArray[np.str_]

    @classmethod
    def read(cls, path: Path, root: Path) -> Subject | None:
        """None where the file or one of its pictures is missing or damaged."""
        arrays = read_cached(path, root)
        if arrays is None or arrays.keys() != {field.name for field in fields(cls)}:
            return None
        found = cls(**arrays)
        return found if all(Path(str(p)).is_file() for p in found.picture) else None


def _subject(
    name: str, path: Path, settings: Settings, network: FaceReconstructor, tools: Tools
) -> Subject:
    """The errors of the 20 views, read from the cache or computed."""
    cached = settings.out / "cache" / f"scan-{_key(path, settings, network)}.npz"
    found = Subject.read(cached, settings.out)
    if found is not None:
        return found
    pictures = settings.out / "views"
    scan = read_scan(path, name)
    landmarks = read_landmarks(path)
    if landmarks is None:
        scan, landmarks = find_landmarks(scan, network, tools.detector())
    truth = ScanTruth.prepare(scan, landmarks, network.uv)
    cameras = views_of(landmarks)
    rendered = [render(scan, view) for view in cameras]
    points = [view.project(landmarks.points) for view in cameras]
    crops: list[Crop | None] = []
    for (picture, _), box in zip(rendered, points, strict=True):
        if settings.crop == "truth":
            crops.append(crop_from_landmarks(box))
        else:
            match = matching_detection(tools.detector().detect(picture), box)
            crops.append(None if match is None else network.crop_for(match))
    faces = _reconstruct(network, [r[0] for r in rendered], crops, settings.crop == "detector")
    nothing = np.full((68, 3), np.nan)
    errors: list[tuple[float, float]] = []
    files: list[str] = []
    for view, (picture, depth), face in zip(cameras, rendered, faces, strict=True):
        errors.append((np.nan, np.nan))
        if face is not None:
            errors[-1] = view_errors(face, truth, view, depth, network.uv)
        stem = name.replace("/", "_")
        files.append(str(pictures / f"{stem}_pitch{view.pitch:+.0f}_yaw{view.yaw:+.0f}.jpg"))
        done, data = cv2.imencode(".jpg", picture[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 92])
        assert done
        atomic_write(Path(files[-1]), data.tobytes(), root=settings.out)
    forward, reverse = np.array(errors).T
    subject = Subject(
        error=forward,
        reverse=reverse,
        landmarks=np.array([nothing if f is None else f.landmarks for f in faces], float),
        truth=np.array(points if landmarks.ordered else [nothing] * len(points)),
        picture=np.array(files),
        source=np.array(landmarks.source),
    )
    write_npz(cached, asdict(subject), root=settings.out)
    return subject


def _key(path: Path, settings: Settings, network: FaceReconstructor) -> str:
    """Name of the cache file: it depends on everything that the errors depend on."""
    beside = [path.with_suffix(s) for s in (".txt", ".lm3", ".ljson")]
    return cache_key(
        network,
        scan=hashlib.sha256(read_file(path)).hexdigest(),
        landmarks=[hashlib.sha256(read_file(p)).hexdigest() for p in beside if p.is_file()],
        crop=settings.crop,
        detector=settings.detector,
        protocol=CHOICES,
        content=CONTENT,
        sadr=__version__,
    )


def _reconstruct(
    network: FaceReconstructor,
    pictures: list[NDArray[np.uint8]],
    crops: list[Crop | None],
    two_pass: bool,
) -> list[Face | None]:
    """The face of each picture; None where there is no crop."""
    size = network.crop_resolution
    jobs = {
        k: Job(extract_crop(picture, crop, size), crop, picture)
        for k, (picture, crop) in enumerate(zip(pictures, crops, strict=True))
        if crop is not None
    }
    faces = dict(zip(jobs, reconstruct(list(jobs.values()), network, two_pass), strict=True))
    return [faces.get(k) for k in range(len(crops))]


def _subjects_table(report: Report[PosedBenchmark]) -> Table:
    subjects = len(set(report.benchmark.groups))
    rows = [row for row in published.RECONSTRUCTION if "florence" in row.values]
    labels, sources = published.footnotes(rows)
    left_out = len(report.benchmark.excluded)
    table = Table(
        f"Reconstruction error (%) on {subjects} scans (the paper's Table II, Florence)",
        ["method", "mean", "median", "reverse", "views", "missed"],
        note=f"{sources} Published rows are over Florence's {published.FLORENCE_SUBJECTS} "
        "subjects. Reverse: from the scan to the face, a check."
        + (f" {left_out} scans left out." if left_out else ""),
    )
    for label, row in zip(labels, rows, strict=True):
        table.add([label, row.values["florence"], None, None, None, None])
    for entry in report.entries:
        results, reverse = (entry.scores.results[key] for key in MEASURES)
        s = results["all"]
        counts = [str(s["count"]), str(s["missing"])]
        table.add([entry.label, s["mean"], s["median"], reverse["all"]["mean"], *counts], ours=True)
        if subjects > 1:
            for name, value in results["by subject"].items():
                cells = [value, None, reverse["by subject"][name]]
                table.add([f"{entry.label}, {name}", *cells, None, None], ours=True)
    return table


def _views_table(report: Report[PosedBenchmark]) -> Table:
    results = report.entries[0].scores.results["reconstruction"]
    yaws = list(results["by yaw"])
    table = Table(f"{report.entries[0].label} by view (%)", ["pitch", *(f"yaw {y}" for y in yaws)])
    for pitch, row in results["by view"].items():
        table.add([pitch, *row.values()], ours=True)
    table.add(["mean", *results["by yaw"].values()], ours=True)
    return table
