"""CPU milliseconds per face of each stage, photo by photo in one thread, as JSON.

    python benchmarks/stages.py photos/*.jpg

Run by ``speed.py --against`` with this version and an older one, so names that have moved are
looked up in all their places. The first photos are for warming up.
"""

from __future__ import annotations

import inspect
import json
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import cv2

from sadr_cli import Reconstructor
from sadr_cli.crop import extract_crop
from sadr_cli.detection import create_detector, select_faces
from sadr_cli.faces import Frame
from sadr_cli.gallery import face_card
from sadr_cli.sources import read_image
from sadr_cli.writers.compose import Look, compose_mesh, write_formats

WARM = 4  # photos
STAGES = ("decode", "detect", "crop", "network", "align", "colours", "mesh", "record", "card")


def find(*places: str) -> Any:
    """The first of the ``module.name`` that exists, or None."""
    for place in places:
        module, _, name = place.rpartition(".")
        try:
            return getattr(import_module(module), name)
        except (ImportError, AttributeError):
            continue
    return None


class Stages:
    """Sums the CPU time, of all threads, of named blocks."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        began = time.process_time()
        try:
            yield
        finally:
            self.seconds[name] += time.process_time() - began


def fitting(function: Callable[..., Any], **given: Any) -> Any:
    """Call ``function`` with those of the arguments that it accepts."""
    known = inspect.signature(function).parameters
    return function(**{name: value for name, value in given.items() if name in known})


def main() -> None:
    photos, stages, faces = [Path(p) for p in sys.argv[1:]], Stages(), 0
    cv2.setNumThreads(1)
    # Versions that change their engine during a run do so immediately.
    for module, name in (("detection.centerface", "_FAST_AFTER"), ("runtime", "CONVERT_AFTER")):
        if find(f"sadr_cli.{module}.{name}") is not None:
            setattr(import_module(f"sadr_cli.{module}"), name, 1)
    face_json = find("sadr_cli.results.face_record.face_json", "sadr_cli.writers.face_json")
    if face_json is None:
        face_json = find("sadr_cli.writers.landmarks_json.face_json")
    write_json = import_module(face_json.__module__).write_face_json
    detector = fitting(create_detector, name="centerface", faces="largest")
    reconstructor = Reconstructor(device="cpu")
    uv, look = reconstructor.uv, Look(("obj",))
    runner = reconstructor.runner

    def timed(crops: Any) -> Any:
        with stages("network"):
            return runner(crops)

    reconstructor.runner = timed  # type: ignore[assignment]
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        for number, photo in enumerate(photos):
            if number == WARM:
                stages.seconds.clear()
                faces = 0
            with stages("decode"):
                image = read_image(photo)
            with stages("detect"):
                found = fitting(
                    select_faces,
                    detections=detector.detect(image), which="largest", photo=image.shape[:2],
                )  # fmt: skip
            if not found:
                continue
            faces += 1
            with stages("crop"):
                crop = reconstructor.crop_for(found[0])
                extract_crop(image, crop, reconstructor.crop_resolution)
            with stages("align"):  # crop and network are subtracted below
                (face,) = reconstructor.reconstruct(image, found)
            with stages("colours"):
                mesh = compose_mesh(face, uv, look, image.shape[:2], image)
            with stages("mesh"):
                files, _ = write_formats(out, "face", mesh, face, look)
            with stages("record"):
                frame = Frame(image, str(photo), photo.stem)
                write_json(out / "face.json", face_json(face, frame, 0, mesh, files, ""))
            with stages("card"):
                fitting(face_card, number=0, image=image, face=face, uv=uv, mesh=mesh)
    seconds = stages.seconds
    seconds["align"] -= seconds["network"] + seconds["crop"]
    print(json.dumps({name: 1000 * seconds[name] / max(faces, 1) for name in STAGES}))


if __name__ == "__main__":
    main()
