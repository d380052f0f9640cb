"""Passwords are kept out of everything that is written or said."""

from __future__ import annotations

import re

# Up to the last @: a password may hold any character, and one too many hidden is better than one shown.
_IN_URL = re.compile(r"(\b[a-z][\w+.-]*:/{0,3}[^/?#\s:]*):.*@", re.IGNORECASE | re.DOTALL)
_NAMED = re.compile(
    r"([\w-]*(?:password|passwd|passphrase|pwd|secret|token|api_?key)[\w-]*\s*=\s*)"  # the setting
    r"('[^']*'|\"[^\"]*\"|[^&\s;,'\")]+)",  # its value
    re.IGNORECASE,
)


def redact(text: str) -> str:
    """Hide the passwords of database URLs and of settings such as ``password=...`` in a text.

    Example:
        >>> redact("postgresql+psycopg://reader:pa@ss/word@db.example/eyes?sslpassword=x")
        'postgresql+psycopg://reader:***@db.example/eyes?sslpassword=***'
    """
    return _NAMED.sub(r"\1***", _IN_URL.sub(r"\1:***@", text))
