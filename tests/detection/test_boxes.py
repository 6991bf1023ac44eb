from __future__ import annotations

import io
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sadr_cli.detection import detection_to_record, merge_boxes, read_boxes
from sadr_cli.detection.boxes import MOST_FACES
from sadr_cli.errors import UsageError
from sadr_cli.faces import Detection, Frame
from sadr_cli.text import lines

BOX = [1.0, 2.0, 31.0, 42.0]


def line(**record: object) -> str:
    return json.dumps({"file": "a.jpg", "box": BOX, **record})


def test_what_detect_writes_is_read_back() -> None:
    frame = Frame(np.zeros((40, 60, 3), np.uint8), "a.jpg", "a")
    points = np.arange(10.0).reshape(5, 2)
    written = Detection(np.array(BOX), 0.87654, points, "centerface")
    record = detection_to_record(written, frame, 3)
    assert (record["file"], record["face"], record["width"], record["height"]) == (
        "a.jpg",
        3,
        60,
        40,
    )
    (group,) = read_boxes([json.dumps(record)])
    (read,) = group.detections
    assert (group.file, group.faces, read.detector) == ("a.jpg", [3], "centerface")
    np.testing.assert_array_equal(read.box, BOX)
    np.testing.assert_array_equal(read.points, points)
    assert read.score == pytest.approx(0.8765)


def test_box_alone_is_enough_and_is_the_box_of_the_landmarks() -> None:
    (group,) = read_boxes([line()])
    assert group.detections[0].detector == "landmarks"
    assert group.detections[0].points is None
    assert group.faces == [0]


def test_faces_of_a_file_are_grouped_and_lines_keep_their_order() -> None:
    files = ["b.jpg", "b.jpg", "a.jpg", "b.jpg"]
    groups = list(read_boxes([line(file=f, face=i) for i, f in enumerate(files)]))
    assert [(g.file, g.faces) for g in groups] == [
        ("b.jpg", [0, 1]),
        ("a.jpg", [2]),
        ("b.jpg", [3]),
    ]


def test_frames_of_a_video_are_groups_of_their_own() -> None:
    groups = list(read_boxes([line(frame=0), line(frame=0), line(frame=7)]))
    assert [(g.frame, len(g.detections)) for g in groups] == [(0, 2), (7, 1)]


def test_groups_come_as_soon_as_they_are_whole() -> None:
    def lines():
        yield line(file="a.jpg")
        yield line(file="b.jpg")
        raise AssertionError("read too far")

    assert next(read_boxes(lines())).file == "a.jpg"


def test_summary_errors_faceless_files_and_blank_lines_are_skipped() -> None:
    lines = [
        "",
        line(),
        json.dumps({"file": "b.jpg", "error": "b.jpg: is empty"}),
        json.dumps({"file": "c.jpg", "faces": 0}),
        json.dumps({"summary": {"faces": 1}}),
    ]
    assert [g.file for g in read_boxes(lines)] == ["a.jpg"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("photo.jpg", "expected one JSON object per line"),
        ("{", r"jq needs -c"),
        ('{"file": "a.jpg", "box": [1, 2', r"the line is cut"),
        ("[1, 2]", "expected a JSON object"),
        ("5", "expected a JSON object"),
        ("[" * 100_000, "not JSON"),
        (json.dumps({"box": BOX}), "'file' is missing"),
        (json.dumps({"file": 3, "box": BOX}), "'file' is missing or no text"),
        (json.dumps({"file": "a.jpg"}), "'box' must be four numbers"),
        (line(box=[1, 2, 3]), "'box' must be four numbers"),
        (line(box=[1, 2, "3", 4]), "'box' must be four numbers"),
        (line(box=[1, 2, math.nan, 4]), "'box' must be four numbers"),
        (line(box=[1, 2, True, 4]), "'box' must be four numbers"),
        (line(box=[5, 2, 1, 9]), "x0 < x1"),
        (line(points=[[1, 2]]), "five pairs"),
        (line(points="x"), "five pairs"),
        (line(score="high"), "'score' must be a number"),
        (line(detector="magic"), "unknown 'detector' 'magic'"),
        (line(detector=[]), "landmarks"),
        (line(frame=-1), "'frame' must be a whole number"),
        (line(face=0.5), "'face' must be a whole number"),
        (line(face=10**300), "'face' must be a whole number below 10,000,000, not 1000"),
        (line(frame=10**9), "'frame' must be a whole number below"),
        (line(box=[0, 0, 10**400, 5]), "'box' must be four numbers"),
        (line(box=[0, 0, 1e300, 5]), "'box' must be four numbers"),
        (line(box=[0, 0, 1e-9, 5]), "'box' is smaller than a pixel"),
        (line(score=10**400), "'score' must be a number"),
        (line(points=[[10**400, 0]] * 5), "five pairs"),
        (line().replace("31.0", "9" * 5000), "thousands of digits"),
        (line(detector="x" * 10**6), "unknown 'detector' 'xxx"),
    ],
)
def test_malformed_lines_are_named_with_number_and_reason(text: str, reason: str) -> None:
    if text == line(detector=[]):  # empty: as if not given
        assert next(read_boxes([text])).detections[0].detector == reason
        return
    with pytest.raises(UsageError, match=f"^--boxes -, line 2: .*{reason}"):
        list(read_boxes([line(), text], "--boxes -"))


@pytest.mark.parametrize("detector", [{"a": 1}, ["centerface"], 5, True])
def test_detector_of_the_wrong_type(detector: object) -> None:
    with pytest.raises(UsageError, match="line 1: 'detector' must be a detector's name, not"):
        list(read_boxes([line(detector=detector)]))


def test_messages_stay_short() -> None:
    for text in (line(face=10**3000), line(detector="x" * 10**6), line(box=[1] * 10**5)):
        with pytest.raises(UsageError) as error:
            list(read_boxes([text]))
        assert len(str(error.value)) < 300


def test_one_photo_cannot_have_faces_without_end() -> None:
    most = [line()] * MOST_FACES
    assert len(next(read_boxes(most)).faces) == MOST_FACES
    with pytest.raises(UsageError, match=f"line {MOST_FACES + 1}: more than {MOST_FACES} faces"):
        list(read_boxes([*most, line()]))
    scattered = [*most, line(file="b.jpg"), line()]
    with pytest.raises(UsageError, match=r"more than .* faces for a\.jpg"):
        merge_boxes(read_boxes(scattered))


def test_lines_of_a_file_are_brought_together() -> None:
    groups = merge_boxes(read_boxes([line(face=3), line(file="b.jpg"), line(face=5)]))
    assert [(g.file, g.faces) for g in groups] == [("a.jpg", [3, 5]), ("b.jpg", [0])]


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes(data: bytes) -> None:
    try:
        list(read_boxes(lines(io.BytesIO(data))))
    except UsageError as error:
        assert str(error).startswith("--boxes, line ")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=10,
)


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(st.sampled_from(["file", "box", "points", "score", "face", "frame"]), JSON))
@pytest.mark.slow
def test_any_value_of_any_key(values: dict[str, object]) -> None:
    try:
        (group,) = read_boxes([json.dumps({"file": "a.jpg", "box": BOX, **values})])
    except UsageError as error:
        assert "\n" not in str(error)
    except ValueError:
        assert {"file", "summary"} & set(values)  # no face in it
    else:
        (detection,) = group.detections
        assert np.isfinite(detection.box).all() and 0 <= detection.score <= 1
        assert 0 <= group.faces[0] < 10**7
