"""A made-up face model and made-up photos for the tests of the training: no licensed data."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from made_up import labels, spots
from scipy.io import savemat
from synthetic import layout

from sadr_cli.landmarks import MIRROR_68
from sadr_cli.model.face_model import FaceModel, load_face_model
from sadr_cli.uv import UVLayout


@pytest.fixture(scope="session")
def uv() -> UVLayout:
    """The made-up layout with landmarks that mirror as the 68 do."""
    plain = layout()
    kpt = np.zeros((68, 2), int)
    middle = np.flatnonzero(MIRROR_68 == np.arange(68))
    kpt[middle] = [(row, 128) for row in (205, 80, 95, 110, 128, 140, 155, 165, 175, 185)]
    left = [i for i in range(68) if i < MIRROR_68[i]]
    for n, i in enumerate(left):
        row, reach = 60 + 4 * n, 25 + 50 * (n % 3) / 2
        kpt[i], kpt[MIRROR_68[i]] = (row, 127 - reach), (row, 128 + reach)
    return UVLayout(plain.mask, kpt, plain.region, plain.mean_shape)


@pytest.fixture(scope="session")
def model_file(uv: UVLayout, tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(0)
    waves = rng.standard_normal((3, 50))
    basis = 0.03 * np.sin(uv.mean_shape[:, :, None] * 3 + waves[None])
    path = tmp_path_factory.mktemp("model") / "model.npz"
    np.savez(
        path,
        mask=uv.mask,
        region=uv.region,
        kpt=uv.kpt,
        mean=uv.mean_shape,
        basis=basis.astype(np.float16),
        sigma=np.full(50, 2.0, np.float32),
    )
    return path


@pytest.fixture(scope="session")
def model(model_file: Path) -> FaceModel:
    return load_face_model(model_file)


@pytest.fixture(scope="session")
def shard(model: FaceModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows = labels(model, 12)
    coded = [cv2.imencode(".webp", spots(r["landmarks"]))[1].ravel() for r in rows]
    path = tmp_path_factory.mktemp("shards") / "made-up.npz"
    np.savez(
        path,
        webp=np.concatenate(coded),
        offset=np.cumsum([0] + [len(c) for c in coded]),
        coeff=np.stack([r["c"] for r in rows]).astype(np.float16),
        scale=np.full(12, 50, np.float32),
        rotation=np.stack([r["r"] for r in rows]).astype(np.float32),
        translation=np.stack([r["t"] for r in rows]).astype(np.float32),
        size=np.full(12, 200, np.int16),
    )
    return path


@pytest.fixture(scope="session")
def folder(model: FaceModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same in the layout of 300W-LP and AFLW2000-3D."""
    path = tmp_path_factory.mktemp("lp")
    for i, r in enumerate(labels(model, 6)):
        cv2.imwrite(str(path / f"p{i}.jpg"), spots(r["landmarks"]))
        yaw = np.arcsin(-r["r"][0, 2])
        pitch = np.arctan2(r["r"][1, 2], r["r"][2, 2])
        roll = np.arctan2(r["r"][0, 1], r["r"][0, 0])
        pose = [pitch, yaw, roll, r["t"][0], 200 + r["t"][1], 0, 50 * 0.015 / 1e3]
        raw = r["c"] * model.sigma
        savemat(
            path / f"p{i}.mat",
            {
                "Pose_Para": np.array([pose]),
                "Shape_Para": np.r_[raw[:40], np.zeros(159)][:, None],
                "Exp_Para": np.r_[raw[40:], np.zeros(19)][:, None],
                "pt3d_68": r["landmarks"].T,
            },
        )
    return path
