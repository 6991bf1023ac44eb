from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sadr_cli.files import MAX_BYTES
from sadr_cli.sources import Namer, safe_name


class TestNames:
    @pytest.mark.parametrize(
        ("text", "name"),
        [
            ("holiday 1", "holiday 1"),
            ("Ünïcødé 写真", "Ünïcødé 写真"),
            ("-rf", "_rf"),
            (".hidden", "_hidden"),
            ("..", "_"),
            ("", "_"),
            ("a\nb\tc", "a_b_c"),
            ("a/b\\c:d", "a_b_c_d"),
            ("dots...", "dots"),
            ("nul", "_nul"),
            ("\udcff", "_"),
        ],
    )
    def test_safe_name(self, text: str, name: str) -> None:
        assert safe_name(text) == name

    @settings(max_examples=300, deadline=None)
    @given(st.text(st.characters(), max_size=300))
    def test_safe_name_is_always_one_good_file_name(self, text: str) -> None:
        name = safe_name(text)
        assert 0 < len(name.encode()) <= MAX_BYTES
        assert name not in (".", "..")
        assert not name.startswith(("-", "."))
        assert not set(name) & set('/\\\0\n<>:"|?*')

    def test_long_names_that_differ_at_the_end_stay_apart(self) -> None:
        assert safe_name("x" * 300 + "a") != safe_name("x" * 300 + "b")

    def test_same_stem_is_told_apart_by_suffix_then_folder_then_hash(self) -> None:
        namer = Namer()
        assert namer.name("p/a.jpg") == "a"
        assert namer.name("p/a.png") == "a_png"
        assert namer.name("q/a.jpg") == "a_jpg"
        assert namer.name("r/s/a.jpg") == "s__a"
        assert namer.name("t/s/a.jpg") == "t__s__a"
        last = namer.name("t/s/a.jpg")
        assert last.startswith("a_")
        assert namer.name("t/s/a.jpg") == last + "_2"

    def test_case_alone_does_not_make_another_name(self) -> None:
        namer = Namer()
        assert len({namer.name(f"{s}.jpg").casefold() for s in ("A", "a", "Ä", "ä")}) == 4

    @settings(max_examples=100, deadline=None)
    @given(st.lists(st.text("ab/._-", min_size=1, max_size=6), max_size=30))
    def test_names_never_collide(self, paths: list[str]) -> None:
        namer = Namer()
        given_names = [namer.name(p) for p in paths]
        assert len(set(given_names)) == len(paths)

    def test_the_same_path_again_and_again_is_not_counted_from_the_first(self, monkeypatch) -> None:
        """Work grows with the number of names, not with its square."""
        tried = 0

        def count(text: str) -> str:
            nonlocal tried
            tried += 1
            return text

        monkeypatch.setattr("sadr_cli.files.safe_name", count)
        namer = Namer()
        assert len({namer.name("some/folder/a.jpg") for _ in range(500)}) == 500
        assert tried < 10 * 500

    def test_a_deep_folder_is_not_joined_again_for_every_name(self) -> None:
        namer = Namer()
        deep = "d/" * 1000 + "a.jpg"
        assert len({namer.name(deep) for _ in range(50)}) == 50
