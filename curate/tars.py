"""The tars that shards are: headers that say nothing but name and size, and a reader that trusts none of it.

Every header is the same 512 bytes (ustar, mode 0644, owner 0, time 0) but for name, size and checksum, so it is cut
from a template rather than built field by field.
"""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Callable, Iterator
from typing import IO

from curate.errors import UserError

BLOCK = 512
CHECKSUMS = {"members": "members_sha256", "md5": "md5sum"}  # kind -> its field in shards.json
_NAME, _SIZE, _CHECKSUM = slice(0, 100), slice(124, 136), slice(148, 156)


def _template() -> bytes:
    header = tarfile.TarInfo("")
    header.mode = 0o644
    return header.tobuf(tarfile.USTAR_FORMAT)


_EMPTY = _template()
_BEFORE_SIZE, _BEFORE_CHECKSUM, _AFTER = _EMPTY[100:124], _EMPTY[136:148], _EMPTY[156:BLOCK]
# A checksum counts its own field as eight spaces.
_CONSTANT = sum(_BEFORE_SIZE) + sum(_BEFORE_CHECKSUM) + sum(_AFTER) + 8 * ord(" ")


def tar_header(name: bytes, size: int) -> bytes:
    """Give a member's header, the same bytes that `tarfile` makes.

    Args:
        name: at most 100 bytes.
        size: of the member in bytes, under 8 GiB.

    Example:
        >>> same = tarfile.TarInfo("0123.jpg")
        >>> same.size, same.mode = 54321, 0o644
        >>> tar_header(b"0123.jpg", 54321) == same.tobuf(tarfile.USTAR_FORMAT)
        True
    """
    octal = b"%011o" % size
    checksum = b"%06o\0 " % (_CONSTANT + sum(name) + sum(octal))
    return b"".join((name.ljust(100, b"\0"), _BEFORE_SIZE, octal, b"\0", _BEFORE_CHECKSUM, checksum, _AFTER))


def padding(size: int) -> bytes:
    """Give the zeros that fill a member's last block."""
    return bytes(-size % BLOCK)


def tar_end(position: int) -> bytes:
    """Give what follows the last member of a tar that has `position` bytes so far: two empty blocks, filled to a whole record."""
    return bytes(2 * BLOCK + -(position + 2 * BLOCK) % tarfile.RECORDSIZE)


class Checksum:
    """A checksum of a tar.

    Args:
        kind: one of `CHECKSUMS`: "members", the SHA-256 of what ``sha256sum`` prints for the members in their order
            (``tar xf SHARD; tar tf SHARD | xargs sha256sum | sha256sum``), which costs next to nothing where the
            members' own digests are known; or "md5" of the whole file, as others' wids indices have it.
    """

    def __init__(self, kind: str) -> None:
        self._hash = hashlib.md5(usedforsecurity=False) if kind == "md5" else hashlib.sha256()
        self._of_bytes = kind == "md5"

    def bytes(self, piece: bytes) -> None:
        """Add a piece of the file."""
        if self._of_bytes:
            self._hash.update(piece)

    def member(self, name: str, sha256: str) -> None:
        """Add a member, by its name and its digest in hexadecimal digits."""
        if not self._of_bytes:
            self._hash.update(f"{sha256}  {name}\n".encode())

    def hexdigest(self) -> str:
        """Give the checksum in hexadecimal digits."""
        return self._hash.hexdigest()


class BrokenTar(UserError):
    """A tar whose members can't be told apart from some place on."""


def tar_members(file: IO[bytes], digest: Callable[[bytes], None]) -> Iterator[tuple[str, int, bytes, bool]]:
    """Read a tar from its beginning to its end, member by member; no more than one is in memory.

    Args:
        file: opened for reading, at its beginning.
        digest: called with every byte of the file, in order.

    Yields:
        A member's name, where its data begin, the data, and whether its header and padding are what `tar_header` and
        `padding` give.

    Raises:
        BrokenTar: where a header or the end of the file is not what a tar has.
    """
    position = 0

    def take(count: int) -> bytes:
        nonlocal position
        data = file.read(count)
        digest(data)
        position += len(data)
        return data

    def rest() -> None:
        while take(1 << 20):
            pass

    while True:
        block = take(BLOCK)
        if not any(block):
            break
        try:
            size = int(block[_SIZE].rstrip(b"\0 "), 8)
            stored = int(block[_CHECKSUM].rstrip(b"\0 "), 8)
            name = block[_NAME].rstrip(b"\0").decode("ascii")
        except ValueError:
            stored = size = -1
            name = ""
        if size < 0 or stored != sum(block) - sum(block[_CHECKSUM]) + 8 * ord(" "):
            at = position - len(block)
            rest()
            raise BrokenTar(f"no header at byte {at:,}")
        start = position
        data = take(size)
        filling = take(-size % BLOCK)
        if len(data) < size or len(filling) < -size % BLOCK:
            raise BrokenTar(f"ends inside {name}")
        plain = len(name) <= 100 and block == tar_header(name.encode(), size) and not any(filling)
        yield name, start, data, plain
    end = position - len(block)
    if len(block) < BLOCK:
        raise BrokenTar("has no end mark")
    closing = tar_end(end)
    found = block
    while len(found) <= len(closing) and (more := take(len(closing) + 1 - len(found))):
        found += more
    if found != closing:
        rest()
        raise BrokenTar(f"other bytes follow its end mark at byte {end:,}")
