"""The settings of a training: read from TOML, changed by ``--set``, saved with the weights.

A file contains what differs from the preset; its sections are the dataclasses of a run::

    preset = "lite"
    variant = "sadrnet"
    name = "mine"

    [data]                      # DataSettings; paths relative to the working folder
    train = ["shards"]
    face_model = "bfm_uv.npz"

    [train]                     # TrainConfig
    max_hours = 2.0

    [augment]                   # AugmentConfig; likewise [network], [loss]
    profiling = 0.3

    [run]                       # RunOptions
    save_every = 2000

``settings.toml`` in the run's folder has the effective value of every setting; as ``--config`` it
starts the same training again.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, get_args, get_origin, get_type_hints

from sadr_cli.errors import UsageError
from sadr_cli.files import atomic_write
from sadr_cli.model.alignment import MODES
from sadr_cli.model.config import ENCODERS
from sadr_cli.text import decode
from sadr_cli.training.config import PRESETS, RunOptions, TrainConfig, with_steps, with_variant

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

NAME = "settings.toml"
DEFAULT_PRESET = "full"
# Settings in a different unit in files: run.piece is in MiB there, in bytes in the dataclass.
_UNITS = {"run.piece": 2**20}
_HEADER = "# Every setting of this training; `sadr train --config` starts it again.\n"

# Smallest and largest values of settings that do not accept every number.
_LIMITS: dict[str, tuple[float, float]] = {
    "train.steps": (1, 1e12),
    "train.batch_size": (2, 1e6),
    "train.lr": (1e-8, 1e3),
    "train.max_hours": (0.001, 1e6),
    "train.average": (0, 0.99999),
    "train.clean": (0, 0.9),
    "train.distill": (0, 1),
    "train.flatten_yaw": (0, 1),
    "run.photo_side": (0, 1e5),
    "run.pause_after": (0.05, 1e6),
    "run.piece": (0.1, 1e6),
    "run.save_every": (1, 1e9),
    **{f"augment.{name}": (0, 1) for name in (
        "flip", "grey", "blur", "noise", "jpeg", "low_resolution", "occlusion", "fill",
        "profiling", "beyond", "cut",
    )},
}  # fmt: skip
_CHOICES = {
    "train.alignment": MODES,
    "network.encoder": ENCODERS,
    "train.schedule": ("cosine", "exponential", "constant"),
    "preset": tuple(PRESETS),
}


@dataclass(frozen=True)
class DataSettings:
    """The inputs of a training.

    train: shards (.npz), folders of shards, or 300W-LP-style folders. face_model: the linear face
    model the labels refer to (npz). validation: AFLW2000-3D-style folder for the NME after saves.
    backgrounds: images without faces for fills and occluders (npz). teacher: checkpoint (path or
    name) to distil from.
    A new run starts from at most one of: start_from, a checkpoint (path or name) for weights and
    template; start_encoder, one for the encoder alone; encoder_from, an ONNX file with a pretrained
    MobileNet encoder.
    human_points: npz of annotated landmarks, see ``dataset.add_human_points``. labels: npz of fits
    that replace those of the data, see ``dataset.replace_labels``.
    """

    train: tuple[str, ...] = ()
    face_model: str | None = None
    validation: str | None = None
    backgrounds: str | None = None
    teacher: str | None = None
    start_from: str | None = None
    start_encoder: str | None = None
    encoder_from: str | None = None
    human_points: str | None = None
    labels: str | None = None


@dataclass(frozen=True)
class Settings:
    """A training: name of its checkpoint, its preset and variant, data, what is learned
    (``config``) and how it is carried out (``run``)."""

    name: str = "trained"
    preset: str = DEFAULT_PRESET
    variant: str = "sadrnet"
    data: DataSettings = field(default_factory=DataSettings)
    config: TrainConfig = field(default_factory=TrainConfig)
    run: RunOptions = field(default_factory=RunOptions)

    def sections(self) -> dict[str, Any]:
        """The dataclass of each section of the file."""
        parts = {f.name: getattr(self.config, f.name) for f in fields(self.config)}
        nested = {name: part for name, part in parts.items() if is_dataclass(part)}
        return {"data": self.data, "train": self.config, **nested, "run": self.run}


Layer = dict[str, dict[str, Any]]  # values by section; "" holds those without one
_TOP = ("preset", "variant", "name")


def resolve(
    config: Path | None = None,
    changes: Sequence[str] = (),
    preset: str | None = None,
    **data: Any,
) -> Settings:
    """Settings from a file, ``KEY=VALUE`` changes and the data of the command line.

    Later sources win: the preset, the file, ``changes``, then ``preset`` and ``data`` (fields of
    DataSettings; None and () are ignored). UsageError says what is wrong, and where.
    """
    layers = [] if config is None else [(str(config), _read(config))]
    layers += [(f"--set {text}", _change(text)) for text in changes]
    given = {k: v for k, v in data.items() if v is not None and v != ()}
    names = [layer[""]["preset"] for _, layer in layers if "preset" in layer.get("", {})]
    chosen = preset or (names[-1] if names else DEFAULT_PRESET)
    if chosen not in PRESETS:
        raise UsageError(f"no preset {chosen!r}: use {', '.join(PRESETS)}")
    settings = Settings(preset=chosen, config=PRESETS[chosen])
    for label, layer in layers:
        settings = _apply(settings, layer, label)
    settings = replace(settings, data=replace(settings.data, **given))
    return _with_teacher(settings, layers)


def _with_teacher(settings: Settings, layers: Iterable[tuple[str, Layer]]) -> Settings:
    """With a teacher, ``distill`` defaults to 0.5."""
    given = any("distill" in layer.get("train", {}) for _, layer in layers)
    if settings.data.teacher is None or given:
        return settings
    return replace(settings, config=replace(settings.config, distill=0.5))


def save(settings: Settings, folder: Path) -> None:
    """Write ``settings.toml`` to ``folder``."""
    atomic_write(folder / NAME, to_toml(settings).encode("utf-8"))


def to_toml(settings: Settings) -> str:
    """All settings as TOML, without those that are None."""
    lines = [_HEADER]
    lines += [f"{key} = {_literal(getattr(settings, key))}" for key in _TOP]
    for section, part in settings.sections().items():
        lines.append(f"\n[{section}]")
        for key in _kinds(part):
            value = getattr(part, key)
            if value is not None:
                unit = _UNITS.get(f"{section}.{key}")
                lines.append(f"{key} = {_literal(value / unit if unit else value)}")
    return "\n".join(lines) + "\n"


def _literal(value: Any) -> str:
    """A TOML value; for all types used here JSON has the same notation."""
    return json.dumps(list(value) if isinstance(value, tuple) else value)


# Reading --------------------------------------------------------------------------------------


def _read(path: Path) -> Layer:
    try:
        document = tomllib.loads(decode(path.read_bytes()))
    except OSError as error:
        raise UsageError(f"--config {path}: {error.strerror or error}") from error
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        reason = str(error) or "nested too deeply"
        text = f"{reason[:1].lower()}{reason[1:]}"
        raise UsageError(f"--config {path} is not valid TOML: {text}") from error
    sections = {k: v for k, v in document.items() if isinstance(v, dict)}
    top = {k: v for k, v in document.items() if not isinstance(v, dict)}
    return {**({"": top} if top else {}), **sections}


def _change(text: str) -> Layer:
    """``lr=0.002``, ``augment.profiling=0.3`` or ``data.teacher=official``."""
    key, equals, value = (part.strip() for part in text.partition("="))
    if not equals or not key:
        raise UsageError(f"--set takes KEY=VALUE, such as train.lr=0.001, not {text!r}")
    section, _, name = key.rpartition(".")
    if not section and name not in _TOP:
        homes = [s for s, part in Settings().sections().items() if name in _kinds(part)]
        if len(homes) > 1:
            which = " or ".join(f"{home}.{name}" for home in homes)
            raise UsageError(f"--set {text} is ambiguous: use {which}")
        section = homes[0] if homes else ""
    return {section: {name: _parse(value)}}


def _parse(text: str) -> Any:
    """A TOML value; anything else is text."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (tomllib.TOMLDecodeError, RecursionError):
        return text


def _apply(settings: Settings, layer: Layer, label: str) -> Settings:
    """``settings`` changed by one layer: first its variant and length, then its other values."""
    _check_names(settings, layer, label)
    top = {k: _checked(k, v, str, label) for k, v in layer.get("", {}).items()}
    config = settings.config
    if "variant" in top:
        config = with_variant(config, top["variant"])
    steps = layer.get("train", {}).get("steps")
    if steps is not None:
        config = with_steps(config, _checked("train.steps", steps, int, label))
    top.pop("preset", None)
    settings = replace(settings, config=config, **top)
    parts = settings.sections()
    new = {}
    for section, part in parts.items():
        kinds = _kinds(part)
        values = {
            key: _checked(f"{section}.{key}", value, kinds[key], label)
            for key, value in layer.get(section, {}).items()
        }
        try:
            new[section] = replace(part, **values)
        except ValueError as error:
            raise UsageError(f"{label}: {error}") from error
    nested = {name: new[name] for name in parts if name not in ("data", "train", "run")}
    config = replace(new["train"], **nested)
    return replace(settings, data=new["data"], config=config, run=new["run"])


def _check_names(settings: Settings, layer: Layer, label: str) -> None:
    known = set(_known(settings))
    for section, values in layer.items():
        for key in values or [""]:
            name = f"{section}.{key}".strip(".")
            if name in known or (not key and section in settings.sections()):
                continue
            near = get_close_matches(name, known, 1) or _namesakes(key, known)
            hint = f": did you mean {near[0]}?" if near else ""
            raise UsageError(f"{label}: there is no setting {name}{hint}")


def _namesakes(key: str, known: Iterable[str]) -> list[str]:
    """Settings whose name without the section is similar to ``key``."""
    own = {name.rpartition(".")[2]: name for name in known}
    return [own[name] for name in get_close_matches(key, own, 1)]


def _known(settings: Settings) -> Iterator[str]:
    """All settings by their full names."""
    yield from _TOP
    for section, part in settings.sections().items():
        yield from (f"{section}.{key}" for key in _kinds(part))


def _kinds(part: Any) -> dict[str, Any]:
    """The plain fields of a dataclass and their types."""
    hints = get_type_hints(type(part))
    return {f.name: hints[f.name] for f in fields(part) if not is_dataclass(hints[f.name])}


def _checked(name: str, value: Any, kind: Any, label: str) -> Any:
    """``value`` as the field's type; UsageError for another type or a value out of range."""
    if isinstance(kind, UnionType):  # with None, the value of a setting that is left out
        kind = next(k for k in get_args(kind) if k is not NoneType)
    unit = _UNITS.get(name)
    kind = float if unit else kind
    fitting = _fitting(value, kind)
    if fitting is None:
        raise UsageError(f"{label}: {name} takes {_in_words(kind)}, not {value!r}")
    choices = _CHOICES.get(name)
    if choices is not None and fitting not in choices:
        raise UsageError(f"{label}: {name} must be one of {', '.join(choices)}, not {value!r}")
    if kind in (int, float):
        low, high = _LIMITS.get(name, (-1e12, 1e12))
        if not low <= fitting <= high:
            raise UsageError(f"{label}: {name} must be from {low:g} to {high:g}, not {value}")
    return int(fitting * unit) if unit else fitting


def _fitting(value: Any, kind: Any) -> Any:
    """``value`` as ``kind``, or None when it is of another type."""
    if get_origin(kind) is tuple:
        many = value if isinstance(value, list) else [value]
        return tuple(many) if all(isinstance(v, str) for v in many) else None
    if kind is float and type(value) in (int, float):
        return float(value)
    if kind is str and type(value) in (int, float, bool):  # --set name=7
        return str(value)
    return value if type(value) is kind else None


def _in_words(kind: Any) -> str:
    names: Mapping[Any, str] = {
        bool: "true or false", int: "a whole number", float: "a number", str: "text",
    }  # fmt: skip
    return names.get(kind, "a list of strings")
