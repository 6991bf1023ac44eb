"""Builds the page of the public API from its docstrings; any warning is an error.

    python docs/build_api.py build/api

Wants pdoc (``pip install -e '.[dev]'``). Also fails when something public has no docstring.
"""

from __future__ import annotations

import sys
import warnings
from functools import cached_property
from pathlib import Path
from types import FunctionType

try:
    import pdoc
    import pdoc.render
except ModuleNotFoundError:
    sys.exit("pdoc makes this page and is not installed: pip install -e '.[dev]'")

import sadr_cli


def undocumented() -> list[str]:
    """Public classes, functions, methods and properties without a docstring of their own."""
    missing = []
    for name in sadr_cli.__all__:
        thing = getattr(sadr_cli, name)
        if callable(thing) and not thing.__doc__:
            missing.append(name)
        for key, member in vars(thing).items() if isinstance(thing, type) else ():
            documentable = isinstance(member, property | cached_property | FunctionType)
            if documentable and not key.startswith("_") and not member.__doc__:
                missing.append(f"{name}.{key}")
    return missing


def main(target: Path) -> None:
    warnings.simplefilter("error")
    # This also makes the lazily imported names attributes, which is what pdoc looks for.
    missing = undocumented()
    if missing:
        sys.exit("without a docstring: " + ", ".join(missing))
    pdoc.render.configure(
        docformat="restructuredtext",
        show_source=False,
        search=True,
        footer_text=f"sadr {sadr_cli.__version__}",
        template_directory=Path(__file__).parent / "api_theme",
    )
    pdoc.pdoc("sadr_cli", "!sadr_cli\\..*", output_directory=target)
    print(f"wrote {target / 'sadr_cli.html'}", file=sys.stderr)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "build/api"))
