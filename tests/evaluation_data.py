"""Made-up benchmarks for tests: small, exact, and nobody's data."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy.io import savemat
from synthetic import layout, posed_face

from sadr_cli.crop import crop_from_landmarks
from sadr_cli.evaluation.data.benchmark import PosedBenchmark
from sadr_cli.evaluation.measures.dense import UNIT
from sadr_cli.faces import Crop, Detection, Face
from sadr_cli.uv import UVLayout

HEIGHT, WIDTH = 120, 140
# yaw, pitch, roll: two faces in each bin, one beyond 99 degrees of pitch
POSES = [(0, 5, 0), (-20, 0, 10), (45, -5, 3), (-50, 8, 0), (70, 0, 4), (-80, 120, 0)]
SMALL = layout(0.35)  # about 4,400 vertices


def name_of(index: int) -> str:
    return f"image{index:05d}"


def true_faces(uv: UVLayout = SMALL) -> list[Face]:
    """The exact faces of :func:`write_aflw2000`."""
    return [posed_face(uv, *p, scale=70.0, center=(66.0 + i, 62.0)) for i, p in enumerate(POSES)]


def write_image(path: Path, seed: int = 0) -> None:
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, quality=90)


def write_aflw2000(folder: Path, uv: UVLayout = SMALL) -> list[Face]:
    """Six images with ``.mat`` files whose dense truth is ``uv.mean_shape`` in six poses."""
    folder.mkdir(parents=True, exist_ok=True)
    faces = true_faces(uv)
    for i, (face, (yaw, pitch, roll)) in enumerate(zip(faces, POSES, strict=True)):
        write_image(folder / f"{name_of(i)}.jpg", i)
        # p = f R S + t and y = height - y give the face's y back
        t = face.translation + np.array([0, HEIGHT, 0])
        pose = [*np.deg2rad([pitch, yaw, roll]), *t, face.scale * UNIT]
        savemat(
            folder / f"{name_of(i)}.mat",
            {
                "pt3d_68": face.landmarks.T,
                "Pose_Para": np.array([pose]),
                "Shape_Para": np.zeros((199, 1)),
                "Exp_Para": np.zeros((29, 1)),
            },
        )
    return faces


def write_face_model(path: Path, uv: UVLayout = SMALL, columns: int = 3, **more: Any) -> Path:
    """A face model of the layout with a random basis, the last column expression."""
    rng = np.random.default_rng(7)
    np.savez(
        path,
        mask=uv.mask,
        region=uv.region,
        kpt=uv.kpt,
        mean=uv.mean_shape,
        basis=rng.normal(0, 0.01, (uv.vertex_count, 3, columns)).astype(np.float32),
        sigma=np.arange(1, columns + 1, dtype=np.float32),
        **{"identities": columns - 1, **more},
    )
    return path


def write_bfm(
    folder: Path, layout: UVLayout = SMALL, names: str = "face3d", k: tuple[int, int] = (3, 2)
) -> dict[str, Any]:
    """BFM.mat and BFM_UV.mat whose vertices lie exactly under the layout's face pixels."""
    rng = np.random.default_rng(3)
    rows, columns = layout.rows_columns
    n = layout.vertex_count
    mean = layout.mean_shape.astype(float).ravel() / UNIT
    mu_exp = rng.normal(0, 100, 3 * n)
    arrays = {
        "shapeMU": (mean - mu_exp)[:, None],
        "shapePC": rng.normal(0, 1e-3, (3 * n, k[0])),
        "shapeEV": rng.uniform(1e5, 1e6, (k[0], 1)),
        "expMU": mu_exp[:, None],
        "expPC": rng.normal(0, 1e-3, (3 * n, k[1])),
        "expEV": rng.uniform(0.1, 2, (k[1], 1)),
        "tri": layout.triangles.T + 1,
    }
    uv = np.stack([columns / 255, 1 - rows / 255], 1)
    if names == "3ddfa":
        old = {"shapeMU": "mu_shape", "shapePC": "w", "shapeEV": "sigma", "expMU": "mu_exp",
               "expPC": "w_exp", "expEV": "sigma_exp", "tri": "tri"}  # fmt: skip
        savemat(folder / "BFM.mat", {old[key]: value for key, value in arrays.items()})
    else:
        savemat(folder / "BFM.mat", {"model": arrays})
    savemat(folder / "BFM_UV.mat", {"UV": uv})
    return arrays


def write_predictions(
    path: Path, faces: list[Face], names: list[str] | None = None, dense: bool = False
) -> Path:
    arrays: dict[str, Any] = {
        "name": np.array(names or [name_of(i) for i in range(len(faces))]),
        "landmarks": np.stack([f.landmarks for f in faces]),
        "rotation": np.stack([f.rotation for f in faces]),
    }
    if dense:
        arrays["vertices"] = np.stack([f.vertices for f in faces])
    np.savez(path, **arrays)
    return path


def write_pts(path: Path, points: np.ndarray, header: bool) -> None:
    lines = [f"{x:.4f} {y:.4f}" for x, y in points]
    if header:
        lines = ["version: 1", "n_points:  68", "{", *lines, "}"]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_300w(folder: Path, points: list[np.ndarray], header: bool = True) -> Path:
    """Pictures with the ``.pts`` files of ``points`` (68, 2 or more) each."""
    folder.mkdir(exist_ok=True)
    for i, p in enumerate(points):
        write_pts(folder / f"{name_of(i)}.pts", p[:, :2], header)
        write_image(folder / f"{name_of(i)}.png", i)
    return folder


@dataclass
class Info:
    name: str = "fake"
    sha256: str = "ab" * 32


@dataclass
class FakeNetwork:
    """Answers with the known face whose crop is nearest to the one asked for."""

    faces: list[Face]
    uv: UVLayout = SMALL
    crop_resolution: int = 64
    info: Info = field(default_factory=Info)
    calls: int = 0
    attention: Any = None

    def crop_for(self, detection: Detection) -> Crop:
        return crop_from_landmarks(np.asarray(detection.box, float).reshape(2, 2))

    def reconstruct_crops(self, images: Any, crops: Any, detections: Any = None) -> list[Face]:
        assert all(i.shape == (self.crop_resolution, self.crop_resolution, 3) for i in images)
        self.calls += 1
        return [self._face(crop) for crop in crops]

    def _face(self, crop: Crop) -> Face:
        def distance(face: Face) -> float:
            own = crop_from_landmarks(face.landmarks)
            return abs(own.center_x - crop.center_x) + abs(own.center_y - crop.center_y)

        return min(self.faces, key=distance)


def benchmark_of(faces: list[Face], images: list[Path | None] | None = None) -> PosedBenchmark:
    return PosedBenchmark(
        name="made-up",
        folder=Path(),
        names=tuple(name_of(i) for i in range(len(faces))),
        images=tuple(images or [None] * len(faces)),
        landmarks=np.stack([f.landmarks for f in faces]),
        angles=np.array(POSES[: len(faces)], float),
    )
