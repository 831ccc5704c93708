"""Seals: the checksum of a file in the file itself, where other readers do not see it or do not mind.

Records are text with the checksum of the rest in front: an entry of JSON, a comment of YAML. Who mends a
record by hand takes its line out. Rows are Parquet with the checksum between pages and footer.

A damage to the seal itself must not make a file of before out of a sealed one. So a record without a
seal has to begin as records of before did, and rows without one must not have checksums of pages, which
came together with seals.
"""

import hashlib
import re

HEX = 64
NAME = "sha256"
"""Of a record's first entry."""
FRAMES = ((b'{\n"sha256": "', b'",', b"{"), (b"# sha256: ", b"\n", b""))
"""Of JSON and of YAML: what stands before a checksum and after it, and what both are in the place of."""
ROWS = b"sparse_rl.sha256"
"""Before the checksum of a file of rows. Readers of Parquet go from the footer to the pages and see
neither; whoever writes the rows anew leaves it out."""
CHANGED = "it has changed since it was written"
MENDED = f"{CHANGED}; if that was you, take its line with sha256 out"
PAGE_CRC, NEXT_IS_NUMBER = 4, 0x15
"""The field of a page's header for its CRC-32, which may be left out: 1 to 3 are its kind and its sizes,
5 and above what is in it. And how Thrift's compact protocol announces that the next is a number."""


class SealError(ValueError):
    """A file is not as it was written."""


def digest(content: bytes) -> bytes:
    """The SHA-256 of bytes, in hexadecimal digits."""
    return hashlib.sha256(content).hexdigest().encode()


def seal_json(text: str) -> str:
    """A mapping as JSON, with its checksum as the first entry."""
    if not text.startswith("{") or not text.strip("{}\n "):
        return text
    return f'{{\n"{NAME}": "{digest(text.encode()).decode()}",{text[1:]}'


def seal_yaml(text: str) -> str:
    """A mapping as YAML, with its checksum in a comment before it."""
    return f"# {NAME}: {digest(text.encode()).decode()}\n{text}"


def unsealed(content: bytes, first: str | None = None) -> bytes:
    """A record as it was before it was sealed; itself if it has no seal.

    Args:
        content: the file.
        first: the name with which records of this kind begin that have no seal; ``None``: any.

    Raises:
        SealError: it has changed since, or begins with neither.
    """
    for before, after, instead in FRAMES:
        end = len(before) + HEX + len(after)
        if content.startswith(before):
            rest = instead + content[end:]
            sealed = content[len(before) : end] == digest(rest) + after
            if not sealed:
                raise SealError(MENDED)
            return rest
    if first is not None and not re.match(rf'(\{{\s*"{first}"\s*:|{first}:)'.encode(), content):
        raise SealError(f"it begins neither with its checksum nor with {first!r}")
    return content


def _footer(content: bytes) -> int:
    """Where the footer of a Parquet file begins: its length stands before the last magic."""
    return len(content) - 8 - int.from_bytes(content[-8:-4], "little")


def _varint(content: bytes, at: int) -> int:
    """Where a number of any length ends."""
    while content[at] & 0x80:
        at += 1
    return at + 1


def _pages_have_checksums(content: bytes) -> bool:
    """Whether the header of a Parquet file's first page has a field for its CRC-32."""
    at = 4
    for _ in range(PAGE_CRC):  # numbers of 32 bits, each one field after the last
        if content[at] != NEXT_IS_NUMBER:
            return False
        at = _varint(content, at + 1)
    return True


def seal_rows(content: bytes) -> bytes:
    """A Parquet file, with its checksum before its footer."""
    at = _footer(content)
    return content[:at] + ROWS + digest(content) + content[at:]


def unsealed_rows(content: bytes) -> bytes:
    """A Parquet file as it was before it was sealed; itself if it has no seal.

    Raises:
        SealError: it has changed since.
    """
    at = _footer(content)
    begin = at - len(ROWS) - HEX
    if begin < 0 or content[begin : at - HEX] != ROWS:
        if _pages_have_checksums(content):
            raise SealError(f"{CHANGED}: its checksum is gone")
        return content
    plain = content[:begin] + content[at:]
    if digest(plain) != content[at - HEX : at]:
        raise SealError(CHANGED)
    return plain
