"""Self-contained HTML pages: all values are escaped, and nothing is loaded from elsewhere.

A page is a Jinja template that extends ``base.html``. Its content security policy allows only the
page's own style and script, by their hashes, and embedded pictures.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_HERE = Path(__file__).parent


def render_page(
    template: Path, *, title: str, style: str, script: str = "", **values: Any
) -> Iterator[str]:
    """The text of a page in pieces, so that large pages are never held in memory.

    template: the file that extends ``base.html``; style, script: trusted CSS and JavaScript,
    inserted unchanged; values: for the template. Strings are escaped, ``markupsafe.Markup`` is not.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=FileSystemLoader([template.parent, _HERE]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":")}
    return environment.get_template(template.name).generate(
        title=title,
        style=Markup(style),
        script=Markup(script),
        policy=content_security_policy(style, script),
        **values,
    )


def mesh_script() -> str:
    """JavaScript that shows a face as an interactive mesh, see :mod:`sadr_cli.render.coarse`.

    The script before it defines ``about`` (``grid`` and ``quantum``), ``$`` and ``payload``.
    """
    return (_HERE / "mesh.js").read_text(encoding="utf-8")


def page_json(value: Any) -> str:
    """JSON that is safe inside a script element, as a ``Markup``."""
    from jinja2.utils import htmlsafe_json_dumps

    return htmlsafe_json_dumps(value, separators=(",", ":"))


def content_security_policy(style: str, script: str = "") -> str:
    """The policy that allows only this style and this script."""
    parts = ["default-src 'none'", "base-uri 'none'", "form-action 'none'"]
    parts.append("img-src data: blob:")
    parts.append(f"style-src {_source(style)}")
    if script:
        parts.append(f"script-src {_source(script)}")
    return "; ".join(parts)


def _source(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"
