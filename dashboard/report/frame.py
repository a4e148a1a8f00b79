"""The frame of a page that needs no network and no server: style, the figures' script, and what the page may load.

The page's content security policy forbids every load and every script but the two it brings (by their hash), so that a
text which slips through unescaped could still do nothing.
"""

from __future__ import annotations

import base64
import hashlib
from functools import lru_cache
from importlib import resources

from plotly.offline import get_plotlyjs

from dashboard.text import html_text


def framed(title: str, header: str, body: str, footer: str) -> str:
    """The whole page; ``title`` is text, the other three are finished HTML.  It depends on nothing else."""
    bundle, script = _scripts()
    policy = (
        f"default-src 'none'; script-src {_source(bundle)} {_source(script)}; style-src 'unsafe-inline'; "
        "img-src data: blob:; base-uri 'none'; form-action 'none'"
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html_text(title)}</title>\n<style>{_resource('page.css')}</style></head>\n<body>"
        f'<header class="top"><h1>{html_text(title)}</h1>{header}</header>\n'
        f"<main>{body}</main>\n<footer>{footer}</footer>\n"
        f"<script>{bundle}</script>\n<script>{script}</script></body></html>\n"
    )


def _source(script: str) -> str:
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return f"'sha256-{digest}'"


@lru_cache(maxsize=1)
def _scripts() -> tuple[str, str]:
    """Plotly's bundle and the page's own script.  A parser turns carriage returns into newlines, which would break the
    hashes, so there are none."""
    return get_plotlyjs().replace("\r\n", "\n").replace("\r", "\n"), _resource("page.js")


def _resource(name: str) -> str:
    return resources.files("dashboard.report").joinpath(name).read_text(encoding="utf-8")
