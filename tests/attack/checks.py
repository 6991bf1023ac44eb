"""Cases about one picture file: what it must be read as, or that it is refused."""

from __future__ import annotations

import warnings

import numpy as np
from made_pictures import photo

from sadr_cli.errors import InputError
from sadr_cli.sources import read_image

from .cases import Case, one_sentence

PHOTO = photo(61, 47)  # no multiple of a tile, of a strip or of eight
GREY = PHOTO[..., 1]
GREY_RGB = np.dstack([GREY] * 3)
LIMIT = 10**6
LOSSY = 12.0  # mean error that JPEG and its like may leave on these busy pictures


def same(name: str, data: bytes, truth: np.ndarray, mean: float = 1.0, most: float = 255) -> Case:
    """The picture is ``truth``; mean, most: error that may be left, of 255."""

    def attempt() -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            read = read_image(data, max_pixels=LIMIT, label="it")
        assert read.shape == truth.shape, f"{read.shape} in place of {truth.shape}"
        wrong = np.abs(read.astype(int) - truth.astype(int))
        assert wrong.mean() <= mean, f"mean error {wrong.mean():.2f}"
        assert wrong.max() <= most, f"error {wrong.max()}"

    return Case(name, attempt)


def refused(name: str, data: bytes, why: str = "") -> Case:
    def attempt() -> None:
        try:
            read = read_image(data, max_pixels=LIMIT, label="it")
        except InputError as error:
            one_sentence(str(error))
            assert why in str(error), str(error)
        else:
            raise AssertionError(f"read as {read.shape}")

    return Case(name, attempt)


def either(name: str, data: bytes) -> Case:
    """A picture, or one sentence."""

    def attempt() -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                read = read_image(data, max_pixels=LIMIT, label="it")
            except InputError as error:
                one_sentence(str(error))
            else:
                assert read.dtype == np.uint8 and read.ndim == 3 and read.shape[2] == 3
                assert 0 < read.shape[0] * read.shape[1] <= LIMIT

    return Case(name, attempt)


def stretched(values: np.ndarray, dtype: str) -> np.ndarray:
    """8 bits over the whole range of ``dtype``; floating point over [0, 1]."""
    kind = np.dtype(dtype)
    if kind.kind == "f":
        return (values / 255).astype(kind)
    low, high = float(np.iinfo(kind).min), float(np.iinfo(kind).max)
    return np.rint(low + values / 255 * (high - low)).clip(low, high).astype(kind)


def packed_bits(values: np.ndarray, bits: int) -> bytes:
    spread = (values[:, None].astype(np.uint32) >> np.arange(bits)[::-1]) & 1
    return np.packbits(spread.astype(np.uint8).reshape(-1)).tobytes()
