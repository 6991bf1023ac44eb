"""The inputs of a run: names, or faces that were found before."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import TypeVar

from sadr_cli.detection.boxes import BoxGroup, merge_boxes, read_boxes
from sadr_cli.errors import NothingToDoError, UsageError
from sadr_cli.pipeline.photo import Work
from sadr_cli.sources import Source, SourceList
from sadr_cli.text import lines, standard_input

T = TypeVar("T")


def works_from_sources(sources: Iterable[Source]) -> Iterator[Work]:
    """Photos and videos whose faces are to be found."""
    return (Work(source) for source in sources)


def works_from_boxes(boxes: str) -> Iterator[Work]:
    """The photos that the JSON lines of a file name, with their faces; ``-`` is standard input.

    From standard input as lines come in; from a file all lines of a photo together. UsageError
    for lines that cannot be read.
    """

    def work(group: BoxGroup) -> Work:
        source = sources.file(group.file)
        if group.frame is not None:
            source = replace(source, kind="video")
        return Work(source, tuple(group.detections), tuple(group.faces))

    sources, label = SourceList(), f"--boxes {boxes}"
    if boxes == "-":
        yield from (work(group) for group in read_boxes(lines(standard_input()), label))
        return
    try:
        with Path(boxes).open("rb") as file:
            groups = merge_boxes(read_boxes(lines(file), label), label)
    except OSError as error:
        raise UsageError(f"{label}: {error.strerror or error}") from error
    yield from (work(group) for group in groups)


def peek(inputs: Iterator[T]) -> Iterator[T]:
    """NothingToDoError when there is no input, before anything is loaded or made."""
    for first in inputs:
        return chain([first], inputs)
    raise NothingToDoError("nothing to do: no input names a photo")
