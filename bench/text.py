"""Text from outside as it is shown: what would steer a terminal or turn the reading direction is made visible."""

from __future__ import annotations

import re

MOST = 600
"""Characters of one value in a message."""

_HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff]"
)
"""Control characters but tab and newline, marks that turn or hide text, halves of surrogate pairs."""


def visible(text: str) -> str:
    """``text`` with escape codes and the like written out: ``\\u001b[31m``, as JSON does.  Newlines and tabs stay."""
    return _HIDDEN.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def cut(text: str, most: int = MOST) -> str:
    """``text``, or its first ``most`` characters and how many there are."""
    return text if len(text) <= most else f"{text[:most]}… ({len(text):,} characters)"
