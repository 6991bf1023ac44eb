"""Export of many faces or people, as done by ``sadr export``."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from pathlib import Path

from sadr_cli.errors import InputError, OutputError, SadrError, UsageError
from sadr_cli.export.contact_sheet import Cell
from sadr_cli.export.convert import ExportSettings, export_subject, free_stem, write_index
from sadr_cli.export.merge import Person, merge_person
from sadr_cli.export.subjects import FaceSource, find_faces, load_subject
from sadr_cli.export.topology import Topology
from sadr_cli.files import check_writable
from sadr_cli.pipeline.feed import ordered_map
from sadr_cli.uv import UVLayout

_HOPELESS = 16  # refused faces, before any success, after which an export is given up


@dataclass(frozen=True)
class Exported:
    """Result of one face, or of one person.

    source: the face's file, or the person's name. name: stem of the files. faces: names of the
    merged faces, for a person. notes: for the user. error: why it failed; refusal: the same if the
    request does not apply to this face. cell: for the contact sheet.
    """

    source: str
    name: str = ""
    files: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    faces: tuple[str, ...] | None = None
    error: str | None = None
    refusal: UsageError | None = None
    cell: Cell | None = None


Observer = Callable[[Exported], None]


def find_all(sources: Iterable[str], out: Path) -> Iterator[FaceSource]:
    """The faces of all ``sources``; UsageError if ``out`` is the folder of one of them."""
    for source in sources:
        folder = Path(source) if Path(source).is_dir() else Path(source).parent
        if folder.exists() and out.exists() and folder.resolve() == out.resolve():
            raise UsageError(f"--out {out} is the folder of the source: choose another folder")
    return chain.from_iterable(find_faces(Path(source)) for source in sources)


def export_faces(
    entries: Iterator[FaceSource],
    uv: UVLayout,
    settings: ExportSettings,
    topology: Topology | None,
    observe: Observer,
) -> tuple[int, int]:
    """Export every face with several threads, and call ``observe`` in order; (done, failed).

    A face that cannot be read or exported fails alone. UsageError if the request applies to no
    face, OutputError if the output cannot be written.
    """
    first = next(entries)  # raises errors of the sources
    taken: dict[str, FaceSource] = {}

    def named() -> Iterator[tuple[FaceSource, str, FaceSource]]:
        for entry in chain([first], entries):
            name = free_stem(entry.path.stem)
            yield entry, name, taken.setdefault(name.casefold(), entry)

    def work(entry: FaceSource, name: str, before: FaceSource) -> Exported:
        if before.path != entry.path:
            raise InputError(
                f"{entry.path}: {before.path} has the same name: export them to different folders"
            )
        subject = replace(load_subject(entry, uv), stem=name)
        done = export_subject(subject, uv, settings, topology)
        return Exported(str(entry.path), name, tuple(done.names), tuple(done.notes), cell=done.cell)

    def attempt(job: tuple[FaceSource, str, FaceSource]) -> Exported:
        source = str(job[0].path)
        try:
            return _isolated(partial(work, *job), source, "")
        except UsageError as error:
            return Exported(source, error=str(error), refusal=error)

    jobs = min(max(os.cpu_count() or 2, 2), 8)
    with _folder(settings.out):
        results = (result for _, result in ordered_map(attempt, named(), jobs, lambda: False))
        return _count(_unless_hopeless(results), uv, settings, topology, observe)


def _unless_hopeless(results: Iterable[Exported]) -> Iterator[Exported]:
    """The results; raises the first refusal if the request applies to no face."""
    held: list[Exported] = []
    hopeful = False
    for result in results:
        if not hopeful and result.refusal is not None:
            held.append(result)
            if len(held) == _HOPELESS:
                break
            continue
        hopeful = True
        yield from held
        held.clear()
        yield result
    if held and held[0].refusal is not None:
        raise held[0].refusal


def merge_people(
    people: Sequence[Person],
    uv: UVLayout,
    settings: ExportSettings,
    topology: Topology | None,
    observe: Observer,
) -> tuple[int, int]:
    """One result per person; otherwise like :func:`export_faces`."""

    def work(person: Person) -> Exported:
        subjects = [load_subject(entry, uv) for entry in person.entries]
        done = merge_person(person, subjects, uv, settings, topology)
        stems = tuple(subject.stem for subject in subjects)
        files, notes = tuple(done.names), tuple(done.notes)
        return Exported(person.name, person.name, files, notes, stems, cell=done.cell)

    with _folder(settings.out):
        results = (
            _isolated(partial(work, person), person.name, f"{person.name}: ") for person in people
        )
        return _count(results, uv, settings, topology, observe)


def _isolated(work: Callable[[], Exported], source: str, label: str) -> Exported:
    """The result of ``work``, or its error. label: precedes messages of sadr's errors."""
    try:
        return work()
    except (UsageError, OutputError):
        raise
    except SadrError as error:
        return Exported(source, error=f"{label}{error}")
    except MemoryError:
        return Exported(source, error=f"{source}: not enough memory")
    except Exception as error:  # one bad face must not stop an export
        return Exported(source, error=f"{source}: {type(error).__name__}: {error}")


def _count(
    results: Iterable[Exported],
    uv: UVLayout,
    settings: ExportSettings,
    topology: Topology | None,
    observe: Observer,
) -> tuple[int, int]:
    """Pass on the results and write the index; (done, failed)."""
    done = failed = 0
    for result in results:
        done += result.error is None
        failed += result.error is not None
        observe(result)
    if done and settings.formats:
        write_index(settings.out, uv, topology)
    return done, failed


@contextmanager
def _folder(out: Path) -> Iterator[None]:
    """Creates ``out`` and proves it writable; removes it again if the export is refused."""
    new = not out.exists()
    check_writable(out)
    try:
        yield
    except UsageError:
        if new and not any(out.iterdir()):
            out.rmdir()
        raise
