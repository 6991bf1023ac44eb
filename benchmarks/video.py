"""Videos: speed, faces against those of single photos, jitter and lag of the smoothing.

    python benchmarks/video.py [speed] [photos] [smoothing] [--weights mobile]

Without names it prints all three, as Markdown tables.

Speed: whole runs of ``sadr reconstruct`` on a made video of 640 x 480 at 30 frames per second, one
face 190 pixels wide in motion with camera noise; by the clock of the run, which begins after the
program's own start, by the clock of the whole command, and in CPU time, the start included. Photos:
every face of ``--clip``, without smoothing, against the same frame as a photo of its own: the
largest difference of yaw, pitch and roll. Smoothing (``--photo`` may be given several times).
Still: a photo as a video of 30 frames per second with new camera noise in every frame; jitter is
the standard deviation of each landmark's coordinates over time, averaged over the 68. Moving: the
same photo shifted or rotated in the image plane along a sine; lag is the time shift with the
largest cross-correlation with the true motion, reach is the amplitude found over the true one, and
error is the mean distance to the landmarks of the still photo, moved by the true motion. All
strengths smooth the same network output. Pixels are those of a face 200 pixels wide.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
import script
from numpy.typing import NDArray
from script import head, row

from sadr_cli import Reconstructor, read_image
from sadr_cli.crop import box_iou
from sadr_cli.detection import create_detector
from sadr_cli.faces import Face
from sadr_cli.sources import SourceList, iter_frames
from sadr_cli.sources.video import pyav
from sadr_cli.video import STRENGTHS, FaceSmoother, Tracker

EXAMPLES = Path(__file__).parents[1] / "examples"
PHOTOS = EXAMPLES / "photos"
RATE, SECONDS, SETTLE = 30, 5, 1  # frames per second; seconds; seconds not measured at the start
FACE, SIDE = 200.0, 480  # pixels: width of the face's box, and of the video
NOISE = 6.0  # standard deviation of the camera noise in grey values of 255
# name -> (kind, amplitude in pixels or degrees, Hz)
MOTIONS = {
    "shift 40 px, 0.5 Hz": ("shift", 40.0, 0.5),
    "shift 40 px, 1.5 Hz": ("shift", 40.0, 1.5),
    "shift 8 px, 0.5 Hz": ("shift", 8.0, 0.5),
    "roll 15 degrees, 1 Hz": ("roll", 15.0, 1.0),
}
Array = NDArray[np.float64]
TIMES: Array = np.arange(RATE * SECONDS) / RATE
MEASURED = slice(RATE * SETTLE, None)
SHOWN = 5  # of the faces that differ most from their photos


def still(photo: Path, detector: object) -> tuple[NDArray[np.uint8], Array]:
    """The photo, and the (2, 3) matrix that maps its largest face to the centre of the video."""
    image = read_image(photo)
    found = detector.detect(image)  # type: ignore[attr-defined]
    if not found:
        sys.exit(f"no face in {photo}")
    box = max((d.box for d in found), key=lambda b: (b[2] - b[0]) * (b[3] - b[1]))
    scale = FACE / (box[2] - box[0])
    middle = scale * (box[:2] + box[2:]) / 2
    return image, np.column_stack([np.eye(2) * scale, SIDE / 2 - middle])


def motion(kind: str, amplitude: float, hertz: float) -> tuple[Array, list[Array]]:
    """The true motion (T,), and the (2, 3) matrices that move the still image accordingly."""
    truth = amplitude * np.sin(2 * np.pi * hertz * TIMES)
    if kind == "shift":
        return truth, [np.array([[1, 0, x], [0, 1, 0.0]]) for x in truth]
    # Rotated about the centre of the video; OpenCV's angles are anticlockwise, roll clockwise.
    return truth, [cv2.getRotationMatrix2D((SIDE / 2, SIDE / 2), -a, 1) for a in truth]


def network_faces(
    image: NDArray[np.uint8], matrices: Sequence[Array], network: Reconstructor, detector: object
) -> list[Face]:
    """The unsmoothed track through the video of the photo moved by ``matrices``."""
    rng = np.random.default_rng(0)
    tracker = Tracker(network, detector, "largest")  # type: ignore[arg-type]
    faces = []
    for number, matrix in enumerate(matrices):
        size, flags = (SIDE, SIDE), cv2.INTER_AREA if matrix[0, 0] < 1 else cv2.INTER_CUBIC
        clean = cv2.warpAffine(image, matrix, size, flags=flags, borderMode=cv2.BORDER_REPLICATE)
        noisy = clean + rng.normal(0, NOISE, clean.shape)
        found = tracker.step(np.clip(np.rint(noisy), 0, 255).astype(np.uint8))
        if len(found) != 1 or found[0].track != 1:
            sys.exit(f"the face was lost at frame {number}")
        faces.append(found[0].face)
    return faces


def smoothed(faces: list[Face], strength: str, network: Reconstructor) -> list[Face]:
    chosen = STRENGTHS[strength]
    if chosen is None:
        return faces
    smoother = FaceSmoother(chosen, network.uv.landmark_indices)
    return [smoother(face, float(t)) for face, t in zip(faces, TIMES, strict=True)]


def landmarks(faces: list[Face]) -> Array:
    return np.stack([np.asarray(f.landmarks, float) for f in faces])


def delay(signal: Array, truth: Array) -> float:
    """Delay of ``signal`` relative to ``truth``, in hundredths of a frame."""
    steps = np.arange(-RATE / 4, RATE / 4, 0.01)
    frames = np.arange(len(truth))
    inner = frames[MEASURED][: -RATE // 4]
    follow = signal[inner] - signal[inner].mean()
    match = [np.corrcoef(follow, np.interp(inner - s, frames, truth))[0, 1] for s in steps]
    return float(steps[int(np.argmax(match))])


def measure(photo: Path, network: Reconstructor, detector: object) -> dict[str, dict[str, Array]]:
    """The figures by strength and row of the table."""
    image, place = still(photo, detector)

    def under(matrix: Array) -> Array:
        return matrix[:, :2] @ place + np.column_stack([np.zeros((2, 2)), matrix[:, 2]])

    rest = network_faces(image, [place] * len(TIMES), network, detector)
    reference = landmarks(rest)[MEASURED, :, :2].mean(0)
    out: dict[str, dict[str, Array]] = {strength: {} for strength in STRENGTHS}
    for strength in STRENGTHS:
        calm = smoothed(rest, strength, network)[MEASURED]
        angles = np.stack([f.euler for f in calm])
        jitter = landmarks(calm)[..., :2].std(0).mean()
        out[strength]["still"] = np.array([jitter, angles.std(0).mean()])
    for name, (kind, amplitude, hertz) in MOTIONS.items():
        truth, matrices = motion(kind, amplitude, hertz)
        raw = network_faces(image, [under(m) for m in matrices], network, detector)
        moved = np.stack([reference @ m[:, :2].T + m[:, 2] for m in matrices])
        for strength in STRENGTHS:
            faces = smoothed(raw, strength, network)
            points = landmarks(faces)[..., :2]
            signal = points[..., 0].mean(1) if kind == "shift" else _roll(points)
            reach = np.std(signal[MEASURED]) / np.std(truth[MEASURED])
            error = np.linalg.norm(points - moved, axis=-1)[MEASURED].mean()
            out[strength][name] = np.array([delay(signal, truth), reach, error])
    return out


def _roll(points: Array) -> Array:
    """Degrees, clockwise, of the line between the outer corners of the eyes (T,)."""
    across = points[:, 45] - points[:, 36]
    return np.degrees(np.arctan2(across[:, 1], across[:, 0]))


def make_clip(path: Path, frames: int) -> None:
    """A video of 640 x 480 with one face that sways and turns in the plane, in camera noise."""
    photo = read_image(PHOTOS / "hopper.jpg")
    middle = np.array([photo.shape[1] / 2, 0.4 * photo.shape[0]])
    rng = np.random.default_rng(0)
    with pyav().open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=RATE)
        stream.width, stream.height, stream.pix_fmt = 640, 480, "yuv420p"
        for k in range(frames):
            wave = 2 * np.pi * k / RATE
            way = cv2.getRotationMatrix2D(tuple(middle), 6 * np.sin(0.4 * wave), 0.9)
            way[:, 2] += (320 + 40 * np.sin(0.5 * wave), 240 + 10 * np.sin(0.7 * wave)) - middle
            clean = cv2.warpAffine(photo, way, (640, 480), borderMode=cv2.BORDER_REPLICATE)
            noisy = np.clip(np.rint(clean + rng.normal(0, 4, clean.shape)), 0, 255)
            frame = pyav().VideoFrame.from_ndarray(noisy.astype(np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def speed(options: argparse.Namespace) -> Iterator[str]:
    """Frames per second and CPU time of whole runs."""
    yield from head("run", "frames", "frames/s", "frames/s, whole command", "CPU ms per frame")
    with tempfile.TemporaryDirectory() as folder:
        clip, out = Path(folder) / "clip.mp4", Path(folder) / "out"
        make_clip(clip, options.frames)
        command = [sys.executable, "-m", "sadr_cli", "reconstruct", str(clip), "--out", str(out)]
        command += ["--overwrite", "--device", options.device]
        command += ["--weights", options.weights] if options.weights else []
        for number in range(1, options.rounds + 1):
            before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
            subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
            whole, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
            cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
            run = json.loads((out / "manifest.json").read_text())["summary"]
            rates = [f"{run['frames'] / seconds:.1f}" for seconds in (run["seconds"], whole)]
            yield row(number, run["frames"], *rates, f"{1000 * cpu / run['frames']:.1f}")


def photos(options: argparse.Namespace) -> Iterator[str]:
    """The faces of a clip that differ most from those of its frames as photos."""
    network = Reconstructor(options.weights, device=options.device)
    detector = create_detector("centerface", options.device)
    tracker = Tracker(network, detector)
    found: list[tuple[float, int, int, bool]] = []  # degrees, frame, track, cut by the border
    unmatched = 0
    for frame in iter_frames(SourceList().source(options.clip)):
        alone = network.reconstruct(frame.image, detector.detect(frame.image))
        for item in tracker.step(frame.image):
            photo = max(alone, key=lambda f: box_iou(f.box, item.face.box), default=None)
            if photo is None or box_iou(photo.box, item.face.box) < 0.3:
                unmatched += 1
                continue
            off = float(np.abs(np.subtract(photo.euler_yxz, item.face.euler_yxz)).max())
            warnings = (*photo.warnings, *item.face.warnings)
            cut = any(warning.startswith("cut by the border") for warning in warnings)
            found.append((off, frame.index or 0, item.track, cut))
    found.sort(reverse=True)
    yield from head("frame", "track", "degrees", "warned: cut by the border")
    for off, number, track, cut in found[:SHOWN]:
        yield row(number, track, off, "yes" if cut else "")
    degrees = [off for off, *_ in found]
    worst = max((off for off, *_, cut in found if not cut), default=float("nan"))
    yield ""
    yield (
        f"{len(found)} faces: median {np.median(degrees):.2f} degrees, at most {worst:.2f} where "
        f"the border does not cut them; {unmatched} faces that the photo alone does not show."
    )


def smoothing(options: argparse.Namespace) -> Iterator[str]:
    """Jitter and lag, the mean over photos."""
    photos = options.photo or [PHOTOS / "hopper.jpg", PHOTOS / "astronaut.jpg"]
    network = Reconstructor(options.weights, device=options.device)
    detector = create_detector("centerface", options.device)
    results = [measure(photo, network, detector) for photo in photos]

    def cells(key: str, figure: int, decimals: int = 2) -> Iterator[str]:
        for strength in STRENGTHS:
            yield f"{np.mean([r[strength][key][figure] for r in results]):.{decimals}f}"

    yield from head("", *STRENGTHS)
    yield row("still: jitter of landmarks, px", *cells("still", 0, 3))
    yield row("still: jitter of yaw, pitch, roll, degrees", *cells("still", 1, 3))
    for name in MOTIONS:
        for figure, title in enumerate(("lag, frames", "reach", "error, px")):
            yield row(f"{name}: {title}", *cells(name, figure))


PARTS = {"speed": speed, "photos": photos, "smoothing": smoothing}


def tables(options: argparse.Namespace) -> Iterator[str]:
    for name in options.parts or PARTS:
        yield f"## {name}\n"
        yield from PARTS[name](options)
        yield ""


def main() -> int:
    parser = script.parser(__doc__)
    parser.add_argument(
        "parts", nargs="*", metavar="PART", choices=[[], *PARTS], help=", ".join(PARTS)
    )
    parser.add_argument("--frames", type=int, default=300, help="of the video for the speed")
    parser.add_argument("--rounds", type=int, default=3, help="runs for the speed")
    parser.add_argument("--clip", type=Path, default=EXAMPLES / "faces.mp4")
    parser.add_argument("--photo", type=Path, action="append", help="may be given several times")
    parser.add_argument("--weights")
    parser.add_argument("--device", default="auto")
    return script.run(parser, tables)


if __name__ == "__main__":
    sys.exit(main())
