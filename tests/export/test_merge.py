"""Several photos of one person."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from synthetic import posed_face

from sadr_cli.errors import UsageError
from sadr_cli.export.merge import find_people, merge_shapes, merge_textures
from sadr_cli.export.subjects import FaceSource
from sadr_cli.render.rasterize import rasterize

SIZE = (200, 220)


def shown(uv, face, color):
    """A photo of ``face`` in one colour before green."""
    index = rasterize(face.vertices, uv.triangles[:, ::-1], *SIZE)[0]
    image = np.zeros((*SIZE, 3), np.uint8)
    image[:] = (0, 255, 0)
    image[index >= 0] = color
    return image


def test_each_vertex_comes_from_the_photo_that_shows_it(uv):
    right, left = uv.mean_shape[:, 0] > 0.3, uv.mean_shape[:, 0] < -0.3
    face = posed_face(uv)
    a = replace(face, shape=face.shape + 0.1, visibility=np.where(right, 1.0, 0.0))
    b = replace(face, shape=face.shape - 0.1, visibility=np.where(left, 1.0, 0.0))
    shape, visibility, confidence, shares = merge_shapes([a, b], uv)
    assert np.abs(shape[right] - face.shape[right] - 0.1).mean() < 0.03
    assert np.abs(shape[left] - face.shape[left] + 0.1).mean() < 0.03
    assert visibility[right | left].min() == 1 and np.ptp(confidence) < 1
    assert sum(shares) == pytest.approx(1, abs=1e-3) and abs(shares[0] - 0.5) < 0.05
    doubted = merge_shapes([replace(a, visibility=face.visibility, confidence=0.01), b], uv)[0]
    assert np.abs(doubted[left] - face.shape[left] + 0.1).mean() < 0.01


def test_textures_cover_what_either_photo_shows_and_share_one_light(uv):
    faces = [posed_face(uv, yaw=55), posed_face(uv, yaw=-55)]
    bright, dark = np.array([200, 150, 120]), np.array([160, 120, 96])
    images = [shown(uv, f, c) for f, c in zip(faces, (bright, dark), strict=True)]
    texture, real = merge_textures(images, faces, uv, 128)
    single = [merge_textures(images[k : k + 1], faces[k : k + 1], uv, 128)[1] for k in (0, 1)]
    assert texture.shape == (128, 128, 3) and real.shape == (128, 128)
    assert (real > 0.5).sum() > 1.2 * max((s > 0.5).sum() for s in single)
    seen = texture[real > 0.9].astype(float)
    # one of the two lights everywhere, no green
    closest = min(np.abs(seen - bright).mean(), np.abs(seen - dark).mean())
    assert closest < 8


def entries():
    photos = [Path("/p/ann/1.jpg"), Path("/p/ann/2.jpg"), Path("/p/bob/3.jpg")]
    out = [FaceSource(Path(f"/r/{p.stem}.json"), p) for p in photos]
    return [*out, FaceSource(Path("/r/3_face1.json"), photos[2])]


def test_people_by_list(tmp_path):
    rule = tmp_path / "ann.txt"
    rule.write_text("1.jpg\n\n/p/ann/2.jpg\n3_face1\n")
    (person,) = find_people([rule], entries())
    assert person.name == "ann"
    assert [e.path.stem for e in person.entries] == ["1", "2", "3_face1"]
    rule.write_text("3.jpg\n")  # one face a photo
    assert [e.path.stem for e in find_people([rule], entries())[0].entries] == ["3"]
    rule.write_text("9.jpg\n")
    with pytest.raises(UsageError, match="'9.jpg'"):
        find_people([rule], entries())
    rule.write_text("\n")
    with pytest.raises(UsageError, match="no photo"):
        find_people([rule], entries())
    with pytest.raises(UsageError, match="no such"):
        find_people([tmp_path / "none.txt"], entries())


def test_people_by_folder(tmp_path):
    made = []
    for name in ("ann/1.jpg", "ann/2.jpg", "bob/3.jpg"):
        path = tmp_path / "p" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        made.append(FaceSource(Path(f"/r/{path.stem}.json"), path))
    people = find_people([tmp_path / "p"], made)
    assert [(p.name, len(p.entries)) for p in people] == [("ann", 2), ("bob", 1)]
    (ann,) = find_people([tmp_path / "p" / "ann"], made)
    assert ann.name == "ann" and len(ann.entries) == 2
    with pytest.raises(UsageError, match="twice|two people"):
        find_people([tmp_path / "p" / "ann"] * 2, made)
    with pytest.raises(UsageError, match="no face"):
        find_people([tmp_path], entries())


def test_photos_that_are_frames_of_a_video(tmp_path):
    import cv2

    from sadr_cli.errors import InputError
    from sadr_cli.export.convert import load_photo
    from sadr_cli.export.read import MeshFile
    from sadr_cli.export.subjects import Subject

    path = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 48))
    for k in range(12):
        writer.write(np.full((48, 64, 3), 20 * k, np.uint8))
    writer.release()
    mesh = MeshFile(np.zeros((3, 3)), np.array([[0, 1, 2]], np.int32))
    for index in (0, 7, 30):
        image = {"width": 64, "height": 48, "index": index, "time": index / 10}
        subject = Subject("clip", path, mesh, None, {"image": image, "source": "clip.avi"}, path)
        if index == 30:
            with pytest.raises(InputError, match="clip.avi"):
                load_photo(subject, None, 10**8)
        else:
            assert abs(load_photo(subject, None, 10**8).mean() - 20 * index) < 3
