"""Repair rebuilds what is damaged, the same bytes as before, and touches nothing else."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from archives import draw_photograph, people
from curate.errors import UserError
from curate.ingest import ingest_archive
from curate.repair import repair_shards
from curate.sample import SampleRequest, sample_cohort
from curate.verify import verify_shards

SMALL = SampleRequest(size=32, shard_images=40, holdout=0.2, embed_metadata=("age", "sex"))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a cohort and a shard set of several shards; not to be changed."""
    base = tmp_path_factory.mktemp("made")
    rows = people(100)
    for number, row in enumerate(rows):
        draw_photograph(base / "images" / row["image_file"], number)
    pd.DataFrame(rows).to_csv(base / "manifest.csv", index=False)
    ingest_archive(base / "manifest.csv", images=[base / "images"], out=base / "cohort", workers=1)
    sample_cohort(base / "cohort", SMALL, out=base / "shards", workers=1)
    return base


@pytest.fixture
def base(made: Path, tmp_path: Path) -> Path:
    """A copy of it to damage, and the original beside it."""
    for part in ("cohort", "shards", "images"):
        shutil.copytree(made / part, tmp_path / part)
    shutil.copytree(made / "shards", tmp_path / "whole")
    return tmp_path


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def times(folder: Path) -> dict[str, tuple[int, int]]:
    return {p.name: (p.stat().st_mtime_ns, p.stat().st_ino) for p in folder.iterdir()}


def spoil(path: Path) -> None:
    with open(path, "r+b") as file:
        file.seek(2000)
        byte = file.read(1)
        file.seek(2000)
        file.write(bytes([byte[0] ^ 1]))


DAMAGE: dict[str, tuple[Callable[[Path], object], list[str]]] = {
    "a flipped bit": (lambda s: spoil(s / "shard-000001.tar"), ["shard-000001.tar"]),
    "a missing tar": (lambda s: (s / "shard-000001.tar").unlink(), ["shard-000001.tar"]),
    "a truncated tar": (lambda s: os.truncate(s / "shard-000001.tar", 3000), ["shard-000001.tar"]),
    "swapped tars": (
        lambda s: [
            (s / "shard-000000.tar").rename(s / "x"),
            (s / "shard-000001.tar").rename(s / "shard-000000.tar"),
            (s / "x").rename(s / "shard-000001.tar"),
        ],
        ["shard-000000.tar", "shard-000001.tar"],
    ),
    "no index": (lambda s: (s / "index.parquet").unlink(), ["index.parquet"]),
    "a torn index": (lambda s: os.truncate(s / "index.parquet", 100), ["index.parquet"]),
    "an edited index": (lambda s: pd.read_parquet(s / "index.parquet").assign(size=1).to_parquet(s / "index.parquet"), ["index.parquet"]),
    "no shards.json": (lambda s: (s / "shards.json").unlink(), ["shards.json"]),
    "an edited shards.json": (
        lambda s: (s / "shards.json").write_text((s / "shards.json").read_text().replace('"members_sha256": "', '"members_sha256": "0', 1)),
        ["shards.json"],
    ),
    "neither table": (lambda s: [(s / n).unlink() for n in ("index.parquet", "shards.json")], ["index.parquet", "shards.json"]),
    "a tar and both tables": (
        lambda s: [(s / n).unlink() for n in ("shard-000002.tar", "index.parquet", "shards.json")],
        ["shard-000002.tar", "index.parquet", "shards.json"],
    ),
    "everything but the specification": (
        lambda s: [p.unlink() for p in s.iterdir() if p.is_file() and p.name != "sample.json"],
        ["shard-000000.tar", "shard-000001.tar", "shard-000002.tar", "shard-000003.tar", "index.parquet", "shards.json"],
    ),
    "nothing": (lambda s: None, []),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGE)
def test_only_what_is_damaged_is_built_again_and_is_the_same_bytes(base: Path, damage: str) -> None:
    shards = base / "shards"
    act, expected = DAMAGE[damage]
    before = times(shards)
    act(shards)
    made = repair_shards(shards, base / "cohort", workers=1)
    names = [n for n in expected if n in contents(base / "whole")]
    assert made["rebuilt"] == names
    assert contents(shards) == contents(base / "whole")
    after = times(shards)
    assert all(after[n] == before[n] for n in before if n not in names and n != "private")
    assert verify_shards(shards, cohort=base / "cohort", workers=1)["problems"] == []


@pytest.mark.parametrize("change", [{"size": 0}, {"crop": True, "modality": "generic"}])
def test_every_form_of_photograph_is_rebuilt(base: Path, change: dict[str, object]) -> None:
    sample_cohort(base / "cohort", replace(SMALL, **change), out=base / "other", workers=1)  # type: ignore[arg-type]
    before = contents(base / "other")
    (base / "other" / "shard-000000.tar").unlink()
    repair_shards(base / "other", base / "cohort", workers=2)
    assert contents(base / "other") == before


def refused(base: Path, message: str) -> None:
    before = {n: c for n, c in contents(base / "shards").items() if not n.startswith("repair.partial")}
    with pytest.raises(UserError, match=message) as caught:
        repair_shards(base / "shards", base / "cohort", workers=1)
    assert "\n" not in str(caught.value)
    assert {n: c for n, c in contents(base / "shards").items() if not n.startswith("repair.partial")} == before


def test_without_private_nothing_can_be_repaired(base: Path) -> None:
    shutil.rmtree(base / "shards" / "private")
    spoil(base / "shards" / "shard-000001.tar")
    refused(base, r"private: missing, so the samples can't be traced back to their images; repair where it is kept")
    assert not (base / "shards" / "repair.partial").exists()


def test_a_private_key_table_that_cannot_be_right_is_refused(base: Path) -> None:
    path = base / "shards" / "private" / "keys.parquet"
    keys = pd.read_parquet(path)
    keys.iloc[1:].to_parquet(path)
    refused(base, r"keys.parquet: damaged, .* rows, sample.json says")
    keys.assign(image_id=keys["image_id"].iloc[::-1].to_list()).to_parquet(path)
    refused(base, r"keys.parquet: damaged, .* has another key")
    keys.iloc[::-1].to_parquet(path)
    refused(base, r"keys.parquet: damaged, .* out of order")
    path.unlink()
    refused(base, r"keys.parquet: missing")


def test_an_image_that_changed_is_refused_by_its_name(base: Path) -> None:
    (base / "shards" / "shard-000001.tar").unlink()
    for image in (base / "images").iterdir():
        image.write_bytes(image.read_bytes() + b"\0")
    refused(base, r"(left|right).jpg: changed since it was ingested; ingest again")


def test_another_cohort_is_refused(base: Path) -> None:
    table = base / "cohort" / "cohort.parquet"
    pd.read_parquet(table).assign(age=50.0).to_parquet(table)
    refused(base, "is not the cohort .* was drawn from")


def test_bytes_that_come_out_differently_are_refused(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # As another version of the library that encodes JPEG would.
    from curate import shard_builder
    from curate.rendering import render

    (base / "shards" / "shard-000001.tar").unlink()
    monkeypatch.setattr(shard_builder, "render", lambda data, *, size, quality, crop: render(data, size=size, quality=50, crop=crop))
    refused(base, r"shard-000001.tar: rebuilt, and not the same bytes as before .* nothing was changed: draw the sample again")


def test_killed_at_any_moment_the_same_command_completes_the_repair(base: Path) -> None:
    command = [sys.executable, "-m", "curate", "shards", "repair", "--workers", "1", "--quiet"]

    def damage() -> None:
        for n in range(3):
            (base / "shards" / f"shard-{n:06d}.tar").unlink(missing_ok=True)

    damage()
    started = time.monotonic()
    subprocess.run(command, cwd=base, check=True)
    took = time.monotonic() - started
    killed = 0
    for share in (0.5, 0.65, 0.75, 0.85):
        damage()
        process = subprocess.Popen(command, cwd=base)
        time.sleep(share * took)
        process.send_signal(signal.SIGKILL)
        killed += process.wait() == -signal.SIGKILL
        subprocess.run(command, cwd=base, check=True)
        assert contents(base / "shards") == contents(base / "whole")
    assert killed


def test_what_an_interrupted_repair_had_built_is_used_again(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from curate import shard_builder

    for n in range(3):
        (base / "shards" / f"shard-{n:06d}.tar").unlink()
    build, built = shard_builder.build_shard, []

    def stop_after_one(plan: str, start: int, length: int, images: str, folder: Path, name: str, form: object) -> dict[str, object]:
        if built:
            raise RuntimeError("killed")
        built.append(name)
        return build(plan, start, length, images, folder, name, form)  # type: ignore[arg-type]

    monkeypatch.setattr(shard_builder, "build_shard", stop_after_one)
    with pytest.raises(RuntimeError, match="killed"):
        repair_shards(base / "shards", base / "cohort", workers=1)
    again: list[str] = []
    monkeypatch.setattr(shard_builder, "build_shard", lambda *a: (again.append(a[5]), build(*a))[1])
    repair_shards(base / "shards", base / "cohort", workers=1)
    assert built == ["shard-000000.tar"]
    assert again == ["shard-000001.tar", "shard-000002.tar"]
    assert contents(base / "shards") == contents(base / "whole")


def test_the_command_repairs_and_verifies(base: Path) -> None:
    spoil(base / "shards" / "shard-000001.tar")
    command = [sys.executable, "-m", "curate", "shards", "repair", "--workers", "1"]
    done = subprocess.run(command, cwd=base, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("shards: shard-000001.tar built again\nshards: ")
    done = subprocess.run([*command, "--json"], cwd=base, capture_output=True, text=True)
    found = json.loads(done.stdout)
    assert (found["rebuilt"], found["problems"]) == ([], [])


def test_what_repair_cannot_mend_is_still_reported(base: Path) -> None:
    (base / "shards" / "notes.txt").write_text("")
    done = subprocess.run([sys.executable, "-m", "curate", "shards", "repair", "--workers", "1"], cwd=base, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == "error: shards: 1 problem(s); first: notes.txt: does not belong to the shard set\n"


def test_a_set_with_the_slower_checksum_is_verified_and_repaired_by_it(made: Path, tmp_path: Path) -> None:
    shards = tmp_path / "shards"
    sample_cohort(made / "cohort", replace(SMALL, checksum="md5"), out=shards, workers=1)
    tars = {n: d for n, d in contents(shards).items() if n.endswith(".tar")}
    assert tars == {n: d for n, d in contents(made / "shards").items() if n.endswith(".tar")}
    listed = json.loads((shards / "shards.json").read_text())["shardlist"]
    for entry in listed:
        assert entry["md5sum"] == hashlib.md5((shards / entry["url"]).read_bytes(), usedforsecurity=False).hexdigest()
        assert "members_sha256" not in entry
    assert verify_shards(shards, cohort=made / "cohort", workers=1)["problems"] == []
    with open(shards / "shard-000002.tar", "r+b") as file:
        file.seek(120)  # in a header, where no photograph's own checksum reaches
        file.write(b"7")
    problems = verify_shards(shards, workers=1)["problems"]
    assert "shard-000002.tar: its checksum is not the one in shards.json" in problems
    assert repair_shards(shards, made / "cohort", workers=1)["rebuilt"] == ["shard-000002.tar"]
    assert {n: d for n, d in contents(shards).items() if n.endswith(".tar")} == tars
    with pytest.raises(UserError, match="--checksum sha1: expected members or md5"):
        sample_cohort(made / "cohort", replace(SMALL, checksum="sha1"), out=tmp_path / "other")
