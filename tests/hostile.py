"""A folder of more than 200 files that nobody should trust, made afresh for a test."""

from __future__ import annotations

import importlib.util
import io
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, features

NAMES = (
    "with space.png",
    "two\nlines.png",
    "tab\there.png",
    "-dash.png",
    "--out.png",
    "ünïcödé.png",
    "日本語の写真.png",
    "e\u0301 decomposed.png",
    "\u202ertl.png",
    "emoji 🙂.png",
    "quote'\".png",
    "[brackets]*.png",
    "percent %d %s.png",
    "back\\slash.png",
    "CON.png",
    "nul.png",
    "trailing dot..png",
    "trailing space .png",
    "x" * 240 + ".png",
    "[red]markup[/red].png",
    "$(touch pwned).png",
    "; rm -rf.png",
    "manifest.png",
    "poses.png",
    "index.png",
    "overlays.png",
    "a_face1.png",
    "a_track1.png",
)
FORMATS = ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "PPM", "JPEG2000"]
if features.check("avif"):
    FORMATS.append("AVIF")
if importlib.util.find_spec("pillow_heif"):
    FORMATS.append("HEIF")


def face(size: tuple[int, int] = (160, 200)) -> np.ndarray:
    """A photo in which the fake detector of the tests finds one face."""
    image = np.full((*size, 3), 40, np.uint8)
    image[50:90, 60:100] = 255
    return image


def encoded(format: str, image: Image.Image | None = None, **options: object) -> bytes:
    buffer = io.BytesIO()
    if format == "HEIF":
        from pillow_heif import register_heif_opener

        register_heif_opener()
    (image or Image.fromarray(face())).save(buffer, format, **options)
    return buffer.getvalue()


def png_header(width: int, height: int) -> bytes:
    """A PNG that announces a size and holds next to nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + check

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IDAT", zlib.compress(b"\0" * 1000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + body + chunk(b"IEND", b"")


def video(path: Path, codec: str, frames: int = 6) -> bytes:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), 10, (200, 160))
    for _ in range(frames):
        writer.write(face())
    writer.release()
    data = path.read_bytes()
    path.unlink()
    return data


SUFFIX = {"JPEG": "jpg", "JPEG2000": "jp2", "TIFF": "tif"}
Add = Callable[[str, bytes, str], None]  # name, content, verdict


def make(folder: Path) -> dict[str, str]:
    """Fill ``folder``; returns relative name -> "good", "bad" or "any" (either will do)."""
    folder.mkdir(parents=True)
    expected: dict[str, str] = {}

    def add(name: str, data: bytes, verdict: str) -> None:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        expected[name] = verdict

    rng = np.random.default_rng(0)
    whole = {f: encoded(f) for f in FORMATS}
    add_damaged(add, whole, rng)
    add_rubbish(add, rng)
    add_sizes(add)
    add_modes(add, rng)
    add_names(add, whole["PNG"])
    add_videos(add, folder, whole["JPEG"], rng)

    (folder / "links").mkdir()
    (folder / "links" / "good.png").symlink_to(folder / "whole" / "PNG.png")
    (folder / "links" / "nowhere.png").symlink_to(folder / "gone.png")
    (folder / "links" / "itself.png").symlink_to("itself.png")
    (folder / "links" / "up").symlink_to(folder / "links", target_is_directory=True)
    expected |= {"links/good.png": "good", "links/nowhere.png": "bad", "links/itself.png": "bad"}
    (folder / "a folder.png").mkdir()
    os.mkfifo(folder / "pipe.png")
    expected["pipe.png"] = "bad"
    add("locked.png", whole["PNG"], "good" if os.geteuid() == 0 else "bad")
    (folder / "locked.png").chmod(0)
    return expected


def add_damaged(add: Add, whole: dict[str, bytes], rng: np.random.Generator) -> None:
    """Every format whole, cut short, under a wrong suffix and with bytes changed."""
    for k, (f, data) in enumerate(whole.items()):
        end = SUFFIX.get(f, f.lower())
        add(f"whole/{f}.{end}", data, "good")
        for tenth in range(1, 10):  # a tail of zeros may be missing without harm
            add(f"cut/{f}{tenth}.{end}", data[: len(data) * tenth // 10], "any")
        add(f"wrong suffix/{f}.{'png' if end != 'png' else 'jpg'}", data, "good")
        for n in range(4):
            broken = bytearray(data)
            for place in rng.integers(0, len(data), 1 + 8 * n):
                broken[place] = rng.integers(256)
            add(f"flipped/{k}{n}.{end}", bytes(broken), "any")


def add_rubbish(add: Add, rng: np.random.Generator) -> None:
    """What is no image at all."""
    for k, end in enumerate(("jpg", "png", "webp", "bmp", "tif", "gif", "jp2", "ppm", "heic")):
        add(f"empty/{k}.{end}", b"", "bad")
        add(f"random/{k}.{end}", rng.bytes(2000), "bad")
        add(f"zeros/{k}.{end}", bytes(2000), "bad")
        add(f"text/{k}.{end}", b"<html>404 not found</html>\n" * 9, "bad")


def add_sizes(add: Add) -> None:
    """Absurd sizes in the header, and small ones that are real."""
    for name, size in (("bomb", (60000, 60000)), ("no width", (0, 10)), ("no height", (10, 0))):
        add(f"sizes/{name}.png", png_header(*size), "bad")
    header = encoded("BMP")[:18]
    add("sizes/huge.bmp", header + struct.pack("<ii", 2**30, 2**30) + b"\0" * 99, "bad")
    add("sizes/one pixel.png", encoded("PNG", Image.new("RGB", (1, 1))), "good")
    add("sizes/thin.png", encoded("PNG", Image.new("RGB", (3000, 1))), "good")


def add_modes(add: Add, rng: np.random.Generator) -> None:
    """Other colours and depths than RGB of 8 bits, and orientations."""
    photo = Image.fromarray(face())
    deep = np.asarray(photo.convert("L")).astype(np.uint16) * 257
    ratio = Image.fromarray(deep.astype(np.float32) / 65535)
    add("modes/cmyk.jpg", encoded("JPEG", photo.convert("CMYK")), "good")
    add("modes/16 bit.png", encoded("PNG", Image.fromarray(deep)), "good")
    add("modes/16 bit.tif", encoded("TIFF", Image.fromarray(deep)), "good")
    add("modes/float.tif", encoded("TIFF", ratio), "good")
    add("modes/palette.png", encoded("PNG", photo.convert("P")), "good")
    add("modes/alpha.png", encoded("PNG", photo.convert("RGBA")), "good")
    add("modes/grey alpha.png", encoded("PNG", photo.convert("LA")), "good")
    add("modes/bilevel.png", encoded("PNG", photo.convert("1")), "good")
    add("modes/lab.tif", encoded("TIFF", photo.convert("LAB")), "any")
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        add(f"exif/{orientation}.jpg", encoded("JPEG", exif=exif), "good")
    add("exif/broken.jpg", encoded("JPEG", exif=b"Exif\0\0" + rng.bytes(60)), "good")


def add_names(add: Add, data: bytes) -> None:
    """Odd names, and names that differ in suffix or folder alone."""
    for name in NAMES:
        add(f"names/{name}", data, "good")
    for end in ("png", "jpg", "PNG", "jpeg"):
        add(f"same/stem.{end}", data, "good")
        add(f"same/deeper/stem.{end}", data, "good")


def add_videos(add: Add, folder: Path, jpeg: bytes, rng: np.random.Generator) -> None:
    """Whole and broken videos, and a photo that calls itself one."""
    clips = {"mp4": video(folder / "v.mp4", "mp4v"), "avi": video(folder / "v.avi", "MJPG")}
    for end, data in clips.items():
        add(f"video/whole.{end}", data, "good")
        add(f"video/empty.{end}", b"", "bad")
        add(f"video/random.{end}", rng.bytes(3000), "bad")
        for tenth in (1, 3, 5, 7, 9):
            add(f"video/cut{tenth}.{end}", data[: len(data) * tenth // 10], "any")
    add("video/a photo.mp4", jpeg, "any")
