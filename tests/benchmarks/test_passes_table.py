"""The script that measures the second pass, on a made-up benchmark with the network that ships."""

from __future__ import annotations

from argparse import Namespace

from evaluation_data import true_faces, write_aflw2000

from sadr_cli import Reconstructor
from sadr_cli.faces import Detection


def test_faces_that_are_tried_in_other_rotations_are_counted_like_others(
    tmp_path, monkeypatch, load_script
):
    script = load_script("passes")
    write_aflw2000(tmp_path)  # no picture shows a face: confidence is low, other turns are tried

    class Everywhere:
        def detect(self, image):
            return [Detection(face.box) for face in true_faces()]

    network = Reconstructor(device="cpu")
    monkeypatch.setattr(network, "detector", Everywhere())
    looks = []
    run = network.reconstruct_crops
    monkeypatch.setattr(
        network, "reconstruct_crops", lambda cut, *rest: looks.append(len(cut)) or run(cut, *rest)
    )
    monkeypatch.setattr(script, "Reconstructor", lambda *args, **options: network)
    given = Namespace(aflw2000=tmp_path, weights=None, device="cpu", detector="centerface")
    text = "\n".join(script.tables(given))
    assert max(looks) >= 3
    assert text.startswith(f"{len(true_faces())} faces, 0 missed")
    rows = [line.split(" | ") for line in text.splitlines() if line.startswith("| ")]
    assert [row[0].strip("| ") for row in rows[1:6]] == [
        "true crop", "one pass", "two passes", "the more confident", "as sadr reconstruct",
    ]  # fmt: skip
