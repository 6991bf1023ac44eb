"""The files of one photo, written by threads: its faces as they come, then what they share."""

from __future__ import annotations

from concurrent.futures import Executor, Future

from sadr_cli.native import Lock
from sadr_cli.pipeline.face_files import FaceFiles
from sadr_cli.pipeline.photo import Photo, Written, finish_photo, write_face
from sadr_cli.pipeline.settings import RunSettings
from sadr_cli.uv import UVLayout


class PhotoWriter:
    """Writes ``photo`` in the threads of ``pool``; no thread waits there for a face of another.

    done: what became of the photo, after :meth:`close`; cancelled when the pool was shut down.
    """

    def __init__(self, pool: Executor, photo: Photo, uv: UVLayout, settings: RunSettings) -> None:
        self.done: Future[Written] = Future()
        self._pool, self._photo, self._uv, self._settings = pool, photo, uv, settings
        self._faces: list[Future[FaceFiles]] = []
        self._left = 1  # faces being written, and one for those that may come
        self._counting = Lock()

    def add(self, index: int) -> Future[FaceFiles]:
        """Write face ``index``, which has been reconstructed."""
        with self._counting:
            self._left += 1
        face = self._pool.submit(write_face, self._photo, index, self._uv, self._settings)
        self._faces.append(face)
        face.add_done_callback(lambda _: self._finish() if self._is_last() else None)
        return face

    def close(self) -> None:
        """No further face will come."""
        if self._is_last():
            self._pool.submit(self._finish)

    def _is_last(self) -> bool:
        with self._counting:
            self._left -= 1
            return not self._left

    def _finish(self) -> None:
        if any(face.cancelled() for face in self._faces):
            self.done.cancel()
            return
        try:
            written = finish_photo(self._photo, self._faces, self._uv, self._settings)
        except BaseException as error:  # raised where the photo is settled
            self.done.set_exception(error)
        else:
            self.done.set_result(written)
