"""The licences of what evenfooting uses, as the installed packages state them: ``python tests/licences.py > LICENSES.md``."""

from __future__ import annotations

import fnmatch
import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageMetadata, PackageNotFoundError, metadata, requires
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
DEVELOPMENT = ("bench", "docs", "test")
PERMISSIVE = {
    "0BSD", "Apache-2.0", "BSD", "BSD-2-Clause", "BSD-3-Clause", "BSL-1.0", "CC0-1.0", "CNRI-Python", "HPND",
    "ISC", "LLVM-exception", "MIT", "MIT-0", "MIT-CMU", "PSF", "PSF-2.0", "Unlicense", "Zlib",
}  # fmt: skip
# What packages state in words of their own.
SPELT = {
    "3-clause bsd": "BSD-3-Clause",
    "3-clause bsd license": "BSD-3-Clause",
    "apache 2.0": "Apache-2.0",
    "apache license 2.0": "Apache-2.0",
    "apache license, version 2.0": "Apache-2.0",
    "apache software license": "Apache-2.0",
    "apache": "Apache-2.0",
    "bsd license": "BSD",
    "isc license (iscl)": "ISC",
    "mit license": "MIT",
    "mozilla public license 2.0 (mpl 2.0)": "MPL-2.0",
    "nvidia proprietary software": "LicenseRef-NVIDIA-Proprietary",
    "python software foundation license": "PSF",
    "the unlicense (unlicense)": "Unlicense",
}
# Their projects say it; their metadata don't.
READ = {"mlcroissant": "Apache-2.0", "cuda-toolkit": "LicenseRef-NVIDIA-Proprietary"}
# Direct dependencies that are not permissive, and why they are here all the same.
EXCEPTIONS = {
    "psycopg": "Weak copyleft. Only `[sql]` brings it, for PostgreSQL; it is imported as it is, neither changed nor copied. "
    "SQLite and DuckDB need none of it.",
    "hypothesis": "Weak copyleft, by file. The tests alone use it; it is not installed with evenfooting.",
}
# What the direct ones bring along that is not permissive, by pattern of names.
INDIRECT = {
    "nvidia-*": "NVIDIA's CUDA libraries, which PyTorch's ordinary Linux build brings along: proprietary, free to use and to redistribute "
    "with an application under NVIDIA's terms. Installed from NVIDIA's own packages; evenfooting holds no copy.",
    "cuda-*": "As above.",
    "certifi": "Mozilla's certificates, MPL-2.0: weak copyleft, by file.",
    "tqdm": "MPL-2.0 AND MIT: weak copyleft, by file.",
    "psycopg-binary": "LGPL-3.0-only, with `[sql]` alone, as psycopg itself.",
    "pathspec": "MPL-2.0, with the tests alone.",
}


@dataclass(frozen=True)
class Dependency:
    """A direct dependency: its name, what it is needed for (``""``: always; otherwise the extra), and its licence."""

    name: str
    extra: str
    licence: str


def licence(name: str) -> str:
    """Give the licence of an installed package as an SPDX expression where it states one, and otherwise in the words of `SPELT`.

    Raises:
        ValueError: where it states none that is known.
    """
    about: PackageMetadata = metadata(name)
    classified = [c.split(" :: ")[-1] for c in about.get_all("Classifier") or [] if c.startswith("License :: ") and c.count("::") > 1]
    for stated in (about.get("License-Expression"), READ.get(canonicalize_name(name)), about.get("License"), *classified):
        known = SPELT.get((stated or "").strip().lower(), (stated or "").strip())
        if known and len(known) < 150 and re.fullmatch(r"[\w.+-]+( (AND|OR|WITH) [\w.+-]+|[()])*", known):
            return known
    raise ValueError(f"{name}: states no licence that is known; find out and add it to READ")


def permissive(expression: str) -> bool:
    """Say whether every part of an expression is a permissive licence; of alternatives one is enough."""
    parts = [re.findall(r"[\w.+-]+", one) for one in re.split(r"\bOR\b", expression)]
    return any(set(part) - {"AND", "WITH"} <= PERMISSIVE for part in parts)


def direct() -> list[Dependency]:
    """List the direct dependencies of `pyproject.toml`, each under the first extra that names it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    found: dict[str, Dependency] = {}
    for extra, requirements in {"": project["dependencies"], **project["optional-dependencies"]}.items():
        for requirement in requirements:
            name = canonicalize_name(Requirement(requirement).name)
            if name not in (*found, "evenfooting"):
                found[name] = Dependency(name, extra, licence(name))
    return sorted(found.values(), key=lambda d: (d.extra != "", d.extra in DEVELOPMENT, d.extra, d.name))


def brought_along() -> dict[str, str]:
    """Find what the direct dependencies require in turn, here: name -> licence; those without a known one are an error."""
    named = {d.name for d in direct()}
    seen: set[str] = set()

    def walk(name: str, extras: tuple[str, ...]) -> Iterator[str]:
        try:
            needed = [Requirement(r) for r in requires(name) or []]
        except PackageNotFoundError:
            return  # for another system, or an extra that is not installed
        yield name
        for requirement in needed:
            inner = canonicalize_name(requirement.name)
            marker = requirement.marker
            if inner not in seen and (marker is None or any(marker.evaluate({"extra": e}) for e in ("", *extras))):
                seen.add(inner)
                yield from walk(inner, tuple(requirement.extras))

    every = {found for name in named for found in walk(name, ("binary",) if name == "psycopg" else ())}
    return {name: licence(name) for name in sorted(every - named)}


def allowed(name: str) -> bool:
    """Say whether a package that is brought along is one of `INDIRECT`."""
    return any(fnmatch.fnmatch(name, pattern) for pattern in INDIRECT)


def page() -> str:
    """Write LICENSES.md."""
    lines = [
        "# Licences of what evenfooting uses",
        "",
        "evenfooting itself is under [Apache-2.0](LICENSE) and holds no code of others. These are its direct dependencies with the",
        "licence that each package states. `python tests/licences.py > LICENSES.md` writes this page; a test fails where it is out of",
        "date, or where a dependency is neither permissive nor among the exceptions below.",
        "",
        "| package | needed for | licence |",
        "|---|---|---|",
    ]
    lines += [f"| {d.name} | {f'`[{d.extra}]`' if d.extra else 'always'} | {d.licence} |" for d in direct()]
    names = ", ".join(f"`[{extra}]`" for extra in DEVELOPMENT if any(d.extra == extra for d in direct()))
    lines += ["", f"{names} are for development: they are not needed to use evenfooting.", "", "## Not permissive", ""]
    lines += [f"- **{d.name}** ({d.licence}). {EXCEPTIONS[d.name]}" for d in direct() if not permissive(d.licence)]
    lines += ["", "What the direct dependencies bring along is permissive too, but for these:", ""]
    lines += [f"- **{pattern}**: {reason}" for pattern, reason in INDIRECT.items()]
    lines += [
        "- The wheels of OpenCV hold FFmpeg (LGPL-2.1); evenfooting reads no video. Its licences are in the installed package.",
        "",
        "Nothing under GPL, AGPL or a non-commercial licence is a dependency. Released weights (`timm:`, `hf:`) come under licences of",
        "their own, which evenfooting does not know: read them before you train from such weights or publish what was made with them.",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(page(), end="")
