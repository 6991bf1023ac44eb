"""Files, folders, globs, list files and standard input -> a lazy stream of :class:`Source`."""

from __future__ import annotations

import glob
import io
import os
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import BinaryIO, Literal

from sadr_cli.errors import InputError, NothingToDoError, UsageError
from sadr_cli.faces import Frame
from sadr_cli.files import Namer
from sadr_cli.sources.images import DEFAULT_MAX_PIXELS, describe_os_error, read_image

IMAGE_SUFFIXES = frozenset(
    [
        ".jpg",
        ".jpeg",
        ".jpe",
        ".jfif",
        ".mpo",
        ".png",
        ".webp",
        ".bmp",
        ".dib",
        ".tif",
        ".tiff",
        ".gif",
        ".ppm",
        ".pgm",
        ".pnm",
        ".jp2",
        ".heic",
        ".heif",
        ".hif",
        ".avif",
    ]
)
VIDEO_SUFFIXES = frozenset(
    [
        ".mp4",
        ".m4v",
        ".mov",
        ".avi",
        ".mkv",
        ".webm",
        ".mpg",
        ".mpeg",
        ".wmv",
        ".flv",
        ".ts",
        ".mts",
        ".m2ts",
        ".3gp",
        ".ogv",
    ]
)
_GLOB_CHARACTERS = frozenset("*?[")
_PEEK = 65536
_MAGIC = (  # JPEG, PNG, GIF, TIFF in both byte orders, JPEG 2000
    b"\xff\xd8\xff",
    b"\x89PNG\r\n",
    b"GIF8",
    b"II*\0",
    b"MM\0*",
    b"\0\0\0\x0cjP  ",
)


@dataclass(frozen=True)
class Source:
    """One photo or video to read; nothing of it has been opened yet.

    label: the input as the user would name it, for messages and manifests.
    name: stem for its output files, unique in the run.
    path: the file; None for an image that came as bytes.
    data: the bytes of an image that came through standard input.
    error: why it cannot be read, known already from listing; :func:`load_frame` raises it.
    """

    label: str
    name: str
    path: Path | None = None
    data: bytes | None = field(default=None, repr=False)
    kind: Literal["image", "video"] = "image"
    error: str | None = None


def load_frame(source: Source, max_pixels: int = DEFAULT_MAX_PIXELS) -> Frame:
    """Read and decode the photo ``source``; raises InputError naming it and the reason."""
    if source.error is not None:
        raise InputError(f"{source.label}: {source.error}")
    content = source.data if source.data is not None else source.path
    if content is None:
        raise ValueError("a source needs a path or data")
    image = read_image(content, max_pixels=max_pixels, label=source.label)
    return Frame(image, source=source.label, name=source.name, path=source.path)


def iter_sources(
    inputs: Iterable[str] | None,
    *,
    recursive: bool = False,
    from_file: str | Path | None = None,
    stdin: BinaryIO | None = None,
) -> Iterator[Source]:
    """Sources in the order they were named; see :class:`SourceList` for what an input may be.

    Raises UsageError when nothing is named at all, NothingToDoError at the end when there was
    nothing to read: only empty folders, empty lists and names of files that do not exist.
    """
    named = list(inputs or [])
    if not named and from_file is None:
        raise UsageError("name at least one photo, folder, glob or video, or use --from-file")
    sources = SourceList(recursive=recursive, stdin=stdin)
    streams = [sources.expand(text) for text in named]
    if from_file is not None:
        streams.append(sources.expand_list(from_file))
    return _complain_if_nothing(chain.from_iterable(streams))


class SourceList:
    """Expands inputs to sources and names them; one object a run, so that names are unique.

    An input is: ``-`` (standard input: one image, or names, one a line or NUL-separated); an
    image or video; a folder (images and videos in it by suffix, sorted, hidden ones left out;
    with ``recursive`` also its subfolders, links followed, loops not); or a glob.
    """

    def __init__(self, recursive: bool = False, stdin: BinaryIO | None = None) -> None:
        self.recursive = recursive
        self.namer = Namer()
        self._stdin = stdin

    def expand(self, text: str) -> Iterator[Source]:
        """Sources of one input."""
        if text == "-":
            yield from self._standard_input()
        else:
            yield from self._path(text, globs=True)

    def _path(self, text: str, globs: bool) -> Iterator[Source]:
        path = Path(text)
        try:
            is_folder = bool(text) and path.is_dir()
            exists = bool(text) and os.path.lexists(path)
        except (OSError, ValueError):  # a name that is too long, or holds a zero byte
            is_folder = exists = False
        if is_folder:
            yield from self._folder(path, path, frozenset())
        elif exists:
            yield self.source(path)
        elif globs and _GLOB_CHARACTERS.intersection(text):
            yield from self._glob(text)
        else:
            yield self._missing(text)

    def expand_list(self, path: str | Path) -> Iterator[Source]:
        """Sources of a list file: names one a line, relative to the working folder."""
        try:
            with Path(path).open("rb") as stream:
                yield from self._names(stream)
        except OSError as error:
            raise UsageError(f"--from-file {path}: {describe_os_error(error)}") from error

    def source(self, path: Path, root: Path | None = None) -> Source:
        """The source for one file; ``root`` as in :meth:`Namer.name`."""
        kind: Literal["image", "video"] = (
            "video" if path.suffix.lower() in VIDEO_SUFFIXES else "image"
        )
        return Source(str(path), self.namer.name(path, root), path, kind=kind)

    def _missing(self, text: str) -> Source:
        reason = "no such file or folder" if text else "an empty name"
        return Source(text, self.namer.name(text or "unnamed"), error=reason)

    def _glob(self, pattern: str) -> Iterator[Source]:
        found = False
        for match in sorted(glob.iglob(pattern, recursive=True)):  # noqa: PTH207
            found = True
            yield from self._path(match, globs=False)
        if not found:
            yield Source(pattern, self.namer.name(pattern), error="nothing matches this pattern")

    def _folder(
        self, folder: Path, root: Path, above: frozenset[tuple[int, int]]
    ) -> Iterator[Source]:
        """Files first, then subfolders; ``above`` are the folders that lead here."""
        try:
            status = folder.stat()
            with os.scandir(folder) as entries:
                names = sorted(e.name for e in entries if not e.name.startswith("."))
        except OSError as error:
            yield Source(str(folder), self.namer.name(folder), error=describe_os_error(error))
            return
        here = (status.st_dev, status.st_ino)
        if here in above:
            return
        subfolders = []
        for name in names:
            path = folder / name
            if path.is_dir():
                subfolders.append(path)
            elif path.suffix.lower() in IMAGE_SUFFIXES | VIDEO_SUFFIXES:
                yield self.source(path, root)
        if self.recursive:
            for path in subfolders:
                yield from self._folder(path, root, above | {here})

    def _standard_input(self) -> Iterator[Source]:
        stream = self._stdin if self._stdin is not None else sys.stdin.buffer
        if not isinstance(stream, io.BufferedReader):  # only these can look ahead
            stream = io.BufferedReader(stream)  # type: ignore[type-var]
        start = stream.read(16)
        if looks_like_image(start):
            name = self.namer.name("stdin")
            yield Source("standard input", name, data=start + stream.read())
        else:
            yield from self._names(stream, start)

    def _names(self, stream: io.BufferedReader, start: bytes = b"") -> Iterator[Source]:
        for name in _split_names(stream, start):
            yield from self._path(os.fsdecode(name), globs=False)


def _split_names(stream: io.BufferedReader, start: bytes) -> Iterator[bytes]:
    """Names as they come in, separated by NUL if the first block holds one, else by newlines."""
    ahead = start + stream.peek(_PEEK)
    separator = b"\0" if b"\0" in ahead else b"\n"
    rest = start
    while True:
        *whole, rest = rest.split(separator)
        yield from (n for n in (_strip(w, separator) for w in whole) if n)
        # readline hands over each name as soon as the program before the pipe has written it.
        block = stream.readline() if separator == b"\n" else stream.read(_PEEK)
        if not block:
            break
        rest += block
    last = _strip(rest, separator)
    if last:
        yield last


def _strip(name: bytes, separator: bytes) -> bytes:
    return name.removesuffix(b"\r") if separator == b"\n" else name


def looks_like_image(start: bytes) -> bool:
    """Whether the first 16 bytes are those of an image file rather than of a list of names."""
    return (
        start.startswith(_MAGIC)
        or (start.startswith(b"BM") and start[6:10] == b"\0\0\0\0")
        or (start[:4] == b"RIFF" and start[8:12] == b"WEBP")
        or start[4:8] == b"ftyp"  # HEIC, AVIF
    )


def _complain_if_nothing(sources: Iterator[Source]) -> Iterator[Source]:
    """Pass on; missing files are held back until something is there, so that a run with
    nothing but misspelt names ends as 'nothing to do'."""
    held: list[Source] = []
    for source in sources:
        if source.path is None and source.data is None:
            held.append(source)
            continue
        yield from held
        yield source
        yield from sources
        return
    if not held:
        raise NothingToDoError("nothing to do: the inputs hold no photo and no video")
    first = f"{held[0].label}: {held[0].error}"
    more = f" (and {len(held) - 1} more)" if len(held) > 1 else ""
    raise NothingToDoError(f"nothing to do: {first}{more}")
