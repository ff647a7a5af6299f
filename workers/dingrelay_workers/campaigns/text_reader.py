"""The lines of a text file whose encoding nobody tells: UTF-8, or GB18030 as Excel writes it."""

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

    The encoding is settled by the first block that is not plain ASCII. No byte of a character
    of several in either encoding looks like a line's end, a quote or a comma, so what can't be
    decoded spoils its own row only: it stands there as lone surrogates.

    Attributes:
        number: of the line that was handed out last, from 1.
        broken: the lines of this block may hold lone surrogates.
        encoding: what the bytes are taken for by now.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.number = 0
        self.broken = False
        self.encoding = "ascii"

    def __iter__(self) -> Iterator[str]:
        """The lines.

        Raises:
            ContractError: this is no text, or a line has no end.
        """
        rest = b""
        while block := self._stream.read(BLOCK):
            data = rest + block
            end = data.rfind(b"\n") + 1
            rest = data[end:]
            if len(rest) > LONGEST:
                raise ContractError(
                    f"line {self._last(data) + 1}", f"is longer than {LONGEST} bytes"
                )
            yield from self._split(data[:end])
        yield from self._split(rest)

    def _last(self, data: bytes) -> int:
        return self.number + data.count(b"\n")

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
        if self.encoding == "ascii" and not data.isascii():
            self.encoding = _guess(data)
        self.broken = False
        try:
            return data.decode(self.encoding)
        except UnicodeDecodeError:
            self.broken = True
            return data.decode(self.encoding, "surrogateescape")


def _guess(data: bytes) -> str:
    """Chinese text in GB18030 is hardly ever valid UTF-8, but the other way round it may be."""
    coded = [line for line in data.split(b"\n") if not line.isascii()]
    valid = sum(map(_is_utf_8, coded))
    return "utf-8" if valid * 2 >= len(coded) else "gb18030"


def _is_utf_8(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True
