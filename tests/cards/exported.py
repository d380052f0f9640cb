"""A project whose set has real tars and whose card is answered, for the tests of the exports."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pandas as pd
from card_artefacts import build, make_project
from PIL import Image

ABOUT = {
    "title": "Two hospitals, balanced by age", "version": "1.0.0", "released": "2026-03-31", "custodian": "An eye hospital",
    "creators": "The reading centre", "contact": "cards@hospital.example", "licence": "CC BY 4.0", "url": "https://hospital.example/set",
    "identifier": "10.1234/abcd", "access": "On request", "funding": "A public fund",
}  # fmt: skip
ITEMS = {
    "1.1c": "To pre-train image models.\n\nNot for diagnosis.", "1.1d": "Screening at two hospitals.", "1.2c": "Older people.",
    "1.3a": "Two cities alone.", "1.3f": "No labels.", "1.4a": "Approved; consent waived.", "1.4b": "A panel of patients.",
    "2.2b": "People of two cities.",
}  # fmt: skip


def write_tars(shards: Path, *, tars: int = 2, checksum: str = "members_sha256") -> None:
    """Write tiny tars and their list, as the sampling does, with the index of a set of that size."""
    listed, rows = [], []
    for i in range(tars):
        name = f"shard-{i:06d}.tar"
        with tarfile.open(shards / name, "w", format=tarfile.USTAR_FORMAT) as tar:
            for k in range(3):
                photograph = io.BytesIO()
                Image.new("RGB", (8, 8), (40 * k, 90, 60 * i)).save(photograph, "JPEG")
                for suffix, data in (("jpg", photograph.getvalue()), ("json", b'{"height":8,"width":8}')):
                    member = tarfile.TarInfo(f"{i:012x}{k:012x}.{suffix}")
                    member.size = len(data)
                    tar.addfile(member, io.BytesIO(data))
                rows.append({"key": f"{i:012x}{k:012x}", "shard": name})
        listed.append({"url": name, "nsamples": 3, checksum: f"{i:032x}" if checksum == "md5sum" else f"{i:064x}"})
    (shards / "shards.json").write_text(json.dumps({"name": "set", "shardlist": listed}))
    pd.DataFrame(rows).to_parquet(shards / "index.parquet", index=False)


def answer(folder: Path, about: dict[str, str], items: dict[str, str]) -> None:
    """Write card.yaml; JSON is YAML."""
    folder.mkdir(exist_ok=True)
    content: dict[str, Any] = {"about": about, "items": {k: {"answer": v} for k, v in items.items()}}
    (folder / "card.yaml").write_text(json.dumps(content), encoding="utf-8")


def make_published(folder: Path, **options: Any) -> Path:
    """Make the project and build its card with these options; returns the card's folder."""
    make_project(folder)
    about = json.loads((folder / "cohort" / "cohort.json").read_text())
    (folder / "cohort" / "cohort.json").write_text(json.dumps({**about, "synthetic": False}))
    write_tars(folder / "shards")
    answer(folder / "card", ABOUT, ITEMS)
    build(folder, **options)
    return folder / "card"
