"""Writing shards: pass-through JPEGs beside `tar` and webdataset's ShardWriter; resizing beside its bare cost.

    python benchmarks/shards.py [--images 3000]

Makes its own photographs (smooth noise, about 30 KB at 512 px) in a temporary folder.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import io
import shutil
import subprocess
import tempfile
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import webdataset
from joblib import Parallel, delayed
from PIL import Image

from curate.ingest import ingest
from curate.sample import SampleRequest, sample_cohort
from timing import machine, rounds, show


def draw(folder: Path, number: int) -> None:
    rng = np.random.default_rng(number)
    coarse = rng.integers(0, 255, (24, 24, 3), dtype=np.uint8)
    smooth = cv2.resize(coarse, (512, 512), interpolation=cv2.INTER_CUBIC).astype(np.int16) + rng.integers(-9, 10, (512, 512, 1))
    cv2.imwrite(str(folder / f"{number:06d}.jpg"), np.clip(smooth, 0, 255).astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, 80])


def resize_alone(paths: list[Path]) -> int:
    for path in paths:
        image = Image.open(path).convert("RGB").resize((256, 256), Image.Resampling.BICUBIC)
        image.save(io.BytesIO(), "JPEG", quality=92)
    return len(paths)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, default=3000)
    count = parser.parse_args().images
    work = Path(tempfile.mkdtemp())
    try:
        images = work / "images"
        images.mkdir()
        for number in range(count):
            draw(images, number)
        paths = sorted(images.iterdir())
        pd.DataFrame({"path": [p.name for p in paths], "patient_id": [p.stem for p in paths], "age": "50"}).to_csv(
            work / "m.csv", index=False
        )
        ingest(work / "m.csv", images=[images], out=work / "cohort", workers=0)
        size = sum(p.stat().st_size for p in paths) / count / 1000
        print(f"{machine()}; webdataset {importlib.metadata.version('webdataset')}; {count:,} JPEGs of 512 px, {size:.0f} KB on average")

        def curate(pixels: int, workers: int) -> int:
            shutil.rmtree(work / "shards", ignore_errors=True)
            request = SampleRequest(balance=(), holdout=0.0, size=pixels, shard_images=-(-count // 8))
            return int(sample_cohort(work / "cohort", request, out=work / "shards", workers=workers)["images"])

        def shard_writer() -> int:
            shutil.rmtree(work / "wds", ignore_errors=True)
            (work / "wds").mkdir()
            with webdataset.ShardWriter(str(work / "wds" / "shard-%06d.tar"), maxcount=-(-count // 8), verbose=0) as sink:
                for path in paths:
                    sink.write({"__key__": path.stem, "jpg": path.read_bytes(), "json": {"width": 512, "height": 512}})
            return count

        def tar() -> int:
            (work / "all.tar").unlink(missing_ok=True)
            subprocess.run(["tar", "-cf", str(work / "all.tar"), "-C", str(images), "."], check=True)
            return count

        def bare() -> int:
            return sum(Parallel(n_jobs=-1)(delayed(resize_alone)(paths[i::8]) for i in range(8)))

        contenders = {
            "curate sample --size 0, 2 workers": lambda: curate(0, 2),
            "curate sample --size 0, 1 worker": lambda: curate(0, 1),
            "webdataset.ShardWriter": shard_writer,
            "tar": tar,
        }
        show("Writing pass-through JPEGs", rounds(contenders), "images/s", reference="webdataset.ShardWriter")
        contenders = {"curate sample --size 256": lambda: curate(256, 0), "decode, resize, encode alone, all cores": bare}
        show("Resizing 512 to 256 px", rounds(contenders), "images/s", reference="decode, resize, encode alone, all cores")
    finally:
        shutil.rmtree(work)


if __name__ == "__main__":
    main()
