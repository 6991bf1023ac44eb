"""Commands whose options come in groups, and the help that lists them by group."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from copy import copy
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import typer
from typer.core import TyperCommand
from typer.models import OptionInfo, ParameterInfo

from sadr_cli.errors import UsageError


class Command(TyperCommand):
    """A command whose help lists the options of each group under its heading."""

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
    """``command`` for typer: each parameter that is a dataclass is replaced by its fields.

    The dataclass declares the options as ``Annotated`` fields, and their heading as ``TITLE``.
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
            default=inspect.Parameter.empty if field.default is MISSING else field.default,
            annotation=_option(hints[field.name], group.TITLE),  # type: ignore[attr-defined]
        )
        for field in fields(group)
    ]


def _option(annotation: Any, title: str | None = None) -> Any:
    """An ``Annotated`` option or argument with its heading and the parser of its type.

    Our own parsers give error messages that do not depend on the version of typer. The choices of
    a ``Literal`` are also completed, and listed in the help.
    """
    if get_origin(annotation) is not Annotated:
        return annotation
    kind, *infos = get_args(annotation)
    choices = next((get_args(k) for k in (kind, *get_args(kind)) if get_origin(k) is Literal), ())
    named: list[ParameterInfo] = [copy(info) for info in infos]
    for info in named:
        if isinstance(info, OptionInfo) and title is not None:
            info.rich_help_panel = title
        if kind is Path or kind == Path | None:
            info.parser = _path
        elif choices:
            info.parser = _choice(choices, _name_of(info))
            info.metavar = "|".join(map(str, choices))
            info.autocompletion = complete(*map(str, choices))
        elif isinstance(info, OptionInfo) and kind in _NUMBERS and not info.count:
            info.parser = _number(_NUMBERS[kind], info)
    return Annotated[(str | None if choices else kind, *named)]


def complete(*words: str) -> Callable[[str], list[str]]:
    """For ``autocompletion``: the words that continue the last one of a comma-separated list."""

    def matching(incomplete: str) -> list[str]:
        before, comma, last = incomplete.rpartition(",")
        return [before + comma + word for word in words if word.startswith(last)]

    return matching


def _name_of(info: ParameterInfo) -> str:
    # In an Annotated, typer stores the first name as the default.
    names = [n for n in (info.default, *(info.param_decls or ())) if isinstance(n, str)]
    return next(n for n in names if n.startswith("--"))


def _path(text: str) -> Path:
    if not text:  # pathlib would take it for the working folder
        raise typer.BadParameter("the name is empty")
    return Path(text)


def _choice(choices: tuple[Any, ...], name: str) -> Callable[[str], Any]:
    """A parser that returns one of ``choices``."""
    values = {str(choice): choice for choice in choices}
    *first, last = values

    def choice(value: Any) -> Any:
        text = str(value)  # click converts the default, too
        if text not in values:
            raise UsageError(f"{name} takes {', '.join(first)} or {last}, not {text!r}")
        return values[text]

    return choice


_NUMBERS: dict[Any, type[int] | type[float]] = {
    int: int,
    float: float,
    int | None: int,
    float | None: float,
}


def _number(kind: type[int] | type[float], info: OptionInfo) -> Callable[[str], int | float]:
    """A parser for finite numbers of type ``kind`` from ``info.min`` to ``info.max``."""
    name, low, high = _name_of(info), info.min, info.max
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
