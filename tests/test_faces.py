"""The records in words: short enough to be printed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from synthetic import posed_face

from sadr_cli.faces import Detection, Frame


def test_records_are_printed_in_one_short_line(uv) -> None:
    face = replace(posed_face(uv, yaw=30), confidence=0.51, warnings=("low confidence: look",))
    assert repr([face]) == (
        f"[Face({uv.vertex_count} vertices, yaw 30.0, pitch 0.0, roll 0.0, confidence 0.51, "
        "low confidence)]"
    )
    detection = Detection(np.array([1.26, 2, 30, 40.0]), 0.912, detector="centerface")
    assert repr(detection) == "Detection(centerface, box 1.3 2.0 30.0 40.0, score 0.91)"
    image = np.zeros((20, 30, 3), np.uint8)
    assert repr(Frame(image, "a.jpg", "a")) == "Frame('a.jpg', 30 x 20)"
    assert repr(Frame(image, "v.mp4", "v", index=7)) == "Frame('v.mp4', frame 7, 30 x 20)"
