"""Verification finds every kind of damage and every kind of leak, and says which sample is wrong."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from archives import people
from curate import open_shards
from curate.cohort import read_cohort
from curate.errors import UserError
from curate.ingest import ingest_archive
from curate.sample import SampleRequest, sample_cohort
from curate.verify import verify_shards

SMALL = SampleRequest(size=32, shard_images=40, holdout=0.2)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a cohort and a shard set of several shards; not to be changed."""
    from archives import draw_photograph

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
    """A copy of it to damage."""
    for part in ("cohort", "shards"):
        shutil.copytree(made / part, tmp_path / part)
    (tmp_path / "images").symlink_to(made / "images")
    return tmp_path


def problems(base: Path, **options: Any) -> list[str]:
    return verify_shards(base / "shards", cohort=base / "cohort", workers=1, **options)["problems"]


def flip(path: Path, offset: int) -> None:
    with open(path, "r+b") as file:
        file.seek(offset)
        byte = file.read(1)
        file.seek(offset)
        file.write(bytes([byte[0] ^ 1]))


def sample(base: Path, position: int) -> Any:
    return open_shards(base / "shards").index.iloc[position]


def edit_json(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


def edit_table(path: Path, change: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
    change(pd.read_parquet(path)).to_parquet(path)


def who(base: Path) -> pd.DataFrame:
    return pd.read_parquet(base / "shards" / "private" / "keys.parquet")


def held(base: Path) -> pd.DataFrame:
    return pd.read_parquet(base / "shards" / "private" / "holdout.parquet")


@pytest.mark.parametrize("workers", [1, 2])
def test_a_good_set_has_no_problems(made: Path, workers: int) -> None:
    found = verify_shards(made / "shards", cohort=made / "cohort", workers=workers)
    assert found["problems"] == []
    assert found["unchecked"] == []
    assert found["shards"] >= 3
    assert "no photograph either" in found["heldout"]


def test_a_flipped_bit_in_a_photograph_names_the_sample(base: Path) -> None:
    row = sample(base, 5)
    flip(base / "shards" / row["shard"], row["offset"] + 200)
    assert problems(base) == [
        f"{row['shard']}: its checksum is not the one in shards.json",
        f"{row['shard']}: sample {row['key']}: its photograph's checksum is wrong",
    ]


def test_a_flipped_bit_in_a_header_names_the_first_sample_behind_it(base: Path) -> None:
    row = sample(base, 5)
    flip(base / "shards" / row["shard"], row["offset"] - 512 + 3)
    found = problems(base)
    assert f"{row['shard']}: cannot be read to its end: no header at byte {row['offset'] - 512:,}" in found
    assert next(p for p in found if "of index.parquet" in p) == f"{row['shard']}: sample {row['key']} of index.parquet is not in it"


def test_a_flipped_bit_in_the_filling_names_the_sample(base: Path) -> None:
    row = next(r for r in open_shards(base / "shards").index.to_dict("records") if r["size"] % 512)
    flip(base / "shards" / row["shard"], row["offset"] + row["size"])
    assert any(f"sample {row['key']}: the header or filling" in p for p in problems(base))


def test_a_flipped_bit_in_a_json_is_found(base: Path) -> None:
    row = sample(base, 5)
    start = row["offset"] + row["size"] + -row["size"] % 512 + 512
    flip(base / "shards" / row["shard"], start + 10)  # a digit of the height
    found = problems(base)
    assert f"{row['shard']}: its checksum is not the one in shards.json" in found
    assert any(row["key"] in p and "pixels, its photograph has" in p for p in found)


def test_a_truncated_tar_names_what_is_lost(base: Path) -> None:
    row = sample(base, 5)
    os.truncate(base / "shards" / row["shard"], row["offset"] + 10)
    found = problems(base)
    assert f"{row['shard']}: cannot be read to its end: ends inside {row['key']}.jpg" in found
    assert f"{row['shard']}: sample {row['key']} of index.parquet is not in it" in found


@pytest.mark.parametrize("length", [0, 100, 512])
def test_a_tar_cut_to_almost_nothing_is_a_problem_and_no_crash(base: Path, length: int) -> None:
    os.truncate(base / "shards" / "shard-000001.tar", length)
    found = problems(base)
    assert any(p.startswith("shard-000001.tar: cannot be read to its end") for p in found)
    assert any(p.startswith("shard-000001.tar: and ") for p in found)  # not one line for each of its samples


def test_bytes_behind_the_end_are_found(base: Path) -> None:
    with open(base / "shards" / "shard-000001.tar", "ab") as file:
        file.write(b"x" * 10_240)
    assert any("shard-000001.tar: cannot be read to its end: other bytes follow its end mark" in p for p in problems(base))


def test_swapped_tars_are_recognised(base: Path) -> None:
    first, second = (base / "shards" / f"shard-{n:06d}.tar" for n in (0, 1))
    first.rename(base / "aside")
    second.rename(first)
    (base / "aside").rename(second)
    assert problems(base) == [
        "shard-000000.tar: is shard-000001.tar under another name",
        "shard-000001.tar: is shard-000000.tar under another name",
    ]


def test_a_missing_tar_is_found(base: Path) -> None:
    (base / "shards" / "shard-000001.tar").unlink()
    assert problems(base) == ["shard-000001.tar: missing"]


@pytest.mark.parametrize("name", ["shard-000099.tar", "notes.txt", "private/names.csv", "repair.partial"])
def test_foreign_files_are_found(base: Path, name: str) -> None:
    (base / "shards" / name).write_text("")
    assert [p.split(":")[0] for p in problems(base)] == [name]


def test_a_sample_that_stands_twice_is_found(base: Path) -> None:
    import tarfile

    row = sample(base, 5)
    path = base / "shards" / row["shard"]
    with tarfile.open(path) as tar:
        members = [(m, tar.extractfile(m).read()) for m in tar]  # type: ignore[union-attr]
    import io

    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for member, data in [*members, members[10], members[11]]:
            tar.addfile(member, io.BytesIO(data))
    found = problems(base)
    assert f"{row['shard']}: sample {row['key']} stands twice in it" in found


def test_a_sample_of_two_tars_is_found(base: Path) -> None:
    row = sample(base, 5)
    index = base / "shards" / "index.parquet"
    edit_table(index, lambda f: pd.concat([f, f[f["key"] == row["key"]].assign(shard=f["shard"].iloc[-1])], ignore_index=True))
    found = problems(base)
    assert any(p.startswith(f"index.parquet: sample {row['key']}") and "out of order" in p for p in found)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.assign(sha256=f["sha256"].where(f.index != 5, "0" * 64)), "its photograph's checksum is wrong"),
        (lambda f: f.assign(offset=f["offset"] + 512 * (f.index == 5)), "is not where index.parquet says"),
        (lambda f: f.assign(key=f["key"].where(f.index != 5, f["key"].iloc[4])), "stands twice"),
        (lambda f: f.drop(index=5), "is not in index.parquet for this shard"),
        (lambda f: f.assign(shard=f["shard"].where(f.index != 5, "../elsewhere.tar")), "which is not a shard of this set"),
    ],
)
def test_an_edited_index_is_found(base: Path, change: Callable[[pd.DataFrame], pd.DataFrame], message: str) -> None:
    edit_table(base / "shards" / "index.parquet", change)
    assert any(message in p for p in problems(base))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s["shardlist"][0].update(members_sha256="0" * 64), "shard-000000.tar: its checksum is not the one in shards.json"),
        (lambda s: s["shardlist"][0].update(nsamples=3), "samples, shards.json says 3"),
        (lambda s: s["shardlist"][0].update(filesize=3), "bytes, shards.json says 3"),
        (lambda s: s["shardlist"][0].pop("nsamples"), "shards.json: entry 0 lacks one of url, members_sha256, nsamples, filesize"),
        (lambda s: s["shardlist"].pop(1), "shards.json: does not list shard-000001.tar"),
        (lambda s: s["shardlist"].reverse(), "shards.json: its shards are not in order"),
        (lambda s: s["shardlist"].append(dict(s["shardlist"][0], url="more.tar")), "shards.json: lists more.tar"),
        (lambda s: s.update(wids_version=2), "shards.json: is not an index of wids, version 1"),
        (lambda s: s.pop("shardlist"), "shards.json: has no shardlist"),
    ],
)
def test_an_edited_shards_json_is_found(base: Path, change: Callable[[dict[str, Any]], object], message: str) -> None:
    edit_json(base / "shards" / "shards.json", change)
    assert any(message in p for p in problems(base))


@pytest.mark.parametrize("name", ["shards.json", "index.parquet"])
@pytest.mark.parametrize("left", [None, b"{", b"PAR1"])
def test_a_table_that_is_gone_or_torn_is_a_problem_that_names_the_repair(base: Path, name: str, left: bytes | None) -> None:
    path = base / "shards" / name
    path.unlink() if left is None else path.write_bytes(left)
    found = problems(base)
    assert any(name in p and "curate shards repair" in p for p in found)


def test_counts_of_sample_json_are_compared(base: Path) -> None:
    edit_json(base / "shards" / "sample.json", lambda s: s.update(images=3))
    assert any("sample.json says 3 images" in p for p in problems(base))


def test_metadata_inside_a_photograph_is_found(base: Path) -> None:
    from curate.shard_check import _check_photograph

    photograph = (base / "images" / "00000_left.jpg").read_bytes()
    named = photograph[:2] + b"\xff\xfe\x00\x0aJane Roe" + photograph[2:]
    assert _check_photograph("abc", photograph, {}) == []
    assert _check_photograph("abc", named, {}) == ["sample abc: its photograph carries metadata that must not be in a shard"]


def test_embedded_columns_that_were_not_asked_for_are_found(base: Path) -> None:
    sample_cohort(base / "cohort", replace(SMALL, embed_metadata=("age",)), out=base / "more", workers=1)
    assert verify_shards(base / "more", workers=1)["problems"] == []
    edit_json(base / "more" / "sample.json", lambda s: s["made_by"]["specification"].update(embed_metadata=[]))
    assert any("its .json holds 'age', which was not asked for" in p for p in verify_shards(base / "more", workers=1)["problems"])


def test_a_key_given_to_another_image_is_found(base: Path) -> None:
    keys = who(base)
    other = held(base)["image_id"].iloc[0]
    edit_table(base / "shards" / "private" / "keys.parquet", lambda f: f.assign(image_id=f["image_id"].where(f.index != 3, other)))
    shard = sample(base, 3)["shard"]
    found = problems(base)
    assert f"{shard}: sample {keys['key'][3]}: private/keys.parquet gives it to image {other}, whose key is another" in found


def test_another_salt_is_found(base: Path) -> None:
    (base / "shards" / "private" / "salt").write_bytes(b"x")
    assert problems(base) == ["private/salt: is not the secret that made the keys"]


def test_patients_that_disagree_with_the_cohort_are_found(base: Path) -> None:
    keys = who(base)
    edit_table(base / "shards" / "private" / "keys.parquet", lambda f: f.assign(patient_id=f["patient_id"].where(f.index != 3, "99999")))
    found = problems(base)
    assert any(keys["key"][3] in p and f"the cohort gives the image to patient {keys['patient_id'][3]}" in p for p in found)


def test_a_patient_on_both_sides_is_found_with_the_sample(base: Path) -> None:
    keys = who(base)
    planted = pd.DataFrame({"image_id": ["another"], "patient_id": [keys["patient_id"][7]]})
    edit_table(base / "shards" / "private" / "holdout.parquet", lambda f: pd.concat([f, planted]))
    shard = sample(base, 7)["shard"]
    named = f"sample {keys['key'][7]} ({shard}, image {keys['image_id'][7]}, patient {keys['patient_id'][7]})"
    assert f"{named}: its patient is held out and in the shards" in problems(base)


def test_an_image_on_both_sides_is_found_with_the_sample(base: Path) -> None:
    keys = who(base)
    planted = keys.loc[[7], ["image_id", "patient_id"]]
    edit_table(base / "shards" / "private" / "holdout.parquet", lambda f: pd.concat([f, planted]))
    assert any(keys["key"][7] in p and "its image is held out and in the shards" in p for p in problems(base))


def plant(base: Path, change: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
    """Change what the cohort records, as if the sample had been drawn from such a one."""
    edit_table(base / "cohort" / "cohort.parquet", change)
    digest = hashlib.sha256((base / "cohort" / "cohort.parquet").read_bytes()).hexdigest()
    edit_json(base / "shards" / "sample.json", lambda s: s["cohort"].update(digest=digest))


def test_the_same_photograph_held_out_under_another_patient_is_found(base: Path) -> None:
    drawn, out = who(base).iloc[7], held(base).iloc[0]
    digest = read_cohort(base / "cohort").table.set_index("image_id")["sha256"][drawn["image_id"]]
    plant(base, lambda f: f.assign(sha256=f["sha256"].where(f["image_id"] != out["image_id"], digest)))
    assert [p for p in problems(base) if drawn["key"] in p and f"held-out image {out['image_id']}" in p and "same photograph" in p]


def test_the_same_photograph_drawn_under_two_ids_is_found(base: Path) -> None:
    first, second = who(base).iloc[7], who(base).iloc[20]
    digest = read_cohort(base / "cohort").table.set_index("image_id")["sha256"][first["image_id"]]
    plant(base, lambda f: f.assign(sha256=f["sha256"].where(f["image_id"] != second["image_id"], digest)))
    assert [p for p in problems(base) if first["key"] in p and second["key"] in p and "is the same photograph as" in p]


def near(base: Path, pairs: list[tuple[str, str]]) -> None:
    frame = pd.DataFrame([sorted(p) for p in pairs], columns=["image_a", "image_b"])
    frame.assign(distance=np.int64(3), similarity=0.97).to_parquet(base / "cohort" / "duplicates.parquet")


def test_a_near_duplicate_held_out_is_found(base: Path) -> None:
    drawn, out = who(base).iloc[7], held(base).iloc[0]
    near(base, [(drawn["image_id"], out["image_id"])])
    found = problems(base)
    assert len(found) == 1
    assert found[0].startswith(f"held-out image {out['image_id']} of patient {out['patient_id']} shows nearly what sample {drawn['key']} (")


def test_people_linked_by_way_of_others_are_found(base: Path) -> None:
    # Held-out patient A shares a photograph with B, who was not drawn for it, and B one with C, who is in the shards.
    table = read_cohort(base / "cohort").table.set_index("image_id")
    keys, out = who(base), held(base).iloc[0]
    neither = table[~table.index.isin(keys["image_id"]) & ~table["patient_id"].isin(held(base)["patient_id"])]
    drawn = keys[~keys["patient_id"].isin(neither["patient_id"])].iloc[0]
    between = neither.index[0]
    near(base, [(out["image_id"], between), (between, drawn["image_id"])])
    found = problems(base)
    assert any(drawn["key"] in p and f"by way of others, to held-out patient {out['patient_id']}" in p for p in found)


def test_too_many_images_of_a_patient_are_found(base: Path) -> None:
    edit_json(base / "shards" / "sample.json", lambda s: s["made_by"]["specification"].update(per_patient=1))
    assert any("has 2 images in the shards, --per-patient allowed 1" in p for p in problems(base))


def test_patients_of_an_excluded_file_are_found(base: Path) -> None:
    excluded = base / "excluded.csv"
    who(base)[["patient_id"]].iloc[[7]].to_csv(excluded, index=False)
    digest = hashlib.sha256(excluded.read_bytes()).hexdigest()
    edit_json(base / "shards" / "sample.json", lambda s: s["made_by"]["inputs"].update({f"excluded {excluded}": digest}))
    assert any(who(base)["key"][7] in p and "whose patients were to stay out" in p for p in problems(base))


def test_a_set_without_private_is_checked_as_far_as_it_goes_and_says_so(base: Path) -> None:
    shutil.rmtree(base / "shards" / "private")
    found = verify_shards(base / "shards", workers=1)
    assert found["problems"] == []
    assert found["heldout"] == "hold-out not checked"
    assert any("private/ is not here" in line for line in found["unchecked"])


def test_the_default_cohort_is_used_only_if_it_is_the_right_one(base: Path) -> None:
    found = verify_shards(base / "shards", default_cohort=base / "cohort", workers=1)
    assert "no photograph either" in found["heldout"]
    edit_table(base / "cohort" / "cohort.parquet", lambda f: f.assign(age=50.0))
    found = verify_shards(base / "shards", default_cohort=base / "cohort", workers=1)
    assert any("is not the cohort it was drawn from" in line for line in found["unchecked"])
    assert found["problems"] == []


def test_a_folder_that_is_no_shard_set_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no shard set here; make one with: curate sample --balance age"):
        verify_shards(tmp_path / "shards")
    with pytest.raises(UserError, match=r"not a shard set \(sample.json is missing\)"):
        verify_shards(tmp_path)


def test_the_command_finds_the_cohort_beside_it_and_lists_what_is_wrong(base: Path) -> None:
    run = [sys.executable, "-m", "curate", "verify", "--workers", "1"]
    done = subprocess.run(run, cwd=base, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert "no photograph either" in done.stdout
    (base / "shards" / "shard-000001.tar").unlink()
    done = subprocess.run(run, cwd=base, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stdout == "wrong: shard-000001.tar: missing\n"
    assert done.stderr == "error: shards: 1 problem(s); first: shard-000001.tar: missing\n"
