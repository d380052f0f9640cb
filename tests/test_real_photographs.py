"""The whole line, archive to card, with the real commands, on real photographs."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from commands import QUICK, run


def test_the_line_on_real_photographs(odir: Path, tmp_path: Path) -> None:
    table = pd.read_csv(odir / "full_df.csv", dtype=str)
    table = table[table["filename"].map(lambda f: (odir / "images-256" / f).is_file())]
    # A tenth of the patients, and all of those under 40, so that there is something to balance.
    keep = table["ID"].astype(int).mod(8).eq(0) | table["Patient Age"].astype(int).lt(40)
    table[keep].to_csv(tmp_path / "odir.csv", index=False)
    run("curate", "ingest", "odir.csv", "--images", odir / "images-256", "--profile", "odir5k", cwd=tmp_path)
    run("curate", "measure", "--resolution", 256, cwd=tmp_path)
    run("curate", "sample", "--balance", "age", "--holdout", "0.3", "--images", 90, cwd=tmp_path)
    assert "every checksum and count right" in run("curate", "verify", "shards/", "--cohort", "cohort", cwd=tmp_path)
    run("pretrain", "run", "shards/", *QUICK, cwd=tmp_path)
    (tmp_path / "dr.yaml").write_text(
        "name: diabetic-retinopathy\ntitle: Diabetic retinopathy against a normal fundus\nlabel: labels\n"
        "classes: {normal: [N], diabetic: [D]}\nsplit: {test: holdout, val: 0.25}\nsubgroups: [age, sex]\n"
    )
    run("evaluate", "run", "--model", "trained=runs/mae-tiny", "--task", "dr.yaml", cwd=tmp_path)
    run("cards", "build", cwd=tmp_path)
    ledger = pd.read_parquet(tmp_path / "cohort/ledger.parquet")
    assert "coding" in set(ledger["rule"])
    page = (tmp_path / "card/card.html").read_text(encoding="utf-8")
    assert "Content-Security-Policy" in page
    assert len(page) < 600_000
