"""The record that every benchmark is read into: images and ground truth."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from sadr_cli.errors import InputError, MissingDataError
from sadr_cli.sources.images import undecoded

Array = NDArray[np.float64]
T = TypeVar("T")

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
MISSING_HINT = "use --allow-missing to leave such images out and count them"


@dataclass(frozen=True, eq=False)
class Parameters:
    """The parameters in 300W-LP / AFLW2000-3D ``.mat`` files that define the dense truth.

    shape (N, 199), expression (N, 29): BFM coefficients; pose (N, 7): pitch, yaw, roll in
    radians, tx, ty, tz, f.
    """

    shape: Array
    expression: Array
    pose: Array


@dataclass(frozen=True, eq=False, kw_only=True)
class Benchmark:
    """The ground truth of N images, sorted by name.

    names: unique, without suffix, relative to the folder, with ``/``.
    images: (N,) the image file of each name, None where there is none.
    landmarks: (N, 68, 2 or 3) pixels of the image, y down; 3-D where ``dimensions`` is 3.
    groups: (N,) subset of each image (300-W's folders), or empty.
    excluded: name -> why it was left out.
    choices: protocol choices made while reading, for the report.
    """

    name: str
    folder: Path
    names: tuple[str, ...]
    images: tuple[Path | None, ...]
    landmarks: Array
    groups: tuple[str, ...] = ()
    excluded: dict[str, str] = field(default_factory=dict)
    choices: dict[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.names)

    @property
    def dimensions(self) -> int:
        return int(self.landmarks.shape[-1])

    @property
    def list_sha256(self) -> str:
        """SHA-256 of the names, one per line in sorted order, UTF-8, with a final newline."""
        return hashlib.sha256("".join(f"{n}\n" for n in self.names).encode()).hexdigest()

    @property
    def truth_sha256(self) -> str:
        """SHA-256 of the landmarks as little-endian float64, C order, in the order of names."""
        return hashlib.sha256(np.ascontiguousarray(self.landmarks, "<f8").tobytes()).hexdigest()


@dataclass(frozen=True, eq=False, kw_only=True)
class PosedBenchmark(Benchmark):
    """A benchmark with known head poses.

    angles: (N, 3) yaw, pitch, roll in degrees (AFLW2000-3D convention).
    yaw_new: (N,) second yaw of AFLW2000-3D in degrees, or None; reannotated: (N, 68, 2) its
        second truth, or None. NaN where a name has none.
    parameters: for the dense truth, or None.
    """

    angles: Array
    yaw_new: Array | None = None
    reannotated: Array | None = None
    parameters: Parameters | None = None


def data_folder(path: Path | None, hint: str, name: str = "") -> Path:
    """``path``, or SADR_DATA/``name`` for None, if it is a folder; else MissingDataError."""
    if path is None:
        root = os.environ.get("SADR_DATA")
        if not root:
            raise MissingDataError(f"no benchmark data: {hint}")
        path = Path(root) / name
    if not path.is_dir():
        raise MissingDataError(f"no folder {path}: {hint}")
    return path


def list_files(
    folder: Path, suffixes: tuple[str, ...], recursive: bool = False
) -> dict[str, list[Path]]:
    """Names (relative, without suffix) -> files with one of ``suffixes``, sorted by name."""
    found: dict[str, list[Path]] = {}
    for path in folder.rglob("*") if recursive else folder.iterdir():
        if path.suffix.lower() in suffixes and not path.name.startswith(".") and path.is_file():
            name = path.relative_to(folder).with_suffix("").as_posix()
            found.setdefault(name, []).append(path)
    return dict(sorted(found.items()))


def read_truth(
    truths: dict[str, list[Path]],
    pictures: dict[str, list[Path]],
    suffix: str,
    read: Callable[[Path], T],
    need_images: bool,
) -> tuple[dict[str, T], dict[str, str]]:
    """The result of ``read`` for each truth file, and name -> why an image cannot be used.

    truths, pictures: from :func:`list_files`. An image without truth and, with ``need_images``, a
    truth without image are problems, as are two images of one name.
    """
    records: dict[str, T] = {}
    problems: dict[str, str] = {}
    for name in sorted({*truths, *pictures}):
        if name not in truths:
            picture = pictures[name][0]
            problems[name] = f"{picture} has no {picture.stem}{suffix} beside it"
        elif need_images and name not in pictures:
            problems[name] = f"{truths[name][0]} has no image beside it"
        elif len(pictures.get(name, [])) > 1:
            both = " and ".join(p.name for p in pictures[name])
            problems[name] = f"{truths[name][0]} has two images, {both}: keep one of them"
        else:
            try:
                records[name] = read(truths[name][0])
            except MissingDataError as error:
                problems[name] = str(error)
    return records, problems


def settle(problems: dict[str, str], total: int, allow_missing: bool) -> None:
    """Raise MissingDataError for ``problems`` (name -> reason) unless ``allow_missing``."""
    if not problems:
        return
    first = next(iter(problems.values()))
    if len(problems) == total:
        raise MissingDataError(f"none of the {total} images can be used; the first: {first}")
    if not allow_missing:
        more = f" (and {len(problems) - 1} more of {total})" if len(problems) > 1 else ""
        raise MissingDataError(f"{first}{more}; {MISSING_HINT}")


def read_image(path: Path) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 RGB of the stored pixels; InputError when unreadable or truncated.

    EXIF orientation is not applied: benchmark landmarks refer to the pixels as stored.
    """
    try:
        with undecoded(path) as image:
            return np.asarray(image.convert("RGB"))
    except FileNotFoundError:
        raise InputError(f"{path} does not exist") from None
    except Exception as error:  # Pillow raises many types for damaged files
        raise InputError(f"{path} cannot be read: {error}") from error


def image_size(path: Path) -> tuple[int, int]:
    """(height, width) from the header alone; InputError when unreadable."""
    try:
        with undecoded(path) as image:
            return image.height, image.width
    except Exception as error:
        raise InputError(f"{path} cannot be read: {error}") from error
