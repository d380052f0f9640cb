"""Sampling and shards: balance, leaks, stability, identical bytes, stock readers."""

from __future__ import annotations

import io
import itertools
import json
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from archives import people
from curate import open_shards
from curate.artefacts import write_parquet
from curate.cohort import read_cohort
from curate.errors import UserError
from curate.ingest import ingest_archive
from curate.sample import SampleRequest, make_plan, sample_cohort
from curate.verify import verify_shards

Archive = Callable[..., Path]
SMALL = SampleRequest(size=32, shard_images=40)


@pytest.fixture
def cohort(archive: Archive, tmp_path: Path) -> Path:
    manifest = archive(people(120))
    ingest_archive(manifest, images=[tmp_path / "images"], out=tmp_path / "cohort", workers=1)
    return tmp_path / "cohort"


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_groups_of_the_balanced_column_come_out_equal(cohort: Path, tmp_path: Path) -> None:
    about = sample_cohort(cohort, SMALL, out=tmp_path / "shards", workers=1)
    drawn = [row["allocated"] for row in about["allocation"]]
    assert len(set(drawn)) == 1
    assert about["images"] == sum(drawn)
    assert about["measures"]["after"]["normalised_entropy"] == pytest.approx(1.0)
    assert verify_shards(tmp_path / "shards", cohort=cohort)["problems"] == []


def test_a_larger_draw_reports_who_is_short(cohort: Path, tmp_path: Path) -> None:
    about = sample_cohort(cohort, replace(SMALL, images=150), out=tmp_path / "shards", workers=1)
    assert about["images"] == 150
    for row in about["allocation"]:
        assert row["allocated"] <= row["available"]
        assert row["shortfall"] == max(row["target"] - row["allocated"], 0)
    assert sum(row["shortfall"] for row in about["allocation"]) > 0


def test_no_patient_is_both_held_out_and_drawn(cohort: Path) -> None:
    plan = make_plan(read_cohort(cohort), replace(SMALL, holdout=0.3), None)
    assert len(plan.held_out)
    assert not set(plan.held_out["patient_id"]) & set(plan.drawn["patient_id"])


def test_patients_who_share_a_photograph_stay_on_one_side(archive: Archive, tmp_path: Path) -> None:
    rows = people(60)
    manifest = archive(rows)
    # Every second patient's left eye is also registered under the next patient's id.
    images = tmp_path / "images"
    for first in range(0, 60, 2):
        (images / f"{first + 1:05d}_left.jpg").write_bytes((images / f"{first:05d}_left.jpg").read_bytes())
    ingest_archive(manifest, images=[images], out=tmp_path / "cohort", workers=1)
    plan = make_plan(read_cohort(tmp_path / "cohort"), replace(SMALL, holdout=0.4, balance=()), None)
    held, drawn = set(plan.held_out["patient_id"]), set(plan.drawn["patient_id"])
    assert held
    assert drawn
    for first in range(0, 60, 2):
        pair = {f"{first:05d}", f"{first + 1:05d}"}
        assert pair <= held or pair <= drawn


def test_the_hold_out_does_not_move_when_the_cohort_grows(cohort: Path) -> None:
    whole = read_cohort(cohort)
    half = replace(whole, table=whole.table[whole.table["patient_id"] < "00060"].reset_index(drop=True))
    few, all_of_them = (set(make_plan(c, SMALL, None).held_out["patient_id"]) for c in (half, whole))
    assert few == {p for p in all_of_them if p < "00060"}


def test_a_draw_does_not_depend_on_the_order_of_rows(cohort: Path) -> None:
    whole = read_cohort(cohort)
    shuffled = replace(whole, table=whole.table.sample(frac=1, random_state=3).reset_index(drop=True))
    first, second = (set(make_plan(c, SMALL, None).drawn["image_id"]) for c in (whole, shuffled))
    assert first == second


def test_a_smaller_draw_is_contained_in_a_larger_one(cohort: Path) -> None:
    whole = read_cohort(cohort)
    small, large = (set(make_plan(whole, replace(SMALL, images=n), None).drawn["image_id"]) for n in (40, 90))
    assert small < large


def test_another_seed_draws_others(cohort: Path) -> None:
    whole = read_cohort(cohort)
    first, second = (set(make_plan(whole, replace(SMALL, images=40, seed=s), None).drawn["image_id"]) for s in (0, 1))
    assert first != second


@pytest.mark.parametrize("target", ["natural", "power:1"])
def test_a_natural_target_keeps_the_archives_shares(cohort: Path, target: str) -> None:
    plan = make_plan(read_cohort(cohort), replace(SMALL, target=target, images=60), None)
    available = np.array([row["available"] for row in plan.allocation])
    drawn = np.array([row["allocated"] for row in plan.allocation])
    assert np.abs(drawn / drawn.sum() - available / available.sum()).max() < 1 / 60
    assert plan.measures["after"]["total_variation"] == pytest.approx(0.0, abs=0.02)


def test_power_zero_is_uniform(cohort: Path) -> None:
    whole = read_cohort(cohort)
    first, second = (make_plan(whole, replace(SMALL, target=t), None).drawn["image_id"].tolist() for t in ("uniform", "power:0"))
    assert first == second


def test_a_table_gives_shares_and_sets_the_size(cohort: Path, tmp_path: Path) -> None:
    (tmp_path / "census.csv").write_text("sex,share\nfemale,3\nmale,1\n")
    plan = make_plan(read_cohort(cohort), replace(SMALL, balance=("sex",), target=str(tmp_path / "census.csv")), None)
    drawn = {row["stratum"]["sex"]: row for row in plan.allocation}
    assert drawn["female"]["allocated"] >= drawn["female"]["available"] - 1  # the larger share is what runs out
    assert drawn["male"]["allocated"] == pytest.approx(drawn["female"]["allocated"] / 3, abs=1)


def test_another_cohort_can_be_matched(cohort: Path, tmp_path: Path, archive: Archive) -> None:
    rows = [row for row in people(120) if row["sex"] == "male" or int(row["patient_id"]) % 3 == 0]
    ingest_archive(archive(rows, name="other.csv"), images=[tmp_path / "images"], out=tmp_path / "other", workers=1)
    request = replace(SMALL, balance=("sex",), target=f"cohort:{tmp_path / 'other'}", images=60)
    drawn = make_plan(read_cohort(cohort), request, None).drawn["sex"]
    assert (drawn == "male").mean() == pytest.approx((read_cohort(tmp_path / "other").table["sex"] == "male").mean(), abs=0.02)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("unifrom", "no such target; did you mean 'uniform'"),
        ("power:2", "expected power:P with P from 0"),
        ("none.csv", "none.csv: no such file"),
        ("cohort:nowhere", "no cohort here"),
        ("bad.csv", "row 2: sex has no group 'femal'; did you mean 'female'"),
        ("negative.csv", "share '-1' is not a number of 0 or more"),
    ],
)
def test_a_target_that_cannot_be_read_is_refused(cohort: Path, tmp_path: Path, target: str, message: str) -> None:
    (tmp_path / "bad.csv").write_text("sex,share\nfemal,1\n")
    (tmp_path / "negative.csv").write_text("sex,share\nfemale,-1\n")
    wanted = str(tmp_path / target) if target.startswith(("bad", "neg")) else target
    with pytest.raises(UserError, match=message):
        make_plan(read_cohort(cohort), replace(SMALL, balance=("sex",), target=wanted), None)


@pytest.mark.parametrize(
    ("change", "name"),
    [({}, "balanced by age"), ({"target": "natural"}, "drawn by age"), ({"balance": ()}, "random sample")],
)
def test_only_equal_shares_are_called_balanced(cohort: Path, change: dict[str, object], name: str) -> None:
    about = sample_cohort(cohort, replace(SMALL, **change), dry_run=True)  # type: ignore[arg-type]
    assert about["name"].endswith(f", {name}")


def test_two_excluded_files_of_one_name_are_both_recorded(cohort: Path, tmp_path: Path) -> None:
    files = [tmp_path / folder / "holdout.csv" for folder in ("a", "b")]
    for number, file in enumerate(files):
        file.parent.mkdir()
        file.write_text(f"patient_id\n{number:05d}\n")
    about = sample_cohort(cohort, replace(SMALL, exclude=tuple(map(str, files))), dry_run=True)
    assert len([name for name in about["made_by"]["inputs"] if name.startswith("excluded ")]) == 2


def test_patients_of_an_excluded_file_are_not_drawn(cohort: Path, tmp_path: Path) -> None:
    sample_cohort(cohort, SMALL, out=tmp_path / "first", workers=1)
    held = str(tmp_path / "first" / "private" / "holdout.parquet")
    plan = make_plan(read_cohort(cohort), replace(SMALL, seed=5, exclude=(held,)), None)
    assert not set(pd.read_parquet(held)["patient_id"]) & set(plan.drawn["patient_id"])
    assert "exclude" in [g["gate"] for g in plan.gates]
    with pytest.raises(UserError, match=r"has no column 'patient_id'"):
        make_plan(read_cohort(cohort), replace(SMALL, exclude=(str(tmp_path / "first" / "index.parquet"),)), None)


def test_at_most_so_many_images_a_patient(cohort: Path) -> None:
    plan = make_plan(read_cohort(cohort), replace(SMALL, per_patient=1), None)
    assert plan.drawn["patient_id"].value_counts().max() == 1
    assert [g["gate"] for g in plan.gates] == ["archive", "clean", "duplicates", "holdout", "per-patient", "draw"]


def test_gates_add_up(cohort: Path) -> None:
    gates = make_plan(read_cohort(cohort), SMALL, None).gates
    for before, after in itertools.pairwise(gates):
        assert before["images"] - after["removed_images"] == after["images"]
        for groups in after["by"].values():
            assert sum(g["images"] for g in groups.values()) == after["images"]


def test_images_whose_group_is_unknown_are_left_out_or_a_group_of_their_own(archive: Archive, tmp_path: Path) -> None:
    rows = people(60)
    for row in rows[:20]:
        row["sex"] = ""
    ingest_archive(archive(rows), images=[tmp_path / "images"], out=tmp_path / "cohort", workers=1)
    whole = read_cohort(tmp_path / "cohort")
    request = replace(SMALL, balance=("sex",), holdout=0.0)
    assert make_plan(whole, request, None).drawn["sex"].notna().all()
    included = make_plan(whole, replace(request, unknown="include"), None)
    assert included.drawn["sex"].isna().sum() == 20
    assert {r["allocated"] for r in included.allocation} == {20}


def test_joint_groups_are_balanced(cohort: Path) -> None:
    plan = make_plan(read_cohort(cohort), replace(SMALL, balance=("sex", "device")), None)
    assert len(plan.allocation) == 4
    assert len({row["allocated"] for row in plan.allocation}) == 1


def test_the_quality_gate_uses_measurements_and_counts_whom_it_costs(cohort: Path) -> None:
    whole = read_cohort(cohort)
    quality = np.where(whole.table["age"] > 70, "reject", "good")
    measured = pd.DataFrame({"image_id": whole.table["image_id"], "quality": quality})
    plan = make_plan(whole, SMALL, measured)
    gate = next(g for g in plan.gates if g["gate"] == "quality")
    assert gate["by"]["age"]["over 70"] == {"images": 0, "patients": 0}
    assert (plan.drawn["age"] <= 70).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"balance": ("agee",)}, "the cohort has no column 'agee'; did you mean 'age'"),
        ({"balance": ("age", "age")}, "names a column twice"),
        ({"quality": "best"}, "--quality best: expected good, usable or any"),
        ({"bins": ("age=70,40",)}, "--bins age=70,40: expected COLUMN=EDGE,EDGE"),
    ],
)
def test_requests_that_mean_nothing_are_refused_in_one_line(cohort: Path, tmp_path: Path, change: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        sample_cohort(cohort, replace(SMALL, **change), out=tmp_path / "shards", workers=1)  # type: ignore[arg-type]
    assert not list(tmp_path.glob("shards*"))


def test_shards_are_the_same_bytes_for_any_number_of_workers(cohort: Path, tmp_path: Path) -> None:
    for workers in (1, 2):
        sample_cohort(cohort, SMALL, out=tmp_path / f"shards{workers}", workers=workers)
    assert contents(tmp_path / "shards1") == contents(tmp_path / "shards2")


def test_a_dry_run_writes_nothing_and_plans_the_same(cohort: Path, tmp_path: Path) -> None:
    planned = sample_cohort(cohort, SMALL, out=tmp_path / "shards", dry_run=True, workers=1)
    assert not list(tmp_path.glob("shards*"))
    made = sample_cohort(cohort, SMALL, out=tmp_path / "shards", workers=1)
    assert {k: made[k] for k in planned} == planned


def test_nothing_about_patients_enters_the_tars(cohort: Path, tmp_path: Path) -> None:
    sample_cohort(cohort, SMALL, out=tmp_path / "shards", workers=1)
    table = read_cohort(cohort).table
    for shard in (tmp_path / "shards").glob("*.tar"):
        data = shard.read_bytes()
        assert not any(i.encode() in data for i in table["image_id"])
        with tarfile.open(shard) as tar:
            for member in tar:
                assert (member.mtime, member.uid, member.uname) == (0, 0, "")
                if member.name.endswith(".json"):
                    assert set(json.load(tar.extractfile(member))) == {"width", "height"}  # type: ignore[arg-type]


def test_metadata_enters_only_when_asked(cohort: Path, tmp_path: Path) -> None:
    sample_cohort(cohort, replace(SMALL, embed_metadata=("age", "sex")), out=tmp_path / "shards", workers=1)
    with tarfile.open(next((tmp_path / "shards").glob("*.tar"))) as tar:
        member = next(m for m in tar if m.name.endswith(".json"))
        assert set(json.load(tar.extractfile(member))) == {"width", "height", "age", "sex"}  # type: ignore[arg-type]


def test_keys_cannot_be_computed_without_the_salt(cohort: Path, tmp_path: Path) -> None:
    (tmp_path / "salt").write_bytes(b"a secret of the hospital")
    sample_cohort(cohort, SMALL, out=tmp_path / "a", workers=1)
    sample_cohort(cohort, SMALL, out=tmp_path / "b", salt=tmp_path / "salt", workers=1)
    a, b = (set(open_shards(tmp_path / n).index["key"]) for n in "ab")
    assert not a & b
    assert (tmp_path / "b" / "private" / "salt").stat().st_mode & 0o077 == 0


def test_the_index_finds_every_photograph(cohort: Path, tmp_path: Path) -> None:
    sample_cohort(cohort, SMALL, out=tmp_path / "shards", workers=1)
    shards = open_shards(tmp_path / "shards")
    for position in range(len(shards)):
        assert min(Image.open(io.BytesIO(shards.read(position))).size) == 32
    shards.close()


def test_stock_webdataset_reads_the_shards(cohort: Path, tmp_path: Path) -> None:
    webdataset = pytest.importorskip("webdataset")
    about = sample_cohort(cohort, SMALL, out=tmp_path / "shards", workers=1)
    urls = sorted(str(p) for p in (tmp_path / "shards").glob("*.tar"))
    samples = list(webdataset.WebDataset(urls, shardshuffle=False).decode("pil").to_tuple("__key__", "jpg", "json"))
    assert len(samples) == about["images"]
    assert {key for key, _, _ in samples} == set(open_shards(tmp_path / "shards").index["key"])
    assert min(samples[0][1].size) == 32


def test_datasets_reads_the_shards(cohort: Path, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    about = sample_cohort(cohort, SMALL, out=tmp_path / "shards", workers=1)
    files = sorted(str(p) for p in (tmp_path / "shards").glob("*.tar"))
    loaded = datasets.load_dataset("webdataset", data_files={"train": files}, split="train", cache_dir=str(tmp_path / "cache"))
    assert len(loaded) == about["images"]
    assert min(loaded[0]["jpg"].size) == 32


def test_shards_json_is_a_wids_index(cohort: Path, tmp_path: Path) -> None:
    about = sample_cohort(cohort, SMALL, out=tmp_path / "shards", workers=1)
    listed = json.loads((tmp_path / "shards" / "shards.json").read_text())
    assert (listed["__kind__"], listed["wids_version"]) == ("wids-shard-index-v1", 1)
    assert sum(s["nsamples"] for s in listed["shardlist"]) == about["images"]
    for shard in listed["shardlist"]:
        assert shard["filesize"] == (tmp_path / "shards" / shard["url"]).stat().st_size


def test_what_a_killed_process_was_writing_is_swept_away(cohort: Path, tmp_path: Path) -> None:
    sample_cohort(cohort, SMALL, out=tmp_path / "whole", workers=1)
    # As if killed while the last private file was being written: every shard is done, one file is a torso.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("curate.shard_writer.write_parquet", _killed_at("holdout.parquet"))
        with pytest.raises(RuntimeError, match="killed"):
            sample_cohort(cohort, SMALL, out=tmp_path / "shards", workers=1)
    assert (tmp_path / "shards.partial" / "private" / ".holdout.parquet.1.tmp").exists()
    sample_cohort(cohort, SMALL, out=tmp_path / "shards", workers=1)
    assert contents(tmp_path / "shards") == contents(tmp_path / "whole")


def _killed_at(name: str) -> Callable[[Path, pd.DataFrame], None]:
    def write(path: Path, frame: pd.DataFrame) -> None:
        if path.name == name:
            path.with_name(f".{name}.1.tmp").write_bytes(b"PAR1")
            raise RuntimeError("killed")
        write_parquet(path, frame)

    return write


def test_an_image_that_changed_since_ingest_stops_the_command(cohort: Path, tmp_path: Path) -> None:
    for image in (tmp_path / "images").iterdir():
        image.write_bytes(image.read_bytes() + b"\0")
    with pytest.raises(UserError, match="changed since it was ingested; ingest again"):
        sample_cohort(cohort, SMALL, out=tmp_path / "shards", workers=1)
    assert not (tmp_path / "shards").exists()
