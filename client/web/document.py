"""The live page as one HTML document that needs nothing else, and the policy that says so."""

from __future__ import annotations

import base64
import hashlib
from importlib.resources import files


def _source(name: str) -> str:
    return files("fgmclip.client.web").joinpath(name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    return "'sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() + "'"


def document() -> tuple[bytes, str]:
    """Return the page and its Content-Security-Policy.

    The policy allows this very style and this very script, calls to the page's own server, and
    nothing else; text can never become markup in it (Trusted Types).
    """
    style, script = _source("page.css"), _source("page.js")
    html = _source("page.html").replace("/*style*/", style).replace("/*script*/", script)
    policy = "; ".join(
        (
            "default-src 'none'",
            f"style-src {_digest(style)}",
            f"script-src {_digest(script)}",
            "connect-src 'self'",
            "img-src data:",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
            "require-trusted-types-for 'script'",
            "trusted-types 'none'",
        )
    )
    return html.encode(), policy
