"""A JSON file that carries the digest of its own content, as records do: readable, and what was changed is told.

The digest is the SHA-256 of the file as it would be without the digest's line.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

DIGEST = "digest"
"""The key, which the content itself must not have."""


def sealed(raw: Mapping[str, Any]) -> bytes:
    """A record's JSON value as the bytes of a file with its digest.

    Raises:
        ValueError: a number that is not finite.
    """
    content = {key: value for key, value in raw.items() if key != DIGEST}
    return _text({**content, DIGEST: hashlib.sha256(_text(content)).hexdigest()})


def _text(content: Mapping[str, Any]) -> bytes:
    text = json.dumps(content, sort_keys=True, indent=1, allow_nan=False, ensure_ascii=False)
    return f"{text}\n".encode()


_LINE = re.compile(rb'\n "digest": "([0-9a-f]{64})",(?=\n)')
"""The digest's line in a file; within a value no newline stands as it is."""


def unsealed(content: bytes) -> bytes | None:
    """A file's JSON without its digest, where that is of just these bytes; else None, and :func:`intact` tells."""
    line = _LINE.search(content)
    if line is None:
        return None
    rest = content[: line.start()] + content[line.end() :]
    return rest if hashlib.sha256(rest).hexdigest().encode() == line[1] else None


def intact(raw: Mapping[str, Any]) -> bool:
    """Whether a file's value is what its digest was made of, however the file was laid out since."""
    given = raw.get(DIGEST)
    return isinstance(given, str) and sealed(raw) == _text({**raw, DIGEST: given})
