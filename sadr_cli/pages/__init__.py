"""HTML pages: one file each, everything escaped, nothing loaded from elsewhere.

A page is a Jinja template that extends ``base.html``. Its content security policy allows the
page's own style and script, by their hashes, and pictures inside the page; nothing else.
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
    """The text of a page, piece by piece, so that a large one is never whole in memory.

    template: the file that extends ``base.html``; style, script: our own CSS and JavaScript, put in
    as they are; values: what the template shows. Strings are escaped; ``markupsafe.Markup`` is not.
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
    """JavaScript that shows a face as a mesh to turn, see :mod:`sadr_cli.render.coarse`.

    The script before it defines ``about`` (``grid`` and ``quantum``), ``$`` and ``payload``.
    """
    return (_HERE / "mesh.js").read_text(encoding="utf-8")


def page_json(value: Any) -> str:
    """JSON for a script element, whatever text is in it; a ``Markup``."""
    from jinja2.utils import htmlsafe_json_dumps

    return htmlsafe_json_dumps(value, separators=(",", ":"))


def content_security_policy(style: str, script: str = "") -> str:
    """The policy of a page with this style and this script, and no other."""
    parts = ["default-src 'none'", "base-uri 'none'", "form-action 'none'"]
    parts.append("img-src data: blob:")
    parts.append(f"style-src {_source(style)}")
    if script:
        parts.append(f"script-src {_source(script)}")
    return "; ".join(parts)


def _source(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"
