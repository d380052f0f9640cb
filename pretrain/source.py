"""Where a run's photographs come from: one shard set, several in a mixture, or a stream."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curate import ShardSet, UserError, open_shards

if TYPE_CHECKING:
    from pretrain.data import Loader
    from pretrain.mixture import Mixture
    from pretrain.stream import Stream
    from pretrain.views import Views


# For run.json: what a stream can't promise, and an indexed set does.
_PROMISES = {
    "digest": "of the addresses, not of what is behind them",
    "order": "shards shuffled, samples drawn from a buffer; no exact epochs; another number of processes gives another order",
    "resume": "approximate: weights and schedules are exact, the order of the samples begins anew",
    "integrity": "samples that can't be decoded are replaced; no checksums",
}
_SCHEMES = ("s3://", "gs://", "hf://", "http://", "https://", "pipe:")


@dataclass(frozen=True)
class Source:
    """What was named on the command line, opened.

    Attributes:
        sets: the shard set, or several; None for a stream.
        urls: of the stream; empty for shard sets.
        images: how many there are; None for a stream, which nobody has counted.
        inputs: name of each set -> digest, for the provenance.
        specification: what of it decides the weights and isn't in the inputs.
        about: for ``run.json``: name, digest, images, path, and what a mixture or a stream has to add.
    """

    sets: ShardSet | Mixture | None
    urls: list[str]
    images: int | None
    inputs: dict[str, str]
    specification: dict[str, Any]
    about: dict[str, Any]

    def loader(self, views: Views, **arguments: Any) -> Loader | Stream:
        """Make the loader; the arguments are those of `Loader` and `Stream`."""
        from pretrain.data import Loader
        from pretrain.stream import Stream

        return Stream(self.urls, views, **arguments) if self.sets is None else Loader(self.sets, views, **arguments)


def open_source(shards: str | Path | None, mix: Sequence[str] = ()) -> Source:
    """Open what a run is to read.

    Args:
        shards: folder of a shard set, or addresses of tars to stream (``s3://``, ``gs://``, ``hf://``, ``http(s)://``, ``pipe:``).
        mix: ``"FOLDER=WEIGHT"`` each, instead of `shards`; one of them may stand in `shards`.

    Raises:
        UserError: where nothing or both is given, or a set can't be opened.
    """
    if mix and shards is not None:
        if "=" not in str(shards):
            raise UserError(f"--mix: give the sets either as --mix FOLDER=WEIGHT or one alone; {shards} has no weight")
        mix, shards = [*mix, str(shards)], None
    if mix:
        return _open_mixture(mix)
    if shards is None:
        raise UserError("give the folder of a shard set, or several as --mix FOLDER=WEIGHT")
    return _open_stream(str(shards)) if is_stream(str(shards)) else _open_set(Path(shards))


def is_stream(source: str) -> bool:
    """Say whether a source can only be streamed: ``s3://``, ``gs://``, ``hf://``, ``http(s)://``, ``pipe:``."""
    return source.startswith(_SCHEMES)


def expand_addresses(addresses: Sequence[str]) -> list[str]:
    """Expand braces: ``a-{00..11}.tar`` names twelve tars.

    Example:
        >>> expand_addresses(["s3://bucket/a-{08..10}.tar"])
        ['s3://bucket/a-08.tar', 's3://bucket/a-09.tar', 's3://bucket/a-10.tar']
    """
    from braceexpand import braceexpand

    return [url for address in addresses for url in braceexpand(address)]


def _open_set(folder: Path) -> Source:
    opened = open_shards(folder)
    about = {"name": opened.about.get("name"), "digest": opened.digest, "images": len(opened), "path": str(folder)}
    return Source(opened, [], len(opened), {"shards": opened.digest}, {}, about)


def _open_mixture(mix: Sequence[str]) -> Source:
    from pretrain.mixture import Mixture, parse_mix

    weights = parse_mix(list(mix))
    for folder in weights:
        if is_stream(folder):
            raise UserError(f"--mix {folder}: only shard sets on a file system can be mixed, a stream can't")
    last = [Path(folder).name for folder in weights]
    names = {folder: folder if last.count(name) > 1 else name for folder, name in zip(weights, last, strict=True)}
    # In the order of their names, so that the order on the command line means nothing.
    sets = {names[folder]: open_shards(Path(folder)) for folder in sorted(weights, key=names.__getitem__)}
    mixture = Mixture(sets, {names[folder]: weight for folder, weight in weights.items()})
    specification = {"mix": {name: part["share"] for name, part in mixture.about.items()}}
    inputs = {f"shards {name}": opened.digest for name, opened in sets.items()}
    about = {
        "name": " + ".join(sets),
        "digest": _digest([specification, inputs]),
        "images": len(mixture),
        "path": mixture.folder,
        "mix": mixture.about,
    }
    return Source(mixture, [], len(mixture), inputs, specification, about)


def _open_stream(address: str) -> Source:
    urls = expand_addresses([address])
    about = {"name": address, "digest": _digest(urls), "images": None, "path": address, "stream": {"urls": urls, **_PROMISES}}
    return Source(None, urls, None, {}, {"stream": urls}, about)


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
