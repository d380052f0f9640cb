"""Licences by the names that Hugging Face and SPDX give them."""

from __future__ import annotations

import re

_SPDX = (
    "CC0-1.0", "CC-BY-2.0", "CC-BY-3.0", "CC-BY-4.0", "CC-BY-SA-3.0", "CC-BY-SA-4.0", "CC-BY-NC-2.0", "CC-BY-NC-3.0", "CC-BY-NC-4.0",
    "CC-BY-ND-4.0", "CC-BY-NC-ND-3.0", "CC-BY-NC-ND-4.0", "CC-BY-NC-SA-2.0", "CC-BY-NC-SA-3.0", "CC-BY-NC-SA-4.0",
    "CDLA-Sharing-1.0", "CDLA-Permissive-1.0", "CDLA-Permissive-2.0", "PDDL-1.0", "ODC-By-1.0", "ODbL-1.0", "Apache-2.0", "MIT",
)  # fmt: skip
_HUGGING_FACE = {"PDDL-1.0": "pddl", "ODC-By-1.0": "odc-by", "ODbL-1.0": "odbl"}
_KNOWN = {spdx.lower(): spdx for spdx in _SPDX}


def spdx_of(text: str) -> str:
    """Give the SPDX identifier that a text is or begins with, ``""`` where it is none of the known ones.

    Example:
        >>> [spdx_of(t) for t in ("CC BY 4.0", "cc0-1.0", "CC BY 4.0 (https://creativecommons.org/licenses/by/4.0/)", "ours")]
        ['CC-BY-4.0', 'CC0-1.0', 'CC-BY-4.0', '']
    """
    said = re.sub(r"\s*[(,;:].*", "", text).strip().lower()
    return _KNOWN.get(re.sub(r"[\s_]+", "-", said), "")


def hugging_face_of(spdx: str) -> str:
    """Give Hugging Face's name of an SPDX identifier."""
    return _HUGGING_FACE.get(spdx, spdx.lower())


def page_of(spdx: str) -> str:
    """Give the address at which SPDX has the licence."""
    return f"https://spdx.org/licenses/{spdx}.html"
