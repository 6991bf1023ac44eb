"""Parsers and checks of option values; all raise UsageError."""

from __future__ import annotations

from pathlib import Path

from sadr_cli.errors import UsageError


def parse_faces(text: str) -> str | int:
    """``largest``, ``all`` or a positive number of faces per photo."""
    if text in ("largest", "all"):
        return text
    if text.isdecimal() and int(text) > 0:
        return int(text)
    raise UsageError(f"--faces takes largest, all or a number of at least 1, not {text!r}")


def parse_batch_size(text: str) -> int | None:
    """A positive number, or None for ``auto``."""
    if text == "auto":
        return None
    if text.isdecimal() and int(text) > 0:
        return int(text)
    raise UsageError(f"--batch-size takes auto or a number of at least 1, not {text!r}")


def parse_formats(
    text: str | None, texture_size: int | None = None, optional: bool = False
) -> tuple[str, ...]:
    """Known formats in the order given, without duplicates; checks the texture size as well.

    optional: None gives no formats, for commands that also write other files.
    """
    from sadr_cli.writers import create_writer
    from sadr_cli.writers.compose import check_texture_size

    check_texture_size(texture_size)
    names = [part for part in (text or "").split(",") if part.strip()]
    if not names and not (optional and text is None):
        raise UsageError("--format needs at least one format, such as glb")
    return tuple(dict.fromkeys(create_writer(name).format for name in names))


def check_face_model(path: Path | None, formats: tuple[str, ...]) -> None:
    """UsageError unless --face-model and the format coefficients are given together."""
    wanted = "coefficients" in formats
    if wanted and path is None:
        raise UsageError("--format coefficients needs --face-model with the npz of a linear model")
    if path is not None and not wanted:
        raise UsageError("--face-model is for --format coefficients")


def parse_layers(text: str | None) -> tuple[str, ...]:
    """Layers of overlays in the order in which they are drawn; None: all."""
    from sadr_cli.render.overlay import LAYERS

    if text is None:
        return LAYERS
    asked = {part.strip() for part in text.split(",") if part.strip()}
    if not asked or asked - set(LAYERS):
        raise UsageError(
            f"--layers takes any of {', '.join(LAYERS)}, separated by commas, not {text!r}"
        )
    return tuple(layer for layer in LAYERS if layer in asked)


def check_out(out: Path) -> None:
    """UsageError for an output folder named like a mesh file: the user probably wants a file."""
    from sadr_cli.writers import MESH_FORMATS

    kind = out.suffix[1:].lower()
    if kind in MESH_FORMATS and not out.is_dir():
        raise UsageError(
            f"--out names a folder for all results: for {out.name} use --out {out.stem} "
            f"--format {kind}"
        )


def parse_shard(text: str | None) -> tuple[int, int]:
    """``3/16`` -> (2, 16): every 16th input, starting with the third; None: all."""
    if text is None:
        return 0, 1
    part, slash, parts = text.partition("/")
    if slash and part.isdecimal() and parts.isdecimal() and 0 < int(part) <= int(parts):
        return int(part) - 1, int(parts)
    raise UsageError(f"--shard takes K/N with K from 1 to N, such as 3/16, not {text!r}")
