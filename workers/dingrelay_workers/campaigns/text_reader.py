"""The lines of a text file in a named encoding, or in UTF-8 or GB18030, as Excel writes it, by its bytes."""

import codecs
import io
from collections.abc import Iterator
from typing import BinaryIO

from dingrelay_tasks.contract import ContractError

BLOCK = 1 << 17
"""Bytes read at once."""
LONGEST = 1 << 20
"""Bytes of the longest line; a file without line ends must not fill the memory."""

_UTF_16 = (b"\xff\xfe", b"\xfe\xff")
_BOM = b"\xef\xbb\xbf"


class TextReader:
    """Hands out a stream's lines with their ends, in constant memory.

    Without a name the encoding is settled by the first block that is not plain ASCII. No byte of a
    character of several in either encoding looks like a line's end, a quote or a comma, so what
    can't be decoded spoils its own row only: it stands there as lone surrogates.

    Args:
        stream: the file.
        encoding: its name; empty where it is not known.

    Attributes:
        number: of the line that was handed out last, from 1.
        broken: the lines of this block may hold lone surrogates.

    Raises:
        ContractError: there is no such encoding, or it is not one in which ASCII stays ASCII.
    """

    def __init__(self, stream: BinaryIO, encoding: str = "") -> None:
        if encoding and not _extends_ascii(encoding):
            raise ContractError("encoding", "must extend ASCII, such as UTF-8, GB18030 or Big5")
        self._stream = stream
        self.number = 0
        self.broken = False
        self._named = encoding
        self._encoding = encoding or "ascii"

    @property
    def problem(self) -> str:
        """The problem of a row that can't be decoded."""
        problem = f"holds bytes that are no {self._encoding.upper()}"
        if self._named:
            return problem
        other = "GB18030" if self._encoding == "utf-8" else "UTF-8"
        return f"{problem}, as which the file begins; if its encoding is another, such as {other}, name it"

    def __iter__(self) -> Iterator[str]:
        """The lines.

        Raises:
            ContractError: this is no text, or a line has no end.
        """
        rest = b""
        while block := self._stream.read(BLOCK):
            data = rest + block
            # A carriage return at the end of the block may be the first half of a line's end.
            end = max(data.rfind(b"\n"), data.rfind(b"\r", 0, -1)) + 1
            yield from self._split(data[:end])
            rest = data[end:]
            if len(rest) > LONGEST:
                raise ContractError(f"line {self.number + 1}", f"is longer than {LONGEST} bytes")
        yield from self._split(rest)

    def _split(self, data: bytes) -> Iterator[str]:
        if self.number == 0:
            if data.startswith(_UTF_16):
                raise ContractError("line 1", "the file is UTF-16; save it as UTF-8")
            data = data.removeprefix(_BOM)
        # Other ways to split take more characters for ends than CSV and JSON do.
        for line in io.StringIO(self._decode(data), newline=""):
            self.number += 1
            yield line

    def _decode(self, data: bytes) -> str:
        if self._encoding == "ascii" and not data.isascii():
            self._encoding = _guess(data)
        self.broken = False
        try:
            return data.decode(self._encoding)
        except UnicodeDecodeError:
            self.broken = True
            return data.decode(self._encoding, "surrogateescape")


def _extends_ascii(encoding: str) -> bool:
    ascii_bytes = bytes(range(128))
    try:
        return codecs.lookup(encoding).name != "ascii" and (
            ascii_bytes.decode(encoding) == ascii_bytes.decode("ascii")
        )
    except (LookupError, ValueError):
        return False


def _guess(data: bytes) -> str:
    """Chinese text in GB18030 is hardly ever valid UTF-8, but the other way round it may be."""
    coded = [line for line in data.splitlines() if not line.isascii()]
    valid = sum(map(_is_utf_8, coded))
    return "utf-8" if valid * 2 >= len(coded) else "gb18030"


def _is_utf_8(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True
