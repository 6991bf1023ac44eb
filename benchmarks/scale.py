"""The cost of large runs apart from their photos, as a Markdown table: CPU time and memory by size.

    python benchmarks/scale.py > scale.md [--names 1000000] [--results 200000] [--browser chromium]

Listing a million names; bookkeeping ("books": names, manifest.json, poses.csv) of a run with
200,000 results synthesised from one real face; resuming it; its page; the page in a browser. Every
step runs in its own process, at a tenth of the size and at full size, which shows whether the time
per input is constant. Photos and results are hard links to a few files.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import islice
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import script

from sadr_cli import Reconstructor, WeightsInfo, read_image
from sadr_cli.faces import Frame
from sadr_cli.gallery import Card, face_card, write_cards, write_page
from sadr_cli.pipeline import RunSettings, Work
from sadr_cli.pipeline.ledger import Ledger
from sadr_cli.pipeline.photo import Photo, Written
from sadr_cli.results.entry import Entry, FaceEntry
from sadr_cli.results.face_record import face_json
from sadr_cli.results.poses_csv import pose_row
from sadr_cli.sources import iter_sources
from sadr_cli.writers.compose import Look, compose_mesh

PHOTO = Path(__file__).parent.parent / "examples" / "photos" / "hopper.jpg"
_LINKS = 30_000  # to one file; file systems limit their number
_BROWSER = ["--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"]


class Stub:
    """The part of a reconstructor that a ledger uses."""

    info = WeightsInfo("made up", "", "", 128, 0, "paper", "")


class Links:
    """Hard links to ``data``, with a new copy after every :data:`_LINKS`."""

    def __init__(self, folder: Path, data: bytes) -> None:
        self._folder, self._data, self._count = folder, data, 0

    def __call__(self, path: Path) -> None:
        source = self._folder / f"{id(self)}-{self._count // _LINKS}"
        if self._count % _LINKS == 0:
            source.write_bytes(self._data)
        self._count += 1
        os.link(source, path)


def main() -> None:
    parser = script.parser(__doc__)
    parser.add_argument("--names", type=int, default=1_000_000)
    parser.add_argument("--results", type=int, default=200_000)
    parser.add_argument("--browser", help="a Chromium, to load the page in")
    parser.add_argument("--folder", type=Path, help="where to work; a temporary folder otherwise")
    args = parser.parse_args()
    columns = ("step", "inputs", "CPU s", "microseconds per input", "peak memory, MB")
    print("\n".join(script.head(*columns)))
    with tempfile.TemporaryDirectory(dir=args.folder) as name:
        folder = Path(name)
        measured("samples", 1, samples, folder)
        lists(folder, args.names, args.results)
        for part in (10, 1):
            measured("list", args.names // part, listing, folder, args.names // part)
        for part in (10, 1):
            count = args.results // part
            for step in (books, resuming, page):
                measured(step.__name__, count, step, folder, count)
            if args.browser:
                browse(args.browser, folder / "run" / "index.html", count)
            shutil.rmtree(folder / "run")


def measured(name: str, count: int, work: Callable[..., None], *arguments: Any) -> None:
    """Print a row for ``work``, which runs in its own process."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_measure, args=(there, work, *arguments))
    process.start()
    there.close()
    seconds, memory = here.recv()
    process.join()
    each = f"{1e6 * seconds / count:.0f}"
    cells = name, f"{count:,}", f"{seconds:.1f}", each, f"{memory / 1e6:.0f}"
    print(script.row(*cells), flush=True)


def _measure(there: Connection, work: Callable[..., None], *arguments: Any) -> None:
    began = time.process_time()
    work(*arguments)
    unit = 1 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    there.send((time.process_time() - began, peak))


def samples(folder: Path) -> None:
    """The record and the card of one real face."""
    reconstructor, image = Reconstructor(), read_image(PHOTO)
    face = reconstructor.reconstruct(image)[0]
    mesh = compose_mesh(face, reconstructor.uv, Look(("obj",)), image.shape[:2], image)
    record = face_json(face, Frame(image, "hopper.jpg", "hopper"), 0, mesh, {"obj": "hopper.obj"})
    (folder / "record.json").write_text(json.dumps(record))
    card = face_card(0, image, face, reconstructor.uv, mesh)
    (folder / "card.json").write_text(json.dumps(vars(card)))


def lists(folder: Path, names: int, results: int) -> None:
    """Photos for ``results``, and a list of ``names`` lines that repeats them."""
    (folder / "photos").mkdir()
    link = Links(folder, PHOTO.read_bytes())
    photos = [folder / "photos" / f"photo{k:07}.jpg" for k in range(min(results, names))]
    for photo in photos:
        link(photo)
    with (folder / "names.txt").open("w") as file:
        file.writelines(f"{photos[k % len(photos)]}\n" for k in range(names))


def listing(folder: Path, count: int) -> None:
    for _ in islice(iter_sources(None, from_file=folder / "names.txt"), count):
        pass


def ledger_of(folder: Path) -> Ledger:
    settings = RunSettings(folder / "run", formats=("obj",), index=True)
    return Ledger(Stub(), settings)  # type: ignore[arg-type]


def books(folder: Path, count: int) -> None:
    """The bookkeeping of a run over ``count`` photos, with links as its meshes and records."""
    record = json.loads((folder / "record.json").read_text())
    (folder / "run").mkdir()
    ledger = ledger_of(folder)
    link = Links(folder, (folder / "record.json").read_bytes())
    card = Card(**json.loads((folder / "card.json").read_text()))
    write_cards(folder / "run", "first", [card])
    cards = folder / "run" / ".cards"
    link_card = Links(folder, (cards / "first.json").read_bytes())
    for source in islice(iter_sources(None, from_file=folder / "names.txt"), count):
        photo = ledger.admit(Work(source))
        assert isinstance(photo, Photo)
        outputs = (f"{photo.name}.obj", f"{photo.name}.json")
        for output in outputs:
            link(folder / "run" / output)
        link_card(cards / f"{photo.name}.json")
        own = {**record, "source": source.label, "name": photo.name}
        turns = {k: record["pose"][k] for k in ("yaw", "pitch", "roll")}
        face = FaceEntry(
            0, outputs[1], {"obj": outputs[0]}, record["confidence"], tuple(record["box"]), **turns
        )
        entry = Entry(
            source.label, photo.key, "ok", photo.name, outputs=outputs, faces=(face,),
            seconds=0.1, settings=photo.settings, stamp=photo.stamp,
        )  # fmt: skip
        ledger.settle(Written(entry, [pose_row(own)]))
    ledger.close("finished")


def resuming(folder: Path, count: int) -> None:
    """The same run again: everything is skipped."""
    ledger = ledger_of(folder)
    for source in islice(iter_sources(None, from_file=folder / "names.txt"), count):
        entry = ledger.admit(Work(source))
        assert isinstance(entry, Entry) and entry.skipped
        ledger.settle(entry)
    ledger.close("finished")


def page(folder: Path, count: int) -> None:
    del count
    write_page(folder / "run", Reconstructor().uv)


def browse(browser: str, path: Path, count: int) -> None:
    """CPU time of all browser processes until the first cards of the page are shown."""
    before = os.times()
    done = subprocess.run([browser, *_BROWSER, path.as_uri()], capture_output=True, check=True)
    after = os.times()
    assert done.stdout.count(b'class="card"') == 60, "the page shows no cards"
    used = after.children_user + after.children_system
    used -= before.children_user + before.children_system
    name = f"browser, page of {path.stat().st_size / 1e6:.0f} MB"
    print(script.row(name, f"{count:,}", f"{used:.1f}", "", ""), flush=True)


if __name__ == "__main__":
    main()
