"""The command line of curate."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from curate import console
from curate.command import Bins, CohortDir, Debug, Json, Part, Quiet, Scheduler, Seed, Workers, new_app
from curate.errors import UserError

app = new_app("From an image archive to a cohort, and from the cohort to balanced, leak-free shards.")


def _share(text: str) -> float:
    try:
        value = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        raise UserError(f"'{text}': expected a share, as 1% or 0.01") from None
    if not 0 <= value <= 1:
        raise UserError(f"'{text}': expected a share between 0% and 100%")
    return value


def _columns(text: str) -> tuple[str, ...]:
    return tuple(c.strip() for c in text.split(",") if c.strip() and c.strip() != "none")


@app.command()
def simulate(
    out: Annotated[Path, typer.Argument(metavar="DIR", help="The folder to make.")],
    sites: Annotated[int, typer.Option(min=1, help="Simulated sites.")] = 2,
    patients: Annotated[int, typer.Option(min=1, help="Patients, over all sites.")] = 600,
    size: Annotated[int, typer.Option(min=256, max=1024, help="Pixels along a side.")] = 256,
    dirt: Annotated[bool, typer.Option("--dirt", help="Write the faults that real tables have.")] = False,
    seed: Seed = 0,
    workers: Workers = 0,
    scheduler: Scheduler = None,
    part: Part = None,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Make a phantom retinal archive with known truth."""
    from curate.phantom.archive import simulate_archive

    made = simulate_archive(out, sites=sites, patients=patients, size=size, seed=seed, dirt=dirt, workers=workers)
    console.say(f"{out}: {made['images']:,} phantom photographs of {made['patients']:,} patients at {made['sites']} site(s)")
    console.say(f"next: curate ingest {out / 'manifest.csv'} --images {out / 'images'}")
    console.result(made)


@app.command()
def ingest(
    manifest: Annotated[
        list[str],
        typer.Argument(
            help="Tables (.csv, .tsv, .xlsx, .parquet, .jsonl); a folder of images or DICOM files; a dataset (folder, hf:NAME); a database."
        ),
    ],
    images: Annotated[list[Path] | None, typer.Option("--images", help="Folder of the images; repeatable.")] = None,
    profile: Annotated[str | None, typer.Option(help="How a known archive is coded, as odir5k; or a .yaml file.")] = None,
    map: Annotated[
        list[str] | None,
        typer.Option("--map", metavar="COLUMN=NAME", help='A column and its name in the table, as age="Patient Age"; repeatable.'),
    ] = None,
    codes: Annotated[
        list[str] | None,
        typer.Option(
            "--codes", metavar="COLUMN=CODE:MEANING,...", help="What codes mean, as sex=0:female,1:male or ethnicity=nhs; repeatable."
        ),
    ] = None,
    eye: Annotated[
        list[str] | None, typer.Option("--eye", metavar="SIDE:COLUMN=NAME", help="One row a patient: as left:path=Left-Fundus; repeatable.")
    ] = None,
    ethnicity_scheme: Annotated[str, typer.Option(help="as-recorded, ons-2021, uk-biobank or us-omb.")] = "as-recorded",
    keep_column: Annotated[
        list[str] | None,
        typer.Option("--keep-column", metavar="NAME", help="Copy it though it looks as if it identified people; repeatable."),
    ] = None,
    pattern: Annotated[str | None, typer.Option(help="Regular expression whose named groups read columns from file names.")] = None,
    date_format: Annotated[str | None, typer.Option(help="Of dates that are not ISO, as %d/%m/%Y.")] = None,
    encoding: Annotated[str, typer.Option(help="Of a text table.")] = "utf-8",
    sheet: Annotated[str | None, typer.Option(help="Of a workbook with several.")] = None,
    split: Annotated[str | None, typer.Option(help="Of a dataset with several, as train; or all.")] = None,
    query: Annotated[str | None, typer.Option(help="What to read from a database: SELECT ..., or a table's name.")] = None,
    name: Annotated[str | None, typer.Option(help="The cohort's name.  [default: its folder's]")] = None,
    subset: Annotated[bool, typer.Option("--subset", help="The folder holds only a part of the table's images.")] = False,
    max_bad: Annotated[str, typer.Option(help="Share of missing or damaged images past which to stop.")] = "1%",
    check: Annotated[bool, typer.Option("--check", help="Do everything, write nothing, and say what would happen.")] = False,
    out: Annotated[Path, typer.Option(help="The cohort folder to make.")] = Path("cohort"),
    workers: Workers = 0,
    scheduler: Scheduler = None,
    part: Part = None,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Read an archive's table and images into a cohort; every change goes to a ledger."""
    from curate.ingest import ingest_archive
    from curate.ingest_report import show

    about = ingest_archive(
        manifest, images=images or (), out=out, profile=profile, column_map=map or (), codes=codes or (), pattern=pattern,
        date_format=date_format, encoding=encoding, sheet=sheet, split=split, query=query, eyes=eye or (),
        ethnicity_scheme=ethnicity_scheme,
        keep_columns=keep_column or (), name=name, subset=subset, max_bad=_share(max_bad), check=check, workers=workers,
    )  # fmt: skip
    show(about, out)
    console.result(about)
    if problems := about.get("problems"):
        raise UserError(f"no cohort can be made: {len(problems)} problem(s); first: {problems[0]}")


@app.command()
def measure(
    cohort: CohortDir = Path("cohort"),
    modality: Annotated[str | None, typer.Option(help="What the images are.  [default: retina]")] = None,
    resolution: Annotated[
        int | None, typer.Option(min=128, max=1824, help="Pixels across the field of view at which shape is measured.  [default: 512]")
    ] = None,
    masks: Annotated[
        Path | None, typer.Option(help="Folder with masks of the images in vessels/, artery_vein/ and disc/: adds zones and calibres.")
    ] = None,
    compatible: Annotated[
        str | None, typer.Option(metavar="automorph", help="Measure by AutoMorph's definitions, at 912 pixels.  [default: our own]")
    ] = None,
    model: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE.yaml",
            help="An ONNX network, described in this file, that marks vessels, arteries and veins, or discs; repeatable.",
        ),
    ] = None,
    imports: Annotated[
        list[str] | None,
        typer.Option(
            "--import",
            metavar="TOOL=FOLDER",
            help="Take the measures from tables of automorph, pvbm, vascx or a profile.yaml of your own; "
            "with none of the options above, the photographs are not measured; repeatable.",
        ),
    ] = None,
    workers: Workers = 0,
    scheduler: Scheduler = None,
    part: Part = None,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Measure the quality and morphology of every image, or import what another tool has measured."""
    from curate.imported import parse_imports, show_import
    from curate.measure import measure_cohort

    made = measure_cohort(
        cohort, modality=modality, resolution=resolution, masks=masks, compatible=compatible, models=model or (),
        imports=parse_imports(imports or ()), workers=workers,
    )  # fmt: skip
    for one in made.get("imports", ()):
        show_import(one)
    _show_measures(cohort, made)
    console.result(made)


def _show_measures(cohort: Path, made: dict[str, Any]) -> None:
    console.say(f"{cohort}/measurements.parquet: {sum(made['states'].values()):,} images")
    console.table(("state", "images"), list(made["states"].items()))
    console.table(("measure", "median"), [(k, float(v)) for k, v in made["medians"].items() if v is not None], title="\nmedians")


@app.command()
def describe(
    cohort: CohortDir = Path("cohort"),
    against: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Another cohort to compare with.")] = None,
    split: Annotated[str | None, typer.Option(metavar="COLUMN", help="Compare the groups of a column of the cohort, as site.")] = None,
    by: Annotated[str, typer.Option(help="Columns to describe, as age,sex.  [default: all that can be]")] = "",
    measures: Annotated[str, typer.Option(help="Measures to describe and draw.  [default: all; the main ones drawn]")] = "",
    pictures: Annotated[bool, typer.Option("--pictures/--no-pictures", help="Whether to draw.")] = True,
    bins: Bins = None,
    out: Annotated[Path, typer.Option(help="The folder to make.")] = Path("describe"),
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Describe who is in a cohort and what its images measure, alone or against another: numbers, words and pictures."""
    from curate.describe import DescribeRequest, describe_cohort, show

    request = DescribeRequest(by=_columns(by), measures=_columns(measures), bins=tuple(bins or ()), split=split, pictures=pictures)
    about = describe_cohort(cohort, request, against=against, out=out)
    show(about, out)
    console.result(about)


@app.command()
def identify(
    by: Annotated[str, typer.Option(help="Attributes to compare.  [default: age, sex, ethnicity, device and site, as far as known]")] = "",
    features: Annotated[
        str | None, typer.Option(metavar="latent-NAME", help="The latent features to use, or measures.  [default: the latent ones, if any]")
    ] = None,
    permutations: Annotated[int, typer.Option(min=19, help="Permutations for every noise floor.")] = 199,
    cohort: CohortDir = Path("cohort"),
    out: Annotated[Path, typer.Option(help="The folder to make.")] = Path("identify"),
    bins: Bins = None,
    seed: Seed = 0,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Find which metadata drive the variation of the images, and what to balance by."""
    from curate.identify import identify_cohort, show

    about = identify_cohort(cohort, by=_columns(by), bins=bins or (), features=features, permutations=permutations, seed=seed, out=out)
    show(about, out)
    console.result(about)


@app.command()
def sample(
    balance: Annotated[
        str, typer.Option(help="Columns to balance, as age or age,sex; none draws at random; auto takes what identify suggests.")
    ] = "age",
    images: Annotated[
        str | None,
        typer.Option(
            metavar="N|FOLDER", help="How many; or as many as a cohort or shard set has.  [default: as many as keep the balance exact]"
        ),
    ] = None,
    target: Annotated[
        str, typer.Option(help="Share of each group: uniform, natural, power:P, cohort:FOLDER, or a .csv with a column share.")
    ] = "uniform",
    strata: Annotated[
        str,
        typer.Option(
            help="With several columns: joint evens their combinations, marginal each column's groups; auto joint where none is thin."
        ),
    ] = "auto",
    exclude: Annotated[
        list[str] | None, typer.Option("--exclude", help="File of patients to leave out, as another hold-out; repeatable.")
    ] = None,
    where: Annotated[
        str,
        typer.Option(
            metavar="RULE", help="Draw only images that fit, as \"site == 'North' and age >= 40\"; the hold-out stays everyone's."
        ),
    ] = "",
    per_patient: Annotated[int, typer.Option(min=0, help="At most so many images a patient; 0: no limit.")] = 0,
    holdout: Annotated[float, typer.Option(min=0.0, max=0.9, help="Share of patients kept out for evaluation.")] = 0.1,
    quality: Annotated[str, typer.Option(help="Least quality, where measured: good, usable or any.")] = "usable",
    unknown: Annotated[str, typer.Option(help="Images whose group is unknown: exclude, or include as a group of their own.")] = "exclude",
    size: Annotated[int, typer.Option(min=0, help="Pixels along the shorter side; 0 keeps every photograph's own bytes.")] = 256,
    crop: Annotated[bool, typer.Option("--crop", help="Cut every photograph to its field of view before it is resized.")] = False,
    modality: Annotated[str, typer.Option(help="What the images are, for --crop: retina, or generic (borders of one colour).")] = "retina",
    jpeg_quality: Annotated[int, typer.Option(min=50, max=100, help="Of photographs that are encoded anew.")] = 92,
    shard_images: Annotated[int, typer.Option(min=1, help="At most so many images a shard.")] = 8192,
    checksum: Annotated[
        str,
        typer.Option(
            help="Of the tars: members (SHA-256 of their members' SHA-256), or md5 as other wids indices have it, which is slower."
        ),
    ] = "members",
    embed_metadata: Annotated[str, typer.Option(help="Columns to write into the shards, as age,sex; none by default.")] = "",
    salt: Annotated[Path | None, typer.Option(help="File with a secret that makes the keys; one is derived by default.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan and write no shards.")] = False,
    picture: Annotated[
        Path | None, typer.Option(metavar="FILE.svg", help="Draw the plan into a file, before anything else is written.")
    ] = None,
    identified: Annotated[Path, typer.Option("--identify", metavar="DIR", help="What --balance auto reads.")] = Path("identify"),
    name: Annotated[str | None, typer.Option(help="The shard set's name.  [default: the cohort's, and how it was balanced]")] = None,
    cohort: CohortDir = Path("cohort"),
    out: Annotated[Path, typer.Option(help="The shard set folder to make.")] = Path("shards"),
    bins: Bins = None,
    seed: Seed = 0,
    workers: Workers = 0,
    scheduler: Scheduler = None,
    part: Part = None,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Draw a balanced, leak-free sample and write it as WebDataset shards."""
    from curate.sample import SampleRequest, how_many, sample_cohort
    from curate.sample_report import show

    columns = _columns(balance)
    if balance.strip() == "auto":
        from curate.identify import read_suggested_balance

        columns = read_suggested_balance(identified)
        console.say(f"--balance {','.join(columns) or 'none'}, as {identified / 'identify.json'} suggests")
    request = SampleRequest(
        balance=columns, images=how_many(images), target=target, strata=strata, exclude=tuple(exclude or ()),
        where=where, per_patient=per_patient, holdout=holdout, quality=quality, unknown=unknown,
        size=size, crop=crop, modality=modality, jpeg_quality=jpeg_quality,
        shard_images=shard_images, checksum=checksum, embed_metadata=_columns(embed_metadata), bins=tuple(bins or ()),
        name=name, seed=seed,
    )  # fmt: skip
    about = sample_cohort(cohort, request, out=out, salt=salt, dry_run=dry_run, picture=picture, workers=workers)
    show(about, out, dry_run=dry_run)
    if about.get("photographs", {}).get("uncropped"):
        console.warn(f"{about['photographs']['uncropped']:,} photographs have no field of view that could be found: kept whole")
    console.result(about)


@app.command()
def verify(
    shards: Annotated[Path, typer.Argument(help="The shard set folder.")] = Path("shards"),
    cohort: Annotated[
        Path | None,
        typer.Option("--cohort", help="The cohort it was drawn from, to look for leaks by photograph.  [default: cohort/, if it is that]"),
    ] = None,
    workers: Workers = 0,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Read a shard set again from end to end: checksums, counts, keys, hold-out."""
    _verify(shards, cohort, workers)


def _verify(shards: Path, cohort: Path | None, workers: int, **more: Any) -> None:
    from curate.verify import verify_shards

    found = verify_shards(shards, cohort=cohort, default_cohort=Path("cohort"), workers=workers)
    for problem in found["problems"]:
        console.say(f"wrong: {problem}")
    for unchecked in found["unchecked"]:
        console.say(f"not checked: {unchecked}")
    console.result({**more, **found})
    if found["problems"]:
        raise UserError(f"{shards}: {len(found['problems']):,} problem(s); first: {found['problems'][0]}")
    console.say(f"{shards}: {found['images']:,} images in {found['shards']} shard(s), every checksum and count right, {found['heldout']}")


shards_app = typer.Typer(help="Look after a shard set.", no_args_is_help=True)
app.add_typer(shards_app, name="shards")


@shards_app.command()
def repair(
    shards: Annotated[Path, typer.Argument(help="The shard set folder, with its private/.")] = Path("shards"),
    cohort: CohortDir = Path("cohort"),
    workers: Workers = 0,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Build damaged or missing shards again, the same bytes as before, and leave the others alone; then verify."""
    from curate.repair import repair_shards

    made = repair_shards(shards, cohort, workers=workers)
    console.say(f"{shards}: {', '.join(made['rebuilt'])} built again" if made["rebuilt"] else f"{shards}: nothing had to be built again")
    _verify(shards, cohort, workers, **made)
