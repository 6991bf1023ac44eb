"""Files, folders, globs, list files and standard input -> a lazy stream of :class:`Source`."""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import BinaryIO, Literal, TypeVar

from sadr_cli.errors import InputError, NothingToDoError, UsageError
from sadr_cli.faces import Frame
from sadr_cli.files import Namer
from sadr_cli.marks import CROP, mark_of
from sadr_cli.sources.images import DEFAULT_MAX_PIXELS, describe_os_error, read_picture
from sadr_cli.text import LineTooLong, pieces, split, standard_input

IMAGE_SUFFIXES = frozenset(
    (
        *(".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".webp", ".bmp", ".dib", ".tif"),
        *(".tiff", ".gif", ".ppm", ".pgm", ".pnm", ".jp2", ".heic", ".heif", ".hif", ".avif"),
    )
)
VIDEO_SUFFIXES = frozenset(
    (
        *(".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv", ".flv", ".ts"),
        *(".mts", ".m2ts", ".3gp", ".ogv"),
    )
)
_SUFFIXES = IMAGE_SUFFIXES | VIDEO_SUFFIXES
_GLOB_CHARACTERS = frozenset("*?[")
_START = 16  # bytes that distinguish a photo from a list
_LARGEST = 1 << 29  # bytes of a photo on standard input, which is kept in memory
_LONGEST = 1 << 16  # characters of a name: above the limit of every system
_MISSPELT = 10_000  # names of missing files that are held back until a file exists
_MAGIC = (  # JPEG, PNG, GIF, TIFF in both byte orders, JPEG 2000
    b"\xff\xd8\xff",
    b"\x89PNG\r\n",
    b"GIF8",
    b"II*\0",
    b"MM\0*",
    b"\0\0\0\x0cjP  ",
)


T = TypeVar("T")
File = tuple[Path, Path | None]  # a file, and the folder from which its name is derived


@dataclass(frozen=True)
class Source:
    """One photo or video to read, not yet opened.

    label: the input as the user would name it, for messages and manifests.
    name: stem for its output files, unique in the run.
    path: the file; None for an image given as bytes.
    data: the bytes of an image from standard input.
    error: why it cannot be read, if listing has found that; :func:`load_frame` raises it.
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
    image, notes = read_picture(content, max_pixels, source.label)
    return Frame(image, source=source.label, name=source.name, path=source.path, notes=notes)


def iter_sources(
    inputs: Iterable[str] | None,
    *,
    recursive: bool = False,
    from_file: str | Path | None = None,
    stdin: BinaryIO | None = None,
    tell: Callable[[str], None] | None = None,
) -> Iterator[Source]:
    """Sources in the order in which they were named; :class:`SourceList` defines valid inputs.

    tell: called at the end with the number of pictures left out because sadr made them.
    Raises UsageError if nothing is named, and NothingToDoError at the end if there was nothing to
    read: only empty folders, empty lists and names of missing files.
    """
    named = list(inputs or [])
    if not named and from_file is None:
        raise UsageError("name at least one photo, folder, glob or video, or use --from-file")
    sources = SourceList(recursive=recursive, stdin=stdin)
    streams = [sources.expand(text) for text in named]
    if from_file is not None:
        streams.append(sources.expand_list(from_file))
    return _complain_if_nothing(chain.from_iterable(streams), sources, tell)


def take_shard(items: Iterator[T], shard: tuple[int, int]) -> Iterator[T]:
    """Every N-th item starting with the K-th (from 0), for ``shard`` (K, N); NothingToDoError if
    there is none."""
    part, parts = shard
    found = False
    for item in islice(items, part, None, parts):
        found = True
        yield item
    if parts > 1 and not found:
        raise NothingToDoError(
            f"nothing to do: there are too few inputs for shard {part + 1}/{parts}"
        )


class SourceList:
    """Expands inputs to sources and names them; one object per run keeps the names unique.

    An input is ``-`` (standard input: one image, or names separated by newlines or NUL); an image
    or video; a folder (its images and videos by suffix, sorted, without hidden files; with
    ``recursive`` also its subfolders, following links but not loops); or a glob pattern. Pictures
    made by sadr are left out; its crops are read if there are no other photos.
    """

    def __init__(self, recursive: bool = False, stdin: BinaryIO | None = None) -> None:
        self.recursive = recursive
        self.namer = Namer()
        self.left_out = 0  # pictures made by sadr
        self._photos = False  # whether a photo not made by sadr was found
        self._stdin = stdin

    def expand(self, text: str) -> Iterator[Source]:
        """Sources of one input, without pictures made by sadr."""
        if text == "-":
            yield from self._standard_input()
        else:
            yield from self._path(text, globs=True)

    def expand_list(self, path: str | Path) -> Iterator[Source]:
        """Sources of a list file: one name per line, relative to the working folder."""
        label = f"--from-file {path}"
        try:
            with Path(path).open("rb") as stream:
                start = stream.read(_START)
                if looks_like_image(start):
                    raise UsageError(f"{label}: is a photo, not a list of names")
                yield from self._names(stream, start, label)
        except OSError as error:
            raise UsageError(f"{label}: {describe_os_error(error)}") from error

    def source(self, path: Path, root: Path | None = None) -> Source:
        """The source for one file; ``root`` as in :meth:`Namer.name`."""
        return Source(str(path), self.namer.name(path, root), path, kind=_kind(path))

    def file(self, text: str) -> Source:
        """The source for a named file, with its ``error`` if there is no such file."""
        error = _why_not(text)
        return self.source(Path(text)) if error is None else self._failed(text, error)

    def _failed(self, label: str, error: str) -> Source:
        return Source(label, self.namer.name(label or "unnamed"), error=error)

    def _path(self, text: str, globs: bool) -> Iterator[Source]:
        error = _why_not(text)
        if error is not None and globs and _GLOB_CHARACTERS.intersection(text):
            yield from self._glob(text)
        elif error is not None:
            yield self._failed(text, error)
        else:
            yield from self._crops_last(self._match(text))

    def _glob(self, pattern: str) -> Iterator[Source]:
        matches = sorted(glob.iglob(pattern, recursive=True))  # noqa: PTH207
        if not matches:
            yield self._failed(pattern, "nothing matches this pattern")
        yield from self._crops_last(chain.from_iterable(map(self._match, matches)))

    def _match(self, text: str) -> Iterable[File | Source]:
        folder = os.path.isdir(text)  # noqa: PTH112 (Path's raises where a folder is closed)
        return self._folder(Path(text)) if folder else [(Path(text), None)]

    def _crops_last(self, files: Iterable[File | Source]) -> Iterator[Source]:
        """Sources of ``files`` without pictures made by sadr. Crops are read if there is no photo
        beside them: then the user means the crops."""
        crops: list[File] = []
        for file in files:
            if isinstance(file, Source):
                yield file
                continue
            kind = mark_of(file[0])
            if kind == CROP and not self._photos:
                crops.append(file)
            elif kind is not None:
                self.left_out += 1
            else:
                self._photos = True
                yield self.source(*file)
        if self._photos:
            self.left_out += len(crops)
        else:
            yield from (self.source(*file) for file in crops)

    def _folder(self, root: Path) -> Iterator[File | Source]:
        """Contents of ``root``: of each folder first the files, then the subfolders."""
        above: list[tuple[int, int]] = []  # the parents of the current folder
        waiting: list[Path | None] = [root]  # None marks the end of a folder
        while waiting:
            folder = waiting.pop()
            if folder is None:
                above.pop()
                continue
            try:
                status = folder.stat()
                files, subfolders = _scan(folder)
            except OSError as error:
                yield self._failed(str(folder), describe_os_error(error))
                continue
            here = (status.st_dev, status.st_ino)
            if here in above:
                continue
            for name in files:
                yield folder / name, root
            if self.recursive:
                above.append(here)
                waiting.append(None)
                waiting += [folder / name for name in reversed(subfolders)]

    def _standard_input(self) -> Iterator[Source]:
        stream = self._stdin if self._stdin is not None else standard_input()
        start = stream.read(_START)
        if looks_like_image(start):
            data, name = start + stream.read(_LARGEST), self.namer.name("stdin")
            if len(data) > _LARGEST:
                yield Source("standard input", name, error="more than 512 MB: name the file")
            else:
                yield Source("standard input", name, data=data)
        else:
            yield from self._names(stream, start, "standard input")

    def _names(self, stream: BinaryIO, start: bytes, label: str) -> Iterator[Source]:
        parts = pieces(stream, start)
        first = next(parts)
        separator = "\0" if "\0" in first else "\n"
        try:
            for name in split(chain([first], parts), separator, _LONGEST):
                text = name.removesuffix("\r") if separator == "\n" else name
                if text:
                    yield from self._path(text, globs=False)
        except LineTooLong:
            raise UsageError(f"{label}: has a line longer than any name: not a list") from None


def _kind(path: Path) -> Literal["image", "video"]:
    return "video" if path.suffix.lower() in VIDEO_SUFFIXES else "image"


def _why_not(text: str) -> str | None:
    """Why ``text`` names no file or folder; a broken link counts as one."""
    if not text:
        return "an empty name"
    try:
        os.lstat(text)
    except OSError as error:
        return describe_os_error(error)
    except ValueError:  # a null byte, or characters that the file system cannot encode
        return "is not a possible file name"
    return None


def _scan(folder: Path) -> tuple[list[str], list[str]]:
    """Sorted names of the photos and videos, and of the subfolders, in ``folder``, without hidden
    ones. An inaccessible entry counts as a file, so that it is reported."""
    files, folders = [], []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            try:
                is_folder = entry.is_dir()
            except OSError:
                is_folder = False
            if is_folder:
                folders.append(entry.name)
            elif os.path.splitext(entry.name)[1].lower() in _SUFFIXES:  # noqa: PTH122
                files.append(entry.name)
    return sorted(files), sorted(folders)


def looks_like_image(start: bytes) -> bool:
    """Whether these first 16 bytes are an image file rather than a list of names."""
    return (
        start.startswith(_MAGIC)
        or (start.startswith(b"BM") and start[6:10] == b"\0\0\0\0")
        or (start[:4] == b"RIFF" and start[8:12] == b"WEBP")
        or start[4:8] == b"ftyp"  # HEIC, AVIF
    )


def _complain_if_nothing(
    sources: Iterator[Source], inputs: SourceList, tell: Callable[[str], None] | None
) -> Iterator[Source]:
    """Pass sources on; missing files are held back until a file exists, so that a run with only
    misspelt names ends with 'nothing to do'."""
    held: list[Source] = []
    for source in sources:
        held.append(source)
        if source.path is not None or source.data is not None or len(held) > _MISSPELT:
            yield from held
            yield from sources
            if inputs.left_out and tell is not None:
                tell(_own(inputs.left_out))
            return
    if held:
        first = f"{held[0].label}: {held[0].error}"
        more = f" (and {len(held) - 1} more)" if len(held) > 1 else ""
        raise NothingToDoError(f"nothing to do: {first}{more}")
    own = f": {_own(inputs.left_out)}" if inputs.left_out else ""
    raise NothingToDoError(f"nothing to do: the inputs hold no photo and no video{own}")


def _own(count: int) -> str:
    return f"{count} picture{'s' if count > 1 else ''} made by sadr left out"
