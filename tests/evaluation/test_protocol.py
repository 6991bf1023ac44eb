"""What a benchmark must say of itself is enough for every part of a report."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence

import numpy as np
import pytest
from evaluation_data import FakeNetwork, name_of, true_faces, write_image, write_predictions

from sadr_cli.errors import UsageError
from sadr_cli.evaluation import benchmarks, run
from sadr_cli.evaluation.data.benchmark import Benchmark
from sadr_cli.evaluation.measures.scoring import Scores, ced_figures
from sadr_cli.evaluation.photos import PhotoProtocol
from sadr_cli.evaluation.report.files import write_files
from sadr_cli.evaluation.report.record import Cited
from sadr_cli.evaluation.report.table import Table
from sadr_cli.evaluation.settings import Settings

FACES = true_faces()


class NoseTips(PhotoProtocol[Benchmark]):
    """A benchmark that nothing else knows of: the nose tip alone, in pixels."""

    name = "noses"
    main = "nose"
    measures = {"nose": "nose tip"}  # noqa: RUF012
    drawn = drawn_together = ("nose",)
    refused = {"occlusion": "--occlusion does not apply to noses"}  # noqa: RUF012

    def load(self, folder, settings):
        images = tuple(sorted(folder.glob("*.jpg")))
        return Benchmark(
            name="noses",
            folder=folder,
            names=tuple(p.stem for p in images),
            images=images,
            landmarks=np.stack([f.landmarks for f in FACES]),
        )

    def score(self, benchmark, predictions, settings, **choices):
        difference = predictions.landmarks[:, 30] - benchmark.landmarks[:, 30]
        errors = np.linalg.norm(difference[:, :2], axis=1)
        return Scores({"nose": errors}, {"nose": ced_figures(errors)})

    def choices(self, entries: Sequence) -> dict[str, str]:
        return {"nose": "distance of point 31 in pixels"}

    def cited(self, results) -> Cited:
        return Cited("nose tip", f"{results['nose']['mean']:.2f} pixels", 0)

    def tables(self, report) -> list[Table]:
        table = Table("Noses", ["method", "mean"])
        for entry in report.entries:
            table.add([entry.label, entry.scores.results["nose"]["mean"]], ours=True)
        return [table]


@pytest.fixture
def noses(tmp_path, monkeypatch):
    (tmp_path / "data").mkdir()
    for i in range(len(FACES)):
        write_image(tmp_path / "data" / f"{name_of(i)}.jpg", i)
    monkeypatch.setattr(benchmarks, "NAMES", (*benchmarks.NAMES, "noses"))
    known = benchmarks.get
    monkeypatch.setattr(benchmarks, "get", lambda n: NoseTips() if n == "noses" else known(n))
    monkeypatch.setattr(run, "make_network", lambda settings: FakeNetwork(FACES))
    return tmp_path / "data"


def test_a_new_benchmark_needs_nothing_but_its_protocol(noses, tmp_path):
    report = run.evaluate(Settings("noses", data=noses, out=tmp_path / "out"))
    _, table, page = write_files(report, tmp_path / "out")
    record = json.loads((tmp_path / "out" / "report.json").read_text())
    assert record["protocol"] == {"nose": "distance of point 31 in pixels"}
    assert "nose tip, truth crop: 0.00 pixels" in record["to cite"][0]
    rows = list(csv.DictReader(table.read_text().splitlines()))
    assert [float(row["nose"]) for row in rows] == pytest.approx([0] * 6, abs=1e-3)
    text = page.read_text()
    assert text.count("<figure>") == 11
    assert "nose tip</text>" in text  # the legend of its curve


def test_two_sets_are_compared_by_the_new_measure(noses, tmp_path):
    for name in ("a", "b"):
        write_predictions(tmp_path / f"{name}.npz", FACES)
    settings = Settings("noses", data=noses, compare=(tmp_path / "a.npz", tmp_path / "b.npz"))
    report = run.evaluate(settings)
    assert report.to_dict()["comparison"]["nose"]["mean"]["difference"] == 0


def test_an_option_that_makes_no_sense_is_refused(noses):
    with pytest.raises(UsageError, match="--occlusion does not apply to noses"):
        run.evaluate(Settings("noses", data=noses, occlusion=True))


def test_every_benchmark_of_the_package_is_found_by_its_file():
    assert benchmarks.NAMES == ("aflw2000", "florence", "300w")
    for name in benchmarks.NAMES:
        assert benchmarks.get(name).name == name
