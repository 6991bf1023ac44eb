"""Checkpoints that are none, or describe a network that nobody has: named, never executed."""

from __future__ import annotations

import json
import math
import pickle
import struct
import tempfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

from synthetic import layout

from sadr_cli.errors import MissingDataError
from sadr_cli.model.checkpoint import Checkpoint, load_checkpoint, read_metadata, save_checkpoint

from .cases import Case, one_sentence

LEAST = 46
Change = Callable[[dict[str, Any], dict[str, Any]], object]  # of tensors and document


@cache
def _whole() -> bytes:
    import torch

    from sadr_cli.model.network import NetworkConfig, SADRNet

    torch.manual_seed(0)
    network = SADRNet(NetworkConfig(64, 32, 0.125)).eval()
    with tempfile.TemporaryDirectory(prefix="sadr-attack-") as folder:
        path = Path(folder) / "small.safetensors"
        save_checkpoint(Checkpoint(network, layout(0.25), name="small"), path)
        return path.read_bytes()


def cases() -> Iterator[Case]:
    for name, change in {**_documents(), **_networks(), **_tensors()}.items():
        yield Case(name, lambda change=change: _refused(_rewritten(change)))
    for name, data in _bytes().items():
        yield Case(name, lambda data=data: _refused(data()))


def _rewritten(change: Change) -> bytes:
    from safetensors.torch import load, save

    tensors, document = load(_whole()), read_metadata(_whole())
    text = change(tensors, document)
    return save(tensors, {"sadr": text if isinstance(text, str) else json.dumps(document)})


def _refused(data: bytes) -> None:
    with tempfile.TemporaryDirectory(prefix="sadr-attack-") as folder:
        path = Path(folder) / "a.safetensors"
        path.write_bytes(data)
        try:
            load_checkpoint(path)
        except MissingDataError as error:
            one_sentence(str(error).replace("\n", " "))
            assert "a.safetensors" in str(error)
        else:
            raise AssertionError("loaded")
        assert [p.name for p in Path(folder).iterdir()] == ["a.safetensors"]


def _documents() -> dict[str, Change]:
    texts = ["", "[", "7", "null", "[1, 2]", '"x"', "[" * 100_000, '{"format": 1}', "NaN", "{}"]
    out: dict[str, Change] = {f"document {t[:12]!r}": lambda _, d, t=t: t for t in texts}
    values = {"format": 2, "network": [], "scaling": 5, "provenance": 7}
    for key, value in values.items():
        out[f"{key} is {value}"] = lambda _, d, k=key, v=value: d.update({k: v})
    for key in ("network", "scaling"):
        out[f"no {key}"] = lambda _, d, k=key: d.__delitem__(k)
    for value in ("wide", math.nan, math.inf, 0, -1, None, [1]):
        out[f"scaling of {value}"] = lambda _, d, v=value: d["scaling"].update(position=v)
    return out


def _networks() -> dict[str, Change]:
    odd = {
        "input_size": (0, -64, 63, 2**40, "big", 64.5, None, math.nan),
        "uv_size": (48, -32, 2**40, "x"),
        "width": (0, -1, 1e9, math.nan, "x"),
        "attention_channels": (-8, 10**9, "x", 10**400),
        "encoder": ("unheard of", 5, "../evil", []),
        "color": ("CMYK", 5),
        "pixel_scale": (-1, math.nan, 1e300),
        "unheard_of": (1,),
    }
    out: dict[str, Change] = {}
    for key, values in odd.items():
        for value in values:
            name = f"network {key} {str(value)[:20]}"
            out[name] = lambda _, d, k=key, v=value: d["network"].update({k: v})
    return out


def _tensors() -> dict[str, Change]:
    def first(tensors: dict[str, Any]) -> str:
        return next(k for k in tensors if k.startswith("network.") and tensors[k].ndim == 4)

    def put(value: float) -> Change:
        return lambda t, _: t[first(t)].view(-1).__setitem__(3, value)

    return {
        "no landmarks": lambda t, _: t.__delitem__("uv.kpt"),
        "no mask": lambda t, _: t.__delitem__("uv.mask"),
        "a landmark outside": lambda t, _: t["uv.kpt"].__setitem__((3, 1), 999),
        "a landmark before": lambda t, _: t["uv.kpt"].__setitem__((3, 1), -1),
        "few landmarks": lambda t, _: t.update({"uv.kpt": t["uv.kpt"][:9].clone()}),
        "a small mask": lambda t, _: t.update({"uv.mask": t["uv.mask"][:9].clone()}),
        "an empty mask": lambda t, _: t.update({"uv.mask": t["uv.mask"] * 0}),
        "a template of NaN": lambda t, _: t["uv.mean_shape"].fill_(math.nan),
        "a weight of NaN": put(math.nan),
        "a weight of infinity": put(math.inf),
        "a weight missing": lambda t, _: t.__delitem__(first(t)),
        "a weight flat": lambda t, _: t.update({first(t): t[first(t)].reshape(-1).clone()}),
        "a weight too many": lambda t, _: t.update({"network.more": t[first(t)].clone()}),
    }


def _bytes() -> dict[str, Callable[[], bytes]]:
    out: dict[str, Callable[[], bytes]] = {
        "a pickle": lambda: pickle.dumps({"a": 1}),
        "an archive": lambda: b"PK\3\4" + bytes(100),
        "zeros": lambda: bytes(5000),
        "a header of exabytes": lambda: struct.pack("<Q", 2**63) + b"{}",
        "a header beyond its end": lambda: struct.pack("<Q", 10**6) + b"{}",
        "a header that is no JSON": lambda: struct.pack("<Q", 3) + b"abc" + bytes(9),
        "a header without tensors": lambda: struct.pack("<Q", 2) + b"{}",
        "a tensor beyond its end": lambda: _with_offset(10**12),
        "a tensor before its start": lambda: _with_offset(-5),
    }
    for share in (0, 1, 25, 75, 99):
        out[f"cut at {share} %"] = lambda s=share: _whole()[: len(_whole()) * s // 100]
    return out


def _with_offset(end: int) -> bytes:
    head = {"uv.mask": {"dtype": "U8", "shape": [256, 256], "data_offsets": [0, end]}}
    text = json.dumps(head).encode()
    return struct.pack("<Q", len(text)) + text + bytes(65536)
