"""Any folder of images with landmarks in one of the known formats."""

from __future__ import annotations

from pathlib import Path

from sadr_cli.errors import MissingDataError
from sadr_cli.evaluation.data import aflw2000, lm300w
from sadr_cli.evaluation.data.benchmark import Benchmark, data_folder, list_files

HINT = "give a folder of images with a .mat (AFLW2000-3D) or .pts (300-W) beside each"


def load(
    folder: Path, *, origin: int = 0, allow_missing: bool = False, need_images: bool = True
) -> Benchmark:
    """Truth from the ``.mat`` files of the folder, or from the ``.pts`` files in and below it."""
    data_folder(folder, HINT)
    if list_files(folder, (".mat",)):
        return aflw2000.load(
            folder, allow_missing=allow_missing, need_images=need_images, name=folder.name
        )
    if list_files(folder, (".pts",), recursive=True):
        return lm300w.load(
            folder,
            origin=origin,
            allow_missing=allow_missing,
            need_images=need_images,
            name=folder.name,
        )
    raise MissingDataError(f"no landmarks in {folder}: {HINT}")
