"""The bytes of a code bundle: a plain tar (USTAR) that any `tar` can list, and that equal files always make byte for byte.

Not compressed: the deflate output of one file differs between zlib versions, and then so would the digest; and bytes whose digest is
checked need no decompressor run on them first. Written and read by hand for the same two reasons: the form never moves with a Python
version, and the reader knows regular files and nothing else. What `files_in` accepts is exactly what `archive_of` makes: it packs again
what it read and compares, so no link, device, long-name record, number in another notation or byte between two files can be in it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from optimas_core.errors import ArtifactCorrupt

MAX_BUNDLE_BYTES = 32 << 20
MAX_BUNDLE_FILES = 5_000

_BLOCK = 512
_END = bytes(2 * _BLOCK)
_NAME_BYTES, _PREFIX_BYTES = 100, 155
_PLAIN, _EXECUTABLE = 0o644, 0o755
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class BundleFile:
    """One file: `name` is relative, with "/" between its parts."""

    name: str
    data: bytes
    executable: bool


def is_bundle_name(name: str) -> bool:
    """Whether a file of this name may travel: relative, nothing to climb with, no control character, UTF-8, and short enough for a
    USTAR header (100 bytes, or 155 before and 100 after one "/")."""
    try:
        encoded = name.encode()
    except UnicodeEncodeError:
        return False
    parts = name.split("/")
    if _CONTROL.search(name) or any(part in ("", ".", "..") for part in parts):
        return False
    prefix, rest = _split(encoded)
    return len(prefix) <= _PREFIX_BYTES and len(rest) <= _NAME_BYTES


def archive_bytes(sizes: Sequence[int]) -> int:
    """The size of the archive of files of these sizes."""
    return sum(_BLOCK + size + _padding(size) for size in sizes) + len(_END)


def archive_of(files: Sequence[BundleFile]) -> bytes:
    """The one archive of these files, whatever their order. Every name must satisfy `is_bundle_name`."""
    parts: list[bytes] = []
    for file in sorted(files, key=lambda file: file.name.encode()):
        parts += [_header(file), file.data, bytes(_padding(len(file.data)))]
    return b"".join([*parts, _END])


def files_in(data: bytes) -> tuple[BundleFile, ...]:
    """The files of an archive that anyone may have written.

    Raises:
        ArtifactCorrupt: it is not, to the byte, what `archive_of` makes of safe names within the limits.
    """
    if len(data) > MAX_BUNDLE_BYTES:
        raise _refused(f"has {len(data)} bytes; at most {MAX_BUNDLE_BYTES} are read")
    files: list[BundleFile] = []
    names: set[str] = set()
    folders: set[str] = set()
    at = 0
    while data[at : at + _BLOCK].strip(b"\0"):
        file = _file_at(data, at)
        if not is_bundle_name(file.name):
            raise _refused(f"holds a name that leads elsewhere or cannot be one: {file.name[:120]!r}")
        if file.name in names:
            raise _refused(f"holds {file.name[:120]!r} twice")
        files.append(file)
        names.add(file.name)
        folders |= folders_of(file.name)
        if len(files) > MAX_BUNDLE_FILES or len(folders) > MAX_BUNDLE_FILES:
            raise _refused(f"holds more than {MAX_BUNDLE_FILES} files or folders")
        at += _BLOCK + len(file.data) + _padding(len(file.data))
    if names & folders:
        raise _refused(f"holds {min(names & folders)[:120]!r} both as a file and as a folder")
    if archive_of(files) != data:
        raise _refused("is not in the form that packing gives")
    return tuple(files)


def folders_of(name: str) -> set[str]:
    """ "a/b/c.py" lies in "a" and "a/b"."""
    return {name[: found.start()] for found in re.finditer("/", name)}


def _file_at(data: bytes, at: int) -> BundleFile:
    """As the header at `at` describes it; whether the header is in our form is for the caller to see."""
    name, mode, size_octal, prefix = (_field(data, at + start, length) for start, length in ((0, 100), (100, 8), (124, 12), (345, 155)))
    try:
        size = int(size_octal, 8)
        text = (prefix + b"/" + name if prefix else name).decode()
    except ValueError:
        raise _refused(f"has an unreadable header at byte {at}") from None
    start = at + _BLOCK
    if not 0 <= size <= len(data) - start:
        raise _refused(f"ends within {text[:120]!r}")
    return BundleFile(text, data[start : start + size], mode == b"%07o" % _EXECUTABLE)


def _field(data: bytes, at: int, length: int) -> bytes:
    return data[at : at + length].partition(b"\0")[0]


def _header(file: BundleFile) -> bytes:
    prefix, name = _split(file.name.encode())
    fields = (
        (name, _NAME_BYTES),
        (b"%07o" % (_EXECUTABLE if file.executable else _PLAIN), 8),
        (b"%07o" % 0, 8),  # uid
        (b"%07o" % 0, 8),  # gid
        (b"%011o" % len(file.data), 12),
        (b"%011o" % 0, 12),  # mtime
        (b" " * 8, 8),  # the check sum counts itself as spaces
        (b"0", 1),  # a regular file
        (b"", 100),
        (b"ustar\x0000", 8),
        (b"", 80),  # names of user and group, device numbers
        (prefix, _PREFIX_BYTES),
        (b"", 12),
    )
    block = b"".join(value.ljust(length, b"\0") for value, length in fields)
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


def _split(name: bytes) -> tuple[bytes, bytes]:
    """Prefix and name of a USTAR header: the shortest prefix with which the name fits."""
    cut = name.find(b"/", len(name) - _NAME_BYTES - 1) if len(name) > _NAME_BYTES else -1
    return (name[:cut], name[cut + 1 :]) if cut >= 0 else (b"", name)


def _padding(size: int) -> int:
    return -size % _BLOCK


def _refused(what: str) -> ArtifactCorrupt:
    return ArtifactCorrupt(f"the code bundle {what}.", remedy="Delete it from the workspace and submit the run again.")
