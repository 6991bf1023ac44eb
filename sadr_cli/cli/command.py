"""Commands made of groups of options, and their help by theme."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from copy import copy
from dataclasses import MISSING, Field, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import typer
from typer.core import TyperCommand
from typer.models import OptionInfo, ParameterInfo

from sadr_cli.errors import UsageError


class Command(TyperCommand):
    """A command whose help lists the options of each group under the group's title."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        sections: dict[str, list[tuple[str, str]]] = {"Arguments": [], "Options": []}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is None:
                continue
            title = getattr(parameter, "rich_help_panel", None) or "Options"
            if parameter.param_type_name == "argument":
                title, record = "Arguments", (str(parameter.metavar), record[1])
            sections.setdefault(title, []).append(record)
        for title, records in sections.items():
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)


def expand_groups(command: Callable[..., None]) -> Callable[..., None]:
    """``command`` as typer takes it: a parameter that is a dataclass becomes its fields' options.

    The dataclass has the options as ``Annotated`` fields and their theme as ``TITLE``.
    """
    hints = get_type_hints(command, include_extras=True)
    groups: dict[str, type] = {}
    parameters: list[inspect.Parameter] = []
    for name, parameter in inspect.signature(command).parameters.items():
        kind = hints[name]
        if is_dataclass(kind) and isinstance(kind, type):
            groups[name] = kind
            parameters += _options_of(kind)
        else:
            keyword = inspect.Parameter.KEYWORD_ONLY
            parameters.append(parameter.replace(annotation=_option(kind), kind=keyword))

    def call(**values: Any) -> None:
        for name, kind in groups.items():
            values[name] = kind(**{f.name: values.pop(f.name) for f in fields(kind)})
        command(**values)

    call.__name__, call.__doc__ = command.__name__, command.__doc__
    call.__annotations__ = {p.name: p.annotation for p in parameters}
    call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return call


def _options_of(group: type) -> list[inspect.Parameter]:
    hints = get_type_hints(group, include_extras=True)
    return [
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=_default(field),
            annotation=_option(hints[field.name], group.TITLE),  # type: ignore[attr-defined]
        )
        for field in fields(group)
    ]


def _default(field: Field[Any]) -> Any:
    return inspect.Parameter.empty if field.default is MISSING else field.default


def _option(annotation: Any, title: str | None = None) -> Any:
    """An ``Annotated`` option or argument with its theme; empty paths and what is no number of
    the option's range are refused in our own words, whatever typer's version says."""
    if get_origin(annotation) is not Annotated:
        return annotation
    kind, *infos = get_args(annotation)
    named: list[ParameterInfo] = [copy(info) for info in infos]
    for info in named:
        if isinstance(info, OptionInfo) and title is not None:
            info.rich_help_panel = title
        if kind is Path or kind == Path | None:
            info.parser = _path
        elif isinstance(info, OptionInfo) and kind in _NUMBERS and not info.count:
            info.parser = _number(_NUMBERS[kind], info)
    return Annotated[(kind, *named)]


def _path(text: str) -> Path:
    """Without this an empty name would be the working folder."""
    if not text:
        raise typer.BadParameter("the name is empty")
    return Path(text)


_NUMBERS: dict[Any, type[int] | type[float]] = {
    int: int,
    float: float,
    int | None: int,
    float | None: float,
}


def _number(kind: type[int] | type[float], info: OptionInfo) -> Callable[[str], int | float]:
    """What reads the option's value: a finite number of its kind from ``min`` to ``max``."""
    # In an Annotated the first name stands where else the default does.
    names = [n for n in (info.default, *(info.param_decls or ())) if isinstance(n, str)]
    name = next(n for n in names if n.startswith("--"))
    low, high = info.min, info.max
    wanted = "a whole number" if kind is int else "a number"
    if low is not None:
        wanted += f" of at least {low:g}" if high is None else f" from {low:g} to {high:g}"

    def number(text: str) -> int | float:
        try:
            value = kind(text)
        except ValueError:
            value = math.nan
        if (
            math.isfinite(value)
            and (low is None or value >= low)
            and (high is None or value <= high)
        ):
            return value
        raise UsageError(f"{name} takes {wanted}, not {text!r}")

    return number
