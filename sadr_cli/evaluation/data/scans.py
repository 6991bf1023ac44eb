"""Textured face scans: OBJ, PLY or WRL files, their landmarks, and renderings of them.

The renderer is the package's z-buffer rasteriser in NumPy (:mod:`sadr_cli.render.rasterize`) with
a texture look-up per pixel: it needs no GPU, display or OpenGL driver and, unlike off-screen
OpenGL (EGL, OSMesa), gives the same pixels on every machine.

Scans must be upright: x to the image's right, y up, z out of the face.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from sadr_cli.errors import InputError, MissingDataError
from sadr_cli.evaluation.data.benchmark import IMAGE_SUFFIXES, Array, read_image
from sadr_cli.folder import read_file
from sadr_cli.landmarks import LEFT_OUTER_EYE, NOSE_TIP, RIGHT_OUTER_EYE
from sadr_cli.pixels import from_edge, resized
from sadr_cli.pose import euler_to_matrix
from sadr_cli.render.rasterize import rasterize
from sadr_cli.sources.window import without_programs
from sadr_cli.text import decode

SCAN_SUFFIXES = (".obj", ".ply", ".wrl")
SUPERSAMPLING = 2
_GREY = 160
_SLACK = 2.0  # depth tolerance of visible points, pixels
_PLACEHOLDER = 2  # side of the blank image that trimesh substitutes for a missing texture


@dataclass(frozen=True, eq=False)
class Scan:
    """One subject.

    vertices (V, 3), triangles (T, 3); texture (H, W, 3) uint8 RGB with texture coordinates
    (T, 3, 2), v up; or colors (V, 3) uint8; or neither (grey).
    """

    name: str
    vertices: Array
    triangles: NDArray[np.int64]
    texture: NDArray[np.uint8] | None = None
    coordinates: NDArray[np.float32] | None = None
    colors: NDArray[np.uint8] | None = None


@dataclass(frozen=True, eq=False)
class ScanLandmarks:
    """Landmarks on a scan, in its frame.

    points: (K, 3) whose box defines the crop. ordered: whether they are the 68 of 300-W in order.
    outer_eyes: (2, 3) left and right in the image. nose_tip: (3,).
    source: where they come from.
    """

    points: Array
    outer_eyes: Array
    nose_tip: Array
    ordered: bool
    source: str

    @property
    def eye_distance(self) -> float:
        return float(np.linalg.norm(self.outer_eyes[0] - self.outer_eyes[1]))


@dataclass(frozen=True)
class View:
    """An orthographic camera: image point = scale R X + (tx, ty), y down, z to the viewer.

    pitch, yaw: degrees, R = Rx(pitch) Ry(yaw) as everywhere in the package.
    """

    pitch: float
    yaw: float
    scale: float
    center: tuple[float, float, float]
    size: int

    def project(self, points: NDArray[Any]) -> Array:
        """Scan points (P, 3) -> (P, 3) pixels, y down, z towards the viewer."""
        rotation = euler_to_matrix(self.yaw, self.pitch, 0.0)
        p = self.scale * (np.asarray(points, float) - self.center) @ rotation.T
        middle = from_edge(self.size / 2)
        return p * [1, -1, 1] + [middle, middle, 0]

    def lift(self, points: NDArray[Any]) -> Array:
        """The inverse of :meth:`project`, (P, 3) -> (P, 3)."""
        middle = from_edge(self.size / 2)
        p = (np.asarray(points, float) - [middle, middle, 0]) * [1, -1, 1]
        rotation = euler_to_matrix(self.yaw, self.pitch, 0.0)
        return p @ rotation / self.scale + self.center


def render(scan: Scan, view: View) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Image (N, N, 3) RGB and depth (N, N); black and -inf where there is no surface."""
    k = SUPERSAMPLING
    vertices = view.project(scan.vertices)
    fine = vertices * k
    fine[:, :2] = resized(vertices[:, :2], k)
    side = view.size * k
    index, weights, _ = rasterize(fine, scan.triangles, side, side)
    picture = np.zeros((side, side, 3), np.float32)
    hit = index >= 0
    triangles, barycentric = index[hit], weights[hit]
    if scan.texture is not None and scan.coordinates is not None:
        uv = np.einsum("nk,nkc->nc", barycentric, scan.coordinates[triangles])
        picture[hit] = _look_up(scan.texture, uv)
    elif scan.colors is not None:
        colors = scan.colors[scan.triangles[triangles]].astype(np.float32)
        picture[hit] = np.einsum("nk,nkc->nc", barycentric, colors)
    else:
        picture[hit] = _GREY
    small = cv2.resize(picture, (view.size, view.size), interpolation=cv2.INTER_AREA)
    depth = rasterize(vertices, scan.triangles, view.size, view.size)[2]
    return np.clip(np.rint(small), 0, 255).astype(np.uint8), depth


def seen_from(view: View, scan: Scan, points: Array) -> NDArray[np.bool_]:
    """(P,) which scan points are visible in ``view``."""
    depth = rasterize(view.project(scan.vertices), scan.triangles, view.size, view.size)[2]
    projected = view.project(points)
    column, row = np.clip(np.rint(projected[:, :2]).astype(int), 0, view.size - 1).T
    return np.asarray(projected[:, 2] >= depth[row, column] - _SLACK)


def read_scan(path: Path, name: str) -> Scan:
    """Read an OBJ, PLY or WRL file with its texture; MissingDataError says what is wrong."""
    if path.suffix.lower() == ".wrl":
        scan, image = _read_wrl(path, name)
    else:
        scan, image = _read_mesh(path, name)
    good = (
        len(scan.triangles) > 0
        and np.isfinite(scan.vertices).all()
        and scan.triangles.min() >= 0
        and scan.triangles.max() < len(scan.vertices)
    )
    if not good:
        raise MissingDataError(f"{path} is damaged: it has no triangles, or vertices are missing")
    if scan.coordinates is None or scan.texture is not None:
        return scan
    image = image or _texture_beside(path)
    if image is None:
        return replace(scan, coordinates=None)
    try:
        return replace(scan, texture=read_image(image))
    except InputError as error:
        raise MissingDataError(str(error)) from error


def flip_texture(scan: Scan) -> Scan:
    """The scan with the v of its texture inverted, as some converters write it."""
    if scan.coordinates is None:
        return scan
    flipped = scan.coordinates * np.array([1, -1], np.float32) + np.array([0, 1], np.float32)
    return replace(scan, coordinates=flipped)


def read_landmarks(path: Path) -> ScanLandmarks | None:
    """Landmarks beside the scan ``path``, or None.

    ``NAME.ljson`` (menpo's LJSON, eyes labelled ``leye`` and ``reye``) or ``NAME.txt`` /
    ``NAME.lm3`` with 68 lines ``x y z`` in 300-W order.
    """
    for suffix in (".txt", ".lm3"):
        file = path.with_suffix(suffix)
        if file.is_file():
            try:
                points = np.loadtxt(file, float, ndmin=2)
            except (OSError, ValueError) as error:
                raise MissingDataError(f"{file} contains no landmarks: {error}") from error
            if points.shape != (68, 3) or not np.isfinite(points).all():
                raise MissingDataError(f"{file} must contain 68 lines x y z, not {points.shape}")
            return ordered_landmarks(points, file.name)
    file = path.with_suffix(".ljson")
    return _read_ljson(file) if file.is_file() else None


def ordered_landmarks(points: Array, source: str) -> ScanLandmarks:
    """From (68, 3) points in 300-W order."""
    eyes = points[[LEFT_OUTER_EYE, RIGHT_OUTER_EYE]]
    return ScanLandmarks(points, eyes, points[NOSE_TIP], True, source)


def sample_surface(scan: Scan, center: Array, radius: float, count: int) -> Array:
    """(count, 3) points, uniform by area, on the scan within ``radius`` of ``center``."""
    a, b, c = (scan.vertices[scan.triangles[:, k]] for k in range(3))
    close = np.linalg.norm((a + b + c) / 3 - center, axis=1) < 2 * radius
    a, b, c = a[close], b[close], c[close]
    area = np.linalg.norm(np.cross(b - a, c - a), axis=1)
    if area.sum() <= 0:
        raise MissingDataError(f"scan {scan.name} has no surface around its nose tip")
    rng = np.random.default_rng(0)
    kept: list[Array] = []
    for _ in range(100):
        which = rng.choice(len(a), count, p=area / area.sum())
        u, v = rng.random((2, count, 1))
        beyond = u + v > 1
        u, v = np.where(beyond, 1 - u, u), np.where(beyond, 1 - v, v)
        points = a[which] + u * (b[which] - a[which]) + v * (c[which] - a[which])
        kept.append(points[np.linalg.norm(points - center, axis=1) <= radius])
        if sum(len(k) for k in kept) >= count:
            return np.concatenate(kept)[:count]
    raise MissingDataError(f"scan {scan.name} has too little surface around its nose tip")


def _read_ljson(file: Path) -> ScanLandmarks:
    try:
        groups = json.loads(decode(read_file(file)))["groups"]
        group = next(iter(groups.values())) if isinstance(groups, dict) else groups[0]
        points = np.array(group["landmarks"]["points"], float)
        labels = {item["label"]: item["mask"] for item in group["labels"]}
        eyes = points[[*labels["leye"], *labels["reye"]]]
    except Exception as error:  # JSON of any structure raises many types
        raise MissingDataError(
            f"{file} contains no landmarks with labelled eyes: {error}"
        ) from error
    if points.ndim != 2 or points.shape[1] != 3 or not np.isfinite(points).all():
        raise MissingDataError(f"{file} must contain finite points x y z, not {points.shape}")
    # Scans are upright: the outer corners are the outermost points of the eyes, and the nose tip
    # is the point nearest to the viewer.
    outer = eyes[[int(eyes[:, 0].argmin()), int(eyes[:, 0].argmax())]]
    return ScanLandmarks(points, outer, points[points[:, 2].argmax()], False, file.name)


def _look_up(texture: NDArray[np.uint8], uv: NDArray[Any]) -> NDArray[np.float32]:
    """(N, 3) bilinear colours at texture coordinates (N, 2), v up."""
    height, width = texture.shape[:2]
    x = from_edge(uv[:, 0] * width).astype(np.float32)
    y = from_edge((1 - uv[:, 1]) * height).astype(np.float32)
    rows = -(-len(x) // 1024)  # remap takes at most 32,767 points per row
    x2, y2 = np.resize(x, (rows, 1024)), np.resize(y, (rows, 1024))
    out = cv2.remap(
        texture, x2, y2, interpolation=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    return np.asarray(out.reshape(-1, 3)[: len(x)], np.float32)


def _read_mesh(path: Path, name: str) -> tuple[Scan, Path | None]:
    import trimesh

    try:
        with without_programs():
            mesh = trimesh.load(str(path), process=False, force="mesh")
            vertices = np.asarray(mesh.vertices, float)
            triangles = np.asarray(mesh.faces, np.int64)
            texture = _texture_of(mesh)
    except Exception as error:  # trimesh raises many types for damaged files
        raise MissingDataError(f"{path} is damaged or not a scan: {error}") from error
    uv = getattr(mesh.visual, "uv", None)
    if uv is not None and len(uv) == len(vertices) and len(triangles):
        coordinates = np.asarray(uv, np.float32)[triangles]
        return Scan(name, vertices, triangles, texture, coordinates), None
    colors = None
    if getattr(mesh.visual, "kind", None) == "vertex":
        colors = np.asarray(mesh.visual.vertex_colors, np.uint8)[:, :3]
    return Scan(name, vertices, triangles, colors=colors), None


def _texture_of(mesh: Any) -> NDArray[np.uint8] | None:
    material = getattr(mesh.visual, "material", None)
    image = getattr(material, "image", None) or getattr(material, "baseColorTexture", None)
    if image is None or min(image.size) <= _PLACEHOLDER:
        return None
    return np.asarray(image.convert("RGB"))


def _read_wrl(path: Path, name: str) -> tuple[Scan, Path | None]:
    """VRML 2: the first IndexedFaceSet with its coordinates, texture coordinates and texture."""
    try:
        text = read_file(path).decode("latin-1")
    except OSError as error:
        raise MissingDataError(f"{path} cannot be read: {error}") from error
    text = re.sub(r"#[^\n\"]*", "", text)

    def numbers(pattern: str, kind: type) -> NDArray[Any] | None:
        found = re.search(pattern + r"\s*\[([^\]]*)\]", text)
        if found is None:
            return None
        try:
            return np.array(found.group(1).replace(",", " ").split(), kind)
        except ValueError as error:
            raise MissingDataError(f"{path} is damaged: {error}") from error

    points = numbers(r"\bCoordinate\s*\{\s*point", float)
    faces = numbers(r"\bcoordIndex", np.int64)
    if points is None or faces is None or points.size % 3:
        raise MissingDataError(f"{path} contains no IndexedFaceSet with coordinates (VRML 2)")
    triangles = _fan(faces)
    uv = numbers(r"\bTextureCoordinate\s*\{\s*point", np.float32)
    coordinates = None
    if uv is not None and uv.size % 2 == 0:
        uv_faces = numbers(r"\btexCoordIndex", np.int64)
        corners = triangles if uv_faces is None else _fan(uv_faces)
        if corners.shape == triangles.shape and corners.max(initial=-1) < uv.size // 2:
            coordinates = uv.reshape(-1, 2)[corners]
    url = re.search(r"\bImageTexture\s*\{[^}]*?url\s*\[?\s*\"([^\"]+)\"", text)
    image = path.parent / Path(url.group(1).replace("\\", "/")).name if url else None
    scan = Scan(name, points.reshape(-1, 3), triangles, coordinates=coordinates)
    return scan, image if image is not None and image.is_file() else None


def _fan(indices: NDArray[Any]) -> NDArray[np.int64]:
    """Polygons, each terminated by -1 -> triangles (T, 3)."""
    out = []
    start = 0
    for end in [*np.flatnonzero(indices == -1).tolist(), len(indices)]:
        polygon = indices[start:end]
        out += [(polygon[0], polygon[k], polygon[k + 1]) for k in range(1, len(polygon) - 1)]
        start = end + 1
    return np.array(out, np.int64).reshape(-1, 3)


def _texture_beside(path: Path) -> Path | None:
    """The image with the scan's name, else the only image in its folder."""
    pictures = sorted(p for p in path.parent.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES)
    same = [p for p in pictures if p.stem == path.stem]
    if same:
        return same[0]
    return pictures[0] if len(pictures) == 1 else None
