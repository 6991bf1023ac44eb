"""The command as a user meets it: files, streams, exit codes."""

from __future__ import annotations

import csv
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from browser import CONTRAST, browser, needs_browser
from evaluation_data import (
    SMALL,
    FakeNetwork,
    name_of,
    true_faces,
    write_300w,
    write_aflw2000,
    write_bfm,
    write_face_model,
    write_image,
    write_predictions,
    write_pts,
)
from typer.testing import CliRunner

from sadr_cli.cli import app
from sadr_cli.errors import ExitCode, OutputError
from sadr_cli.evaluation import run
from sadr_cli.evaluation.data import aflw2000
from sadr_cli.render.contour import contour_landmarks

FACES = true_faces()


@pytest.fixture
def data(tmp_path: Path) -> Path:
    write_aflw2000(tmp_path / "data")
    return tmp_path / "data"


@pytest.fixture
def network(monkeypatch) -> FakeNetwork:
    fake = FakeNetwork(FACES)
    monkeypatch.setattr(run, "make_network", lambda settings: fake)
    return fake


def sadr(*arguments: object):
    return CliRunner().invoke(app, ["evaluate", *map(str, arguments)])


def off_by(faces, pixels):
    return [replace(f, landmarks=f.landmarks + np.array([pixels, 0, 0])) for f in faces]


def test_the_network_is_run_and_three_files_are_written(data, tmp_path, network):
    model = write_face_model(tmp_path / "model.npz")
    out = tmp_path / "out"
    result = sadr("aflw2000", "--data", data, "--out", out, "--face-model", model, "--occlusion")
    assert result.exit_code == ExitCode.OK, result.output
    for text in (
        "SADRNet [1]",
        "sadr fake (fitted)",
        "IEEE TIP 30 (2021)",
        "approximate truth",
        "after Procrustes",
    ):
        assert text in result.stdout
    assert "fitted" not in result.stderr  # results there, messages here
    assert f"wrote {out}" in result.stderr
    report = json.loads((out / "report.json").read_text())
    assert report["benchmark"]["image list sha256"] == aflw2000.load(data).list_sha256
    assert report["methods"][0]["weights"]["sha256"] == "ab" * 32
    results = report["methods"][0]["results"]
    assert results["nme_2d"]["fitted"]["mean"] == pytest.approx(0, abs=1e-3)
    assert results["reconstruction"]["fitted"]["mean"] == pytest.approx(0, abs=1e-3)
    assert results["pose"]["plain"]["excluded"] == 1
    assert "occlusion" in report
    assert results["nme_2d_p"]["fitted"]["mean"] > 0.5  # P of the made-up network is off
    assert "sadr fake, P (fitted)" in result.stdout
    cite = report["to cite"][0]
    for text in ("6 images", "truth crop", "balanced 0.00", "SHA-256 abababababab"):
        assert text in cite
    rows = list(csv.DictReader((out / "per_image.csv").read_text().splitlines()))
    assert [r["name"] for r in rows] == [name_of(i) for i in range(6)]
    assert rows[4]["bin"] == "60-90"
    assert float(rows[2]["yaw"]) == pytest.approx(45)


def test_a_bfm_pair_is_converted_on_the_way(data, tmp_path, network, monkeypatch):
    write_bfm(tmp_path)
    monkeypatch.setenv("SADR_DATA", str(tmp_path))
    data.rename(tmp_path / "AFLW2000-3D")
    out = tmp_path / "out"
    pair = ("--face-model", tmp_path / "BFM.mat", "--bfm-uv", tmp_path / "BFM_UV.mat")
    result = sadr("aflw2000", *pair, "--out", out)
    assert result.exit_code == 0, result.output
    assert "approximate truth, truncated basis: 3 identity + 2 expression" in result.stdout
    report = json.loads((out / "report.json").read_text())
    results = report["methods"][0]["results"]
    for key in ("dense_2d", "dense_3d", "reconstruction"):
        assert results[key]["fitted"]["mean"] == pytest.approx(0, abs=1e-2)
    # the converted model is kept for the next run
    again = sadr("aflw2000", "--face-model", out / "face_model.npz", "--out", tmp_path / "again")
    assert again.exit_code == 0, again.output


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.sources: list[str] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.sources += [v for k, v in attributes if k in ("src", "href", "srcset", "data")]


def test_the_page_asks_nothing_of_the_network(data, tmp_path, network):
    assert sadr("aflw2000", "--data", data, "--out", tmp_path).exit_code == 0
    text = (tmp_path / "report.html").read_text()
    page = _Page()
    page.feed(text)
    assert {"svg", "img", "table"} <= set(page.tags)
    assert "script" not in page.tags
    assert "link" not in page.tags
    assert all(s.startswith("data:image/jpeg;base64,") for s in page.sources)
    assert not re.search(r"url\(|@import|https?://", text)
    assert len(page.sources) == 11  # all six as the worst, five as the median ones


@needs_browser
@pytest.mark.slow
def test_the_page_in_a_browser(data, tmp_path, network):
    """Wide and narrow, light and dark: charts and faces are drawn, all text stands out."""
    assert sadr("aflw2000", "--data", data, "--out", tmp_path).exit_code == 0
    with browser() as page:
        for width, dark in ((1200, False), (1200, True), (390, False)):
            page.open(tmp_path / "report.html", width, 800, dark)
            assert page.value("document.documentElement.scrollWidth") <= width
            assert not page.value(CONTRAST)
            broken = "[...document.images].filter((i) => !i.complete || !i.naturalWidth).length"
            assert page.value("document.images.length") > 0 and page.value(broken) == 0
            lines = page.value(
                "document.querySelectorAll('.charts svg path, .charts svg polyline').length"
            )
            assert lines > 0
            page.value("document.querySelector('.charts svg').scrollIntoView()")
            assert page.picture(".charts svg").std() > 3
            assert page.console == []
            assert [u for u in page.requests if not u.startswith("data:")] == [
                (tmp_path / "report.html").as_uri()
            ]


def test_predictions_and_json_lines(data, tmp_path):
    path = write_predictions(tmp_path / "p.npz", off_by(FACES, 2.0))
    result = sadr(
        "aflw2000", "--data", data, "--predictions", path, "--out", tmp_path / "o", "--json", "-q"
    )
    assert result.exit_code == 0, result.output
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert [line["type"] for line in lines] == ["image"] * 6 + ["summary"]
    size = np.sqrt(np.prod(np.ptp(FACES[0].landmarks[:, :2], axis=0)))
    assert lines[0]["nme_2d"] == pytest.approx(200 / size, rel=1e-3)
    method = lines[-1]["methods"][0]
    assert method["left out"]["dense_2d"] == "no face model (--face-model)"
    assert method["sha256"]
    assert result.stderr == ""


def test_predictions_need_no_images(data, tmp_path):
    for image in data.glob("*.jpg"):
        image.unlink()
    path = write_predictions(tmp_path / "p.npz", FACES)
    result = sadr("aflw2000", "--data", data, "--predictions", path, "--out", tmp_path / "o")
    assert result.exit_code == 0, result.output


def test_two_sets_are_compared(data, tmp_path):
    (tmp_path / "a").mkdir()
    a = write_predictions(tmp_path / "a" / "predictions.npz", off_by(FACES, 2.0))
    b = write_predictions(tmp_path / "b.npz", off_by(FACES, 1.0))
    result = sadr("aflw2000", "--data", data, "--compare", a, b, "--out", tmp_path / "o")
    assert result.exit_code == 0, result.output
    assert "b minus a, paired bootstrap" in result.stdout
    report = json.loads((tmp_path / "o" / "report.json").read_text())
    figures = report["comparison"]["nme_2d"]["balanced"]
    assert figures["b"] == pytest.approx(figures["a"] / 2)
    assert (figures["low"], figures["count"]) == (None, 6)  # six faces: no interval
    assert report["comparison"]["yaw_error"]["count"] == 5
    header = (tmp_path / "o" / "per_image.csv").read_text().splitlines()[0]
    assert header.startswith("name,method,")


def test_a_set_is_not_compared_with_itself(data, tmp_path):
    path = write_predictions(tmp_path / "p.npz", FACES)
    result = sadr("aflw2000", "--data", data, "--compare", path, path, "--out", tmp_path / "o")
    assert result.exit_code == ExitCode.USAGE
    assert "--compare needs two prediction sets" in result.stderr


def test_occlusion_without_depth_is_refused_before_the_network_runs(tmp_path, network):
    data = write_300w(tmp_path / "data", [face.landmarks for face in FACES])
    result = sadr("300w", "--data", data, "--occlusion", "--out", tmp_path / "o")
    assert result.exit_code == ExitCode.USAGE
    assert "--occlusion needs 3-D landmarks" in result.stderr
    assert network.calls == 0
    assert not (tmp_path / "o").exists()


def test_a_report_is_never_there_by_halves(data, tmp_path, monkeypatch):
    from sadr_cli.evaluation.report import files

    def broken(report):
        raise RuntimeError("the page cannot be made")

    monkeypatch.setattr(files, "render", broken)
    path = write_predictions(tmp_path / "p.npz", FACES)
    result = sadr("aflw2000", "--data", data, "--predictions", path, "--out", tmp_path / "o")
    assert result.exit_code == ExitCode.INTERNAL
    assert not (tmp_path / "o").exists()


def test_the_count_of_missing_predictions_stands_in_the_table(data, tmp_path):
    path = write_predictions(tmp_path / "p.npz", FACES[:4])
    arguments = ("aflw2000", "--data", data, "--predictions", path, "--out", tmp_path / "o")
    result = sadr(*arguments)
    assert result.exit_code == ExitCode.MISSING
    assert "no prediction for image00004" in result.stderr
    assert not (tmp_path / "o").exists()
    result = sadr(*arguments, "--allow-missing")
    assert result.exit_code == 0, result.output
    assert "p (fitted, 2 missing)" in " ".join(result.stdout.split())
    report = json.loads((tmp_path / "o" / "report.json").read_text())
    assert report["methods"][0]["results"]["nme_2d"]["fitted"]["missing"] == 2


@pytest.mark.parametrize("header", [True, False])
def test_300w(tmp_path, header):
    points = [f.landmarks[:, :2] for f in FACES]
    for i, p in enumerate(points):
        name = tmp_path / "data" / ("ibug" if i % 2 else "helen") / name_of(i)
        name.parent.mkdir(parents=True, exist_ok=True)
        write_pts(name.with_suffix(".pts"), p, header)
        write_image(name.with_suffix(".png"), i)
    names = [f"{'ibug' if i % 2 else 'helen'}/{name_of(i)}" for i in range(6)]
    path = write_predictions(tmp_path / "p.npz", off_by(FACES, 1.0), names)
    for target in (("300w", "--data", tmp_path / "data"), (tmp_path / "data",)):
        result = sadr(*target, "--predictions", path, "--out", tmp_path / "o")
        assert result.exit_code == 0, result.output
        report = json.loads((tmp_path / "o" / "report.json").read_text())
        results = report["methods"][0]["results"]
        assert set(results["nme_box"]) == {"all", "helen", "ibug"}
        want = np.mean([100 / np.linalg.norm(p[36] - p[45]) for p in points])
        assert results["nme_inter_ocular"]["all"]["mean"] == pytest.approx(want, rel=1e-4)
        assert results["nme_box"]["all"]["auc"] > 50
        assert "p, helen, inter-pupil" in result.stdout
        assert "51 points in 2-D, without the jaw" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["aflw2000"], ExitCode.MISSING, "get AFLW2000-3D"),
        (["300w"], ExitCode.MISSING, "get 300-W"),
        (["florence"], ExitCode.MISSING, "Florence 2D/3D"),
        (["florence", "--predictions", "p"], ExitCode.USAGE, "does not apply to florence"),
        (["/no/such/folder"], ExitCode.MISSING, "/no/such/folder is neither"),
        (["aflw2000", "--data", "DATA", "--compare", "a.npz", "a.npz"], ExitCode.MISSING,
         "no predictions at a.npz"),
        (["aflw2000", "--data", "DATA", "--predictions", "DATA/image00001.jpg"],
         ExitCode.MISSING, "image00001.jpg is damaged or not an npz"),
        (["aflw2000", "--data", "DATA", "--crop", "guess"], ExitCode.USAGE, "truth or detector"),
        (["aflw2000", "--data", "DATA", "--align", "x"], ExitCode.USAGE, "procrustes or icp"),
        (["aflw2000", "--data", "DATA", "--y-flip", "x"], ExitCode.USAGE, "--y-flip takes"),
        (["300w", "--data", "DATA", "--jaw", "x"], ExitCode.USAGE, "surface or contour"),
        (["aflw2000", "--data", "DATA", "--jaw", "contour"], ExitCode.USAGE, "truth in 2-D"),
        (["300w", "--data", "DATA", "--pts-origin", "2"], ExitCode.USAGE, "0 or 1"),
        (["DATA", "--data", "DATA"], ExitCode.USAGE, "--data requires a benchmark"),
        (["aflw2000", "--data", "DATA", "--batch-size", "0"], ExitCode.USAGE, "--batch-size"),
        (["aflw2000", "--data", "DATA", "--predictions", "/none.npz"], ExitCode.MISSING,
         "no predictions at /none.npz"),
        (["aflw2000", "--data", "DATA", "--predictions", "p", "--compare", "a", "b"],
         ExitCode.USAGE, "exclude each other"),
        (["aflw2000", "--data", "DATA", "--face-model", "/none.npz"], ExitCode.MISSING,
         "no face model at /none.npz"),
        (["aflw2000", "--data", "DATA", "--face-model", "BFM.mat"], ExitCode.USAGE, "--bfm-uv"),
        (["aflw2000", "--data", "DATA", "--bfm-uv", "UV.mat"], ExitCode.USAGE, "--face-model"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_in_one_sentence(
    data, tmp_path, network, monkeypatch, arguments, code, message
):
    monkeypatch.delenv("SADR_DATA", raising=False)
    monkeypatch.chdir(tmp_path)
    result = sadr(*(a.replace("DATA", str(data)) for a in arguments))
    assert result.exit_code == code, result.output
    assert message in result.stderr
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") <= 1
    assert not (tmp_path / "evaluation").exists()


@pytest.mark.parametrize("how", ["network", "predictions", "bfm"])
def test_a_folder_that_cannot_be_written_is_named_before_the_work(
    data, tmp_path, network, monkeypatch, how
):
    monkeypatch.setattr(network, "reconstruct_crops", None)
    (tmp_path / "file").touch()
    more = {
        "network": (),
        "predictions": ("--predictions", write_predictions(tmp_path / "ours.npz", FACES)),
        "bfm": ("--face-model", tmp_path / "BFM.mat", "--bfm-uv", tmp_path / "BFM_UV.mat"),
    }[how]
    out = tmp_path / "file" / "out"
    result = sadr("aflw2000", "--data", data, "--out", out, *more)
    assert result.exit_code == OutputError.exit_code
    assert result.stderr.startswith(f"error: cannot write {out}: a part of the path is a file")
    assert result.stderr.count("\n") == 1


def test_a_truncated_image_names_the_file(data, tmp_path, network):
    path = data / f"{name_of(2)}.jpg"
    path.write_bytes(path.read_bytes()[:1500])
    arguments = ("aflw2000", "--data", data, "--out", tmp_path / "o")
    result = sadr(*arguments)
    assert result.exit_code == ExitCode.SOME_FAILED
    assert "image00002.jpg cannot be read" in result.stderr
    assert sadr(*arguments, "--allow-missing").exit_code == 0


def test_a_detector_that_finds_nothing(data, tmp_path, network, monkeypatch):
    class Blind:
        name = "blind"

        def detect(self, image):
            return []

    monkeypatch.setattr(run, "make_detector", lambda settings: Blind())
    result = sadr("aflw2000", "--data", data, "--out", tmp_path / "o", "--crop", "detector")
    assert result.exit_code == ExitCode.NOTHING
    assert "no face was found" in result.stderr


def test_rows_by_the_second_yaw_come_with_v(data, tmp_path):
    np.save(data / aflw2000.YAW_NEW_NPY, np.arange(6.0) * 15)
    path = write_predictions(tmp_path / "p.npz", off_by(FACES, 1.0))
    arguments = ("aflw2000", "--data", data, "--predictions", path, "--out", tmp_path / "o")
    short, long = sadr(*arguments), sadr(*arguments, "-v")
    assert short.exit_code == long.exit_code == 0
    assert "p (fitted)" in short.stdout
    assert "p (new)" not in short.stdout
    assert "(1 more with -v, and in report.html.)" in short.stdout
    assert "p (new)" in long.stdout
    page = (tmp_path / "o" / "report.html").read_text()
    assert "p (new)" in page


def test_a_table_is_one_line_a_row_for_other_programs(data, tmp_path):
    names = "a_method_with_a_name_that_is_longer_than_any_terminal_was_wide_in_the_last_century"
    path = write_predictions(tmp_path / f"{names}.npz", FACES)
    result = sadr("aflw2000", "--data", data, "--predictions", path, "--out", tmp_path / "o")
    row = next(line for line in result.stdout.splitlines() if line.startswith(f"{names} (fitted)"))
    assert row.split()[2:7] == ["0.00"] * 5


def test_300w_with_the_jaw_on_the_visible_contour(tmp_path, network):
    """The truth's jaw is the outline that the picture shows."""
    points = [contour_landmarks(face.vertices, SMALL) for face in FACES]
    data = write_300w(tmp_path / "data", points)
    arguments = ("300w", "--data", data, "--out", tmp_path / "o", "--jaw", "contour")
    result = sadr(*arguments)
    assert result.exit_code == 0, result.output
    report = json.loads((tmp_path / "o" / "report.json").read_text())
    results = report["methods"][0]["results"]
    assert results["nme_box_contour"]["all"]["mean"] == pytest.approx(0, abs=1e-3)
    assert results["nme_box"]["all"]["mean"] > 1
    assert "with the jaw on the visible contour mean 0.00 %" in report["to cite"][0]
    assert "68 points in 2-D, jaw on the visible contour" in result.stdout
    assert "nme_inter_pupil_contour" in (tmp_path / "o" / "per_image.csv").read_text()
    # The predictions that were written have both jaws; a set of the surface's alone says so.
    own = tmp_path / "o" / "predictions.npz"
    again = sadr(*arguments[:4], tmp_path / "p", "--jaw", "contour", "--predictions", own)
    assert "68 points in 2-D, jaw on the visible contour" in again.stdout
    plain = write_predictions(tmp_path / "plain.npz", FACES)
    without = sadr(*arguments[:4], tmp_path / "q", "--jaw", "contour", "--predictions", plain)
    assert without.exit_code == 0
    assert "no jaw on the contour: the predictions have no landmarks_contour" in without.stderr
