from __future__ import annotations

import io
import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
from made_pictures import QUARTERS, encode

from sadr_cli.errors import InputError, NothingToDoError, UsageError
from sadr_cli.sources import SourceList, iter_sources, load_frame


def names(*inputs: str, **options: object) -> list[str]:
    return [s.name for s in iter_sources([str(i) for i in inputs], **options)]


def touch(folder, *files: str) -> None:
    for file in files:
        path = folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


class Pipe(io.BytesIO):
    """Standard input: what has no ``peek``."""


class TestListing:
    def test_folder_is_sorted_by_name_photos_and_videos_only(self, tmp_path) -> None:
        touch(tmp_path, "b.jpg", "a.PNG", "notes.txt", ".hidden.jpg", "v.mp4", "sub/c.jpg")
        sources = list(iter_sources([str(tmp_path)]))
        assert [s.name for s in sources] == ["a", "b", "v"]
        assert [s.kind for s in sources] == ["image", "image", "video"]

    def test_recursive_keeps_the_subfolder_in_the_name(self, tmp_path) -> None:
        touch(tmp_path, "a.jpg", "x/a.jpg", "x/y/a.jpg", "z.jpg/b.jpg")
        assert names(tmp_path, recursive=True) == ["a", "x__a", "x__y__a", "z.jpg__b"]

    def test_link_loops_end(self, tmp_path) -> None:
        touch(tmp_path, "x/a.jpg")
        (tmp_path / "x" / "again").symlink_to(tmp_path, target_is_directory=True)
        assert names(tmp_path, recursive=True) == ["x__a"]

    def test_two_links_to_one_folder_are_both_read(self, tmp_path) -> None:
        touch(tmp_path, "real/a.jpg")
        (tmp_path / "twin").symlink_to(tmp_path / "real", target_is_directory=True)
        assert names(tmp_path, recursive=True) == ["real__a", "twin__a"]

    def test_broken_and_looping_links_are_listed_so_that_they_are_reported(self, tmp_path) -> None:
        touch(tmp_path, "a.jpg")
        (tmp_path / "dead.jpg").symlink_to(tmp_path / "nowhere")
        sources = list(iter_sources([str(tmp_path)]))
        assert [s.name for s in sources] == ["a", "dead"]
        with pytest.raises(InputError, match=r"dead\.jpg: no such file"):
            load_frame(sources[1])

    def test_glob_and_literal_names_with_glob_characters(self, tmp_path) -> None:
        touch(tmp_path, "a1.jpg", "a2.jpg", "b[1].jpg")
        assert names(tmp_path / "a*.jpg") == ["a1", "a2"]
        assert names(tmp_path / "b[1].jpg") == ["b[1]"]

    def test_missing_file_is_an_item_and_the_rest_goes_on(self, tmp_path) -> None:
        touch(tmp_path, "a.jpg")
        sources = list(iter_sources(["nope.jpg", str(tmp_path / "a.jpg"), "none*.jpg"]))
        assert [s.error for s in sources] == [
            "no such file or folder",
            None,
            "nothing matches this pattern",
        ]
        with pytest.raises(InputError, match=r"^nope\.jpg: no such file or folder$"):
            load_frame(sources[0])

    def test_only_missing_files_is_nothing_to_do(self, tmp_path) -> None:
        for inputs in (["nope.jpg", "none.jpg"], [str(tmp_path)], ["x*y"], [""]):
            with pytest.raises(NothingToDoError, match="nothing to do"):
                list(iter_sources(inputs))

    def test_no_input_is_a_usage_error_at_once(self) -> None:
        with pytest.raises(UsageError):
            iter_sources([])

    def test_listing_is_lazy(self, tmp_path) -> None:
        touch(tmp_path, "a.jpg")
        stream = iter_sources([str(tmp_path / "a.jpg"), str(tmp_path / "later")])
        assert next(stream).name == "a"
        touch(tmp_path, "later/b.jpg")
        assert next(stream).name == "b"

    def test_order_and_identity_are_kept(self, tmp_path) -> None:
        touch(tmp_path, "b.jpg", "a.jpg")
        inputs = [str(tmp_path / "b.jpg"), str(tmp_path / "a.jpg")]
        assert [s.label for s in iter_sources(inputs)] == inputs

    @pytest.mark.parametrize("name", ["-rf.jpg", "a b.jpg", "line\nbreak.jpg", "naïve 写真.jpg"])
    def test_odd_names(self, tmp_path, monkeypatch, name: str) -> None:
        monkeypatch.chdir(tmp_path)
        (tmp_path / name).write_bytes(encode(QUARTERS))
        (source,) = iter_sources([name])
        assert load_frame(source).image.shape == QUARTERS.shape
        assert "\n" not in source.name

    def test_undecodable_name(self, tmp_path) -> None:
        raw = os.fsencode(tmp_path) + b"/\xff.jpg"
        try:
            with open(raw, "wb") as file:  # noqa: PTH123
                file.write(encode(QUARTERS))
        except OSError:
            pytest.skip("this file system takes Unicode only")
        (source,) = iter_sources([str(tmp_path)])
        assert source.name == "_"
        assert load_frame(source).image.shape == QUARTERS.shape

    def test_a_deep_tree(self, tmp_path, monkeypatch) -> None:
        monkeypatch.chdir(tmp_path)
        for _ in range(1200):  # deeper than Python's recursion, longer than a path may be
            os.mkdir("d")  # noqa: PTH102
            os.chdir("d")
        (tmp_path / "a.jpg").write_bytes(b"x")
        sources = list(iter_sources([str(tmp_path)], recursive=True))
        assert [s.name for s in sources if s.error is None] == ["a"]
        assert [s.error for s in sources[1:]] in ([], ["the name is too long"])
        for _ in range(1200):  # pytest's own clean-up goes no deeper than Python's recursion
            os.chdir("..")
            os.rmdir("d")  # noqa: PTH106

    def test_names_that_no_file_can_have(self) -> None:
        sources = SourceList()
        for text in ("a\0b.jpg", "\ud800.jpg"):
            assert sources.file(text).error == "is not a possible file name"
        assert sources.file("x" * 5000).error == "the name is too long"
        assert sources.file("").error == "an empty name"

    def test_list_file(self, tmp_path) -> None:
        touch(tmp_path, "a.jpg", "sub/b.jpg", "#c.jpg")
        lines = [tmp_path / "a.jpg", "", tmp_path / "sub", tmp_path / "#c.jpg", "nope[1].jpg"]
        list_file = tmp_path / "list.txt"
        list_file.write_text("\r\n".join(map(str, lines)))
        sources = list(iter_sources([], from_file=list_file))
        assert [s.name for s in sources] == ["a", "b", "#c", "nope[1]"]
        assert sources[-1].error == "no such file or folder"

    @pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le"])
    def test_list_file_of_an_editor(self, tmp_path, monkeypatch, encoding: str) -> None:
        monkeypatch.chdir(tmp_path)
        touch(tmp_path, "photos/größe.jpg", "b.jpg")
        (tmp_path / "list.txt").write_text("photos/größe.jpg\r\nb.jpg\r\n", encoding, newline="")
        with (tmp_path / "list.txt").open("rb") as stdin:
            listed = list(iter_sources(["-"], stdin=stdin))
        for sources in (listed, list(iter_sources([], from_file="list.txt"))):
            assert [s.label for s in sources] == [os.path.normpath("photos/größe.jpg"), "b.jpg"]
            assert [s.error for s in sources] == [None, None]

    def test_what_is_no_list(self, tmp_path) -> None:
        photo = tmp_path / "a.png"
        photo.write_bytes(encode(QUARTERS))
        with pytest.raises(UsageError, match="is a photo, not a list"):
            list(iter_sources([], from_file=photo))
        photo.write_bytes(b"x" * 100_000)
        with pytest.raises(UsageError, match="longer than any name"):
            list(iter_sources([], from_file=photo))

    def test_many_missing_names_do_not_wait(self, tmp_path, monkeypatch) -> None:
        monkeypatch.setattr("sadr_cli.sources.listing._MISSPELT", 5)
        (tmp_path / "list.txt").write_text("".join(f"none{n}.jpg\n" for n in range(9)))
        sources = iter_sources([], from_file=tmp_path / "list.txt")
        assert next(sources).label == "none0.jpg"
        assert len(list(sources)) == 8

    def test_unreadable_list_file(self, tmp_path) -> None:
        with pytest.raises(UsageError, match="no such file"):
            list(iter_sources([], from_file=tmp_path / "none.txt"))


@pytest.fixture
def nobody(tmp_path_factory):
    """A folder everyone may enter, and for the test's time a user who may not do everything."""
    folder = Path(tempfile.mkdtemp(prefix="sadr-test-"))
    folder.chmod(0o755)
    root = os.geteuid() == 0
    yield folder, (lambda: os.seteuid(65534)) if root else (lambda: None)
    if root:
        os.seteuid(0)
    for path in folder.rglob("*"):
        if path.is_dir():
            path.chmod(0o755)
    shutil.rmtree(folder)


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="no such rights here")
class TestRights:
    def test_a_folder_that_cannot_be_searched(self, nobody) -> None:
        folder, become_nobody = nobody
        touch(folder, "no_x/a.jpg", "ok/b.jpg")
        (folder / "link.jpg").symlink_to(folder / "no_x" / "a.jpg")
        (folder / "no_x").chmod(0o644)
        become_nobody()
        sources = list(iter_sources([str(folder)], recursive=True))
        assert [s.name for s in sources] == ["link", "no_x__a", "ok__b"]
        for source in sources[:2]:
            with pytest.raises(InputError, match="a.jpg: permission denied|link.jpg: permission"):
                load_frame(source)
        named = next(iter(SourceList().expand(str(folder / "no_x" / "a.jpg"))))
        assert named.error == "permission denied"

    def test_a_folder_that_cannot_be_read(self, nobody) -> None:
        folder, become_nobody = nobody
        touch(folder, "closed/a.jpg", "ok/b.jpg")
        (folder / "closed").chmod(0o311)
        become_nobody()
        sources = list(iter_sources([str(folder)], recursive=True))
        assert [(s.name, s.error) for s in sources] == [
            ("closed", "permission denied"),
            ("ok__b", None),
        ]


class TestStandardInput:
    def test_one_image(self) -> None:
        (source,) = iter_sources(["-"], stdin=Pipe(encode(QUARTERS)))
        frame = load_frame(source)
        assert (frame.source, frame.name, frame.path) == ("standard input", "stdin", None)
        np.testing.assert_array_equal(frame.image, QUARTERS)

    @pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF"])
    def test_formats_are_told_from_names(self, format: str) -> None:
        (source,) = iter_sources(["-"], stdin=Pipe(encode(QUARTERS, format)))
        assert source.data is not None

    @pytest.mark.parametrize("separator", ["\n", "\r\n", "\0"])
    def test_names(self, tmp_path, separator: str) -> None:
        touch(tmp_path, "BM.jpg", "b.jpg")
        text = separator.join([str(tmp_path / "BM.jpg"), str(tmp_path / "b.jpg"), ""])
        sources = list(iter_sources(["-"], stdin=Pipe(text.encode())))
        assert [s.name for s in sources] == ["BM", "b"]

    def test_names_with_newlines_come_nul_separated(self, tmp_path) -> None:
        touch(tmp_path, "a\nb.jpg")
        text = f"{tmp_path}/a\nb.jpg\0".encode()
        (source,) = iter_sources(["-"], stdin=Pipe(text))
        assert source.path == tmp_path / "a\nb.jpg"

    def test_many_names(self, tmp_path) -> None:
        touch(tmp_path, "a.jpg")
        text = f"{tmp_path}/a.jpg\n".encode() * 5000
        assert sum(1 for _ in iter_sources(["-"], stdin=Pipe(text))) == 5000

    def test_nothing(self) -> None:
        with pytest.raises(NothingToDoError):
            list(iter_sources(["-"], stdin=Pipe(b"")))
