"""HTML pages that open without a network: style and images are part of the file."""

from __future__ import annotations

import base64
from typing import Any

from jinja2 import Environment, PackageLoader


def render(template: str, **values: Any) -> bytes:
    """Render a template of ``fvpipe/report/templates``.

    Parameters
    ----------
    **values
        Variables of the template; text is escaped.
    """
    environment = Environment(loader=PackageLoader("fvpipe.report"), autoescape=True, trim_blocks=True)
    return environment.get_template(template).render(**values).encode("utf-8", "replace")


def data_uri(image: bytes, kind: str = "jpeg") -> str:
    """URI that holds an image: ``jpeg`` or ``svg+xml``."""
    return f"data:image/{kind};base64,{base64.b64encode(image).decode()}"
