"""Reading recipients as a stream: from CSV, an Excel file, lines of JSON, or any Python iterable.

Every row becomes a recipient or a problem that names its line, so the caller decides how to treat
one bad row among a million.
"""

import codecs
import csv
import io
import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from itertools import chain
from typing import Any, BinaryIO, Final, NamedTuple, NoReturn, cast

from pydantic import TypeAdapter, ValidationError

from dingrelay_producers.client.campaign_documents import Cause, Identifier, Malformed
from dingrelay_tasks.addresses import AddressKind
from dingrelay_tasks.contract import ContractError, UserId
from dingrelay_tasks.sentence import en, not_json, of_library
from dingrelay_workers.campaigns import workbook
from dingrelay_workers.directory.addresses import PARSERS

BLOCK = 1 << 17
"""Bytes read at once."""
LONGEST = 1 << 20
"""Bytes of the longest line; a file without line ends must not fill the memory."""

_UTF_16 = (b"\xff\xfe", b"\xfe\xff")
_BOM = b"\xef\xbb\xbf"
_BINARY = {
    b"\x89PNG": en("a PNG picture"),
    b"\xff\xd8\xff": en("a JPEG picture"),
    b"GIF8": en("a GIF picture"),
    b"%PDF": en("a PDF document"),
    b"\x1f\x8b": en("a gzip archive"),
    b"\xd0\xcf\x11\xe0": en("an Excel file of before 2007 (.xls) or with a password"),
}
"""How files begin that hold no table which can be read."""


class TextReader:
    """Hands out a stream's lines with their ends, in constant memory.

    Without a name the encoding is settled by the first block that is not plain ASCII. No byte of a
    character of several in either encoding looks like a line's end, a quote or a comma, so what
    can't be decoded spoils its own row only: it stands there as lone surrogates.

    Args:
        blocks: the file's bytes.
        encoding: its name; empty where it is not known.

    Attributes:
        number: of the line that was handed out last, from 1.
        broken: the lines of this block may hold lone surrogates.

    Raises:
        ContractError: there is no such encoding, or it is not one in which ASCII stays ASCII.
    """

    def __init__(self, blocks: Iterable[bytes], encoding: str = "") -> None:
        if encoding and not _extends_ascii(encoding):
            raise ContractError("encoding", "must extend ASCII, such as UTF-8, GB18030 or Big5")
        self._blocks = blocks
        self.number = 0
        self.broken = False
        self._named = encoding
        self._encoding = encoding or "ascii"

    @property
    def problem(self) -> str:
        """The problem of a row that can't be decoded."""
        problem = en("holds bytes that are no {}", self._encoding.upper())
        if self._named:
            return problem
        other = "GB18030" if self._encoding == "utf-8" else "UTF-8"
        return en(
            "{}, as which the file begins; if its encoding is another, such as {}, name it",
            problem,
            other,
        )

    def __iter__(self) -> Iterator[str]:
        """The lines.

        Raises:
            ContractError: this is no text, or a line has no end.
        """
        unfinished = b""
        for block in self._blocks:
            data = unfinished + block
            # A carriage return at the end of the block may be the first half of a line's end.
            end = max(data.rfind(b"\n"), data.rfind(b"\r", 0, -1)) + 1
            yield from self._split(data[:end])
            unfinished = data[end:]
            if len(unfinished) > LONGEST:
                raise ContractError(_line(self.number + 1), en("is longer than {} bytes", LONGEST))
        yield from self._split(unfinished)

    def _split(self, data: bytes) -> Iterator[str]:
        if self.number == 0:
            if data.startswith(_UTF_16):
                raise ContractError(_line(1), "the file is UTF-16; save it as UTF-8")
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
        # What can't be decoded must be able to stand as lone surrogates, and a backslash as itself.
        b"\\x\\u\xff".decode(encoding, "surrogateescape")
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


ADDRESS_WORDS: Mapping[Identifier, str] = {
    "job_number": en("job number"),
    "mobile": en("mobile number"),
    "email": en("e-mail address"),
    "name": en("full name"),
}
USERID: Final = "userid"
HEADERS: Mapping[str, Sequence[str]] = {
    USERID: ("UserID", "员工UserID"),
    "job_number": ("工号",),
    "mobile": ("手机号", "手机", "手机号码"),
    "email": ("邮箱", "电子邮箱"),
    "name": ("姓名",),
}
"""Other names of columns. The first kind that a table has names its people."""
DEPARTMENTS = ("部门", "所属部门", "所在部门", "department")
"""Names of the column by which people of one name differ."""
_ADDRESSES: Sequence[AddressKind] = ("job_number", "mobile", "email")
_COLUMNS: Sequence[Identifier] = (*_ADDRESSES, "name")
_KINDS: Sequence[Identifier] = ("userid", *_COLUMNS)
"""Kinds of columns that name people, the first one before the others."""

_ERROR = re.compile(
    r"\s*#(N/A|REF!|VALUE!|DIV/0!|NAME\?|NULL!|NUM!|SPILL!|CALC!|FIELD!|BLOCKED!|CONNECT!|BUSY!|UNKNOWN!"
    r"|EXTERNAL!|PYTHON!|TIMEOUT!|GETTING_DATA)\s*",
    re.IGNORECASE,
)
"""Errors of Excel and WPS, also as a CSV file holds them."""
_INVISIBLE = dict.fromkeys(
    [0xAD, *range(0x200B, 0x2010), *range(0x202A, 0x202F), *range(0x2060, 0x2065), 0xFEFF]
)

_WORD = re.compile(r"[^\s,;:'\"(){}\[\]]+")
LONGEST_SEARCHED = 1 << 12
"""Characters of a line that can't be parsed, in which people are looked for."""

NO_FIELDS: Mapping[str, str] = {}

_check_userid = TypeAdapter(UserId).validate_python


class Recipient(NamedTuple):
    """A recipient, with the fields of its row.

    Attributes:
        line: in the file, or the number of the item, from 1; 0 for people that no file names.
        userid: "" until the one of an address is found.
        fields: those that were wanted and are there; "" is no value.
        address: kind and value as `dingrelay_workers.directory.addresses` compares them; None where the row has a userid.
        others: further cells of the row that identify a person, and must not identify another one.
        department: that of the person, by which a name is theirs; "" for none.
    """

    line: int
    userid: str
    fields: Mapping[str, str] = NO_FIELDS
    address: tuple[Identifier, str] | None = None
    others: tuple[tuple[Identifier, str], ...] = ()
    department: str = ""

    @property
    def words(self) -> str:
        """The person, for those who wrote the row: the name that stands in it, or what else does."""
        return dict(self.others).get("name") or self.written

    @property
    def written(self) -> str:
        """The address, as people write it, or the userid."""
        return spelled(*self.address) if self.address else self.userid

    def malformed(self, problem: str, cause: Cause, users: Collection[str] = ()) -> Malformed:
        """The row, of which something else turned out to be wrong; `users` are people that it may mean."""
        people = (self.userid,) if self.userid else ()
        return Malformed(
            self.line, problem, text=self.written, users=(*people, *users), cause=cause
        )


class FileColumn(NamedTuple):
    """The column that holds the recipient, if it has none of the usual names.

    Attributes:
        name: of the column, such as ``工号``.
        kind: of the identifiers in it; None for userids.
    """

    name: str
    kind: Identifier | None = None

    @classmethod
    def of(cls, text: str) -> "FileColumn":
        """Parse a column: ``job_number=NAME``, or ``NAME`` where that says what it holds, or userids.

        Raises:
            ContractError: it has no name.
        """
        kind, _, name = text.partition("=")
        for parsed_kind in _COLUMNS:
            if kind == parsed_kind and name:
                return cls(name.strip(), parsed_kind)
        if kind == USERID and name:
            return cls(name.strip())
        if not text.strip():
            raise ContractError("column", "must not be empty")
        name = text.strip()
        return cls(name, next((kind for kind in _COLUMNS if name in (kind, *HEADERS[kind])), None))


class NoPeopleColumn(ContractError):
    """The header of a table does not say which column names people.

    Attributes:
        header: its names.
    """

    def __init__(self, number: int, header: Sequence[str]) -> None:
        super().__init__(_line(number), _nameless(header))
        self.header = header


class Rows:
    """The rows of one source, read once.

    Attributes:
        columns: the names of all fields, where the source has a header.
        header: the names as the source has them; empty where it has no header.
        values: of the row that was read last, under `header`; empty where it can't be parsed.
    """

    def __init__(
        self,
        rows: Iterator[tuple[Sequence[str], Recipient | Malformed]],
        columns: frozenset[str] | None = None,
        header: Sequence[str] = (),
    ) -> None:
        self._rows = rows
        self.columns = columns
        self.header = header
        self.values: Sequence[str] = ()

    @classmethod
    def without_header(cls, rows: Iterator[Recipient | Malformed]) -> "Rows":
        """Rows that each have names of their own, or none."""
        return cls(((), row) for row in rows)

    def __iter__(self) -> Iterator[Recipient | Malformed]:
        for self.values, row in self._rows:  # noqa: B020 - the attribute is what the loop keeps
            yield row


def read(
    source: BinaryIO | Iterable[object],
    field_names: Collection[str] = (),
    column: str = "",
    encoding: str = "",
) -> Rows:
    """The rows of a file or of an iterable.

    Args:
        source: a file with CSV, or cells between tabs, under a header or with one JSON object a line, in UTF-8 or
            GB18030; an Excel file; or userids, or mappings. The recipient of a row is its
            ``userid``, or without one its ``job_number``, ``mobile`` or ``email``, or a table's ``name``.
        field_names: names of the fields to keep.
        column: holds the recipient instead; as `FileColumn.of` parses it, empty for none.
        encoding: the file's, if it is another or can't be detected from its bytes.

    Raises:
        ContractError: the file as a whole can't be read, also while its rows are read.
        TypeError: this is one value, not many.
    """
    if isinstance(source, str | bytes | Mapping):
        raise TypeError(f"recipients: a file or an iterable of them, not {type(source).__name__}")
    file_column = FileColumn.of(column) if column else None
    if not hasattr(source, "read"):
        return Rows.without_header(_of_values(source, field_names, file_column))
    stream = cast("BinaryIO", source)
    head = stream.read(BLOCK)
    for beginning, what in _BINARY.items():
        if head.startswith(beginning):
            raise ContractError(_line(1), en("the file is {}; save it as .xlsx or CSV", what))
    if head.startswith(workbook.BEGINNING):
        return _of_workbook(workbook.rows(head, stream), field_names, file_column)
    blocks = chain([head] if head else (), iter(partial(stream.read, BLOCK), b""))
    lines = TextReader(blocks, encoding)
    ahead = iter(lines)
    first = next((line for line in ahead if not line.isspace()), "")
    if not first:
        raise ContractError(_line(max(lines.number, 1)), "the file is empty")
    if first.lstrip().startswith("{"):
        return Rows.without_header(_of_json(lines, chain([first], ahead), field_names, file_column))
    return _of_csv(lines, first, ahead, field_names, file_column)


def problem_of(userid: object) -> str | None:
    """The problem of a userid; None if it has none."""
    try:
        _check_userid(userid)
    except ValidationError:
        if not isinstance(userid, str):
            return en("userid: must be text")
        if not userid:
            return en("userid: is missing")
        if len(userid) > 64:
            return en("userid: has more than 64 characters")
        return en("userid: holds a comma, a blank or a control character")
    return None


def spelled(kind: Identifier, value: str) -> str:
    """An identifier as people write it."""
    return value.removeprefix("+86-") if kind == "mobile" else value


def _line(number: int) -> str:
    return en("line {}", number)


class _Table(NamedTuple):
    """How the rows of a table are read.

    Attributes:
        width: how many columns it has.
        place: the column with the recipients.
        kind: of the identifiers in it; None for userids.
        others: the other columns that identify them.
        department: the column with their departments; None for none.
        fields: the columns that are kept.
        columns: the names of all.
    """

    width: int
    place: int
    kind: Identifier | None
    others: Mapping[Identifier, int]
    department: int | None
    fields: Mapping[str, int]
    columns: frozenset[str]

    @classmethod
    def under(
        cls,
        number: int,
        names: Sequence[str],
        field_names: Collection[str],
        column: FileColumn | None,
    ) -> "_Table":
        """The table under a header, which stands in this line.

        Raises:
            ContractError: it does not say which column has the recipients.
        """
        header = [_visible(name) for name in names]
        places: dict[Identifier, int] = {
            name: at for name in _KINDS if (at := _place(header, name)) is not None
        }
        kind: Identifier | None = None
        if column is not None:
            place = _place(header, column.name)
            if place is None:
                missing = en(
                    'the header has no column "{}"; it has {}', column.name, _quoted(header)
                )
                raise ContractError(_line(number), missing)
            kind = column.kind
        elif not places:
            raise NoPeopleColumn(number, header)
        else:
            kind, place = next(iter(places.items()))
            kind = None if kind == USERID else kind
        if twice := sorted({name for name in header if name and header.count(name) > 1}):
            raise ContractError(_line(number), en("the header has two columns {}", _quoted(twice)))
        names_places = (
            (name, _place(header, name)) for name in {*header, *HEADERS, *field_names} - {""}
        )
        columns = {name: at for name, at in names_places if at is not None}
        fields = {name: columns[name] for name in field_names if name in columns}
        # Numbers beside a column that was chosen may be those of another system.
        others: dict[Identifier, int] = {
            other: at
            for other, at in places.items()
            if at != place and (column is None or other == "name")
        }
        department = next((header.index(name) for name in DEPARTMENTS if name in header), None)
        return cls(len(header), place, kind, others, department, fields, frozenset(columns))

    def recipient(self, line: int, row: Sequence[str]) -> Recipient | Malformed:
        """A row of it."""
        person = self._recipient(line, row)
        if isinstance(person, Malformed):
            text = row[self.place].strip() if len(row) == self.width else ""
            userids = [] if self.kind or len(row) <= self.place else [_plain(row[self.place])]
            return person._replace(
                text=text or ", ".join(filter(None, row)),
                users=tuple(userid for userid in userids if problem_of(userid) is None),
                cells=(*self._cells(row),),
            )
        return person

    def _cells(self, row: Sequence[str]) -> Iterator[tuple[Identifier, str]]:
        """The cells of a malformed row that may identify people: all of them where columns lack or are too many."""
        places: dict[Identifier, int] = {self.kind or USERID: self.place, **self.others}
        for kind, at in places.items():
            for cell in [row[at]] if len(row) == self.width else row:
                yield from _parsed(kind, cell)

    def _recipient(self, line: int, row: Sequence[str]) -> Recipient | Malformed:
        if len(row) != self.width:
            return Malformed(line, en("columns: {} instead of {}", len(row), self.width))
        for at in (self.place, *self.fields.values()):
            if isinstance(row[at], workbook.Uncalculated):
                return Malformed(line, _uncalculated(row[at]))
        fields = {name: _value(row[at]) for name, at in self.fields.items()} or NO_FIELDS
        text = _plain(row[self.place])
        person = (
            _addressed(line, self.kind, text, fields)
            if self.kind
            else _recipient(line, text, fields)
        )
        if isinstance(person, Recipient) and (self.others or self.department is not None):
            department = "" if self.department is None else _plain(row[self.department])
            return person._replace(others=tuple(self._others(row)), department=department)
        return person

    def _others(self, row: Sequence[str]) -> Iterator[tuple[Identifier, str]]:
        for kind, at in self.others.items():
            yield from _parsed(kind, row[at])


def _parsed(kind: Identifier, cell: str) -> Iterator[tuple[Identifier, str]]:
    """The cell as its kind is compared; nothing for what is no identifier, which identifies no person."""
    with suppress(ValueError):
        value = PARSERS[kind](_visible(_plain(cell)))
        is_sound = problem_of(value) is None if kind == USERID else value and "\0" not in value
        if is_sound and _is_text(value):
            yield kind, value


def _unparsed(line: int, problem: str, text: str) -> Malformed:
    """A line of which the cells are not known: each of its words may identify a person."""
    words = dict.fromkeys(_WORD.findall(text[:LONGEST_SEARCHED]))
    cells = (cell for word in words for kind in _KINDS for cell in _parsed(kind, word))
    return Malformed(line, problem, text=text, cells=(*cells,))


def _uncalculated(formula: str) -> str:
    return en(
        "the file has no value for the formula {}: open it in Excel or WPS, and save it", formula
    )


def _place(header: Sequence[str], name: str) -> int | None:
    """Index of the column of this name, or of a synonym."""
    names = (name, *HEADERS.get(name, ()))
    return next((header.index(synonym) for synonym in names if synonym in header), None)


def _nameless(header: Sequence[str]) -> str:
    columns = [USERID, *(column for kind in _COLUMNS for column in (kind, *HEADERS[kind][:1]))]
    guess = next(filter(None, header), "NAME")
    return en(
        "the header has no column {}; it has {}. Say which one names people, such as "
        'job_number={} (--column; over HTTP "column")',
        _quoted(columns),
        _quoted(header),
        guess,
    )


def _of_workbook(
    rows: Iterator[tuple[int, list[str]]], field_names: Collection[str], column: FileColumn | None
) -> Rows:
    number, names = next(rows, (1, [""]))
    table = _Table.under(number, names, field_names, column)
    blank = [""] * table.width

    def read_rows() -> Iterator[tuple[Sequence[str], Recipient | Malformed]]:
        for line, row in rows:
            # A file does not store the empty cells at a row's end.
            whole = row + blank[len(row) :]
            yield whole, table.recipient(line, whole)

    return Rows(read_rows(), table.columns, names)


def _of_csv(
    lines: TextReader,
    first: str,
    ahead: Iterator[str],
    field_names: Collection[str],
    column: FileColumn | None,
) -> Rows:
    number = lines.number
    delimiter = "\t" if first.count("\t") > first.count(",") else ","
    try:
        header = next(csv.reader(chain([first], ahead), strict=True, delimiter=delimiter))
    except (csv.Error, StopIteration):
        raise ContractError(_line(number), "is no header of CSV") from None
    if "\0" in "".join(header):
        raise ContractError(_line(number), "the file is no text")
    table = _Table.under(number, header, field_names, column)
    return Rows(_of_table(lines, ahead, table, delimiter), table.columns, header)


def _of_table(
    lines: TextReader, ahead: Iterator[str], table: _Table, delimiter: str
) -> Iterator[tuple[Sequence[str], Recipient | Malformed]]:
    reader = csv.reader(ahead, strict=True, delimiter=delimiter)
    while True:
        line = lines.number + 1  # a quoted value may hold further lines
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            swallowed = lines.number > line
            problem = (
                _runaway(lines.number)
                if swallowed
                else en("is not CSV: {}", of_library(str(error)))
            )
            yield (), Malformed(line, problem)
            continue
        if not row:
            continue
        if delimiter == "\t":
            # What is copied from a table loses the empty cells at its end.
            row += [""] * (table.width - len(row))
        if lines.number > line and _swallows_rows(row, table, delimiter):
            yield (), _unparsed(line, _runaway(lines.number), row[0])
        elif lines.broken and not _is_text("".join(row)):
            yield (), _unparsed(line, lines.problem, ", ".join(row))
        else:
            yield row, table.recipient(line, row)


def _recipient(line: int, userid: str, fields: Mapping[str, str]) -> Recipient | Malformed:
    problem = problem_of(userid)
    if problem is None and fields:
        problem = _nul_in(fields)
    if problem is None:
        return Recipient(line, userid, fields)
    return Malformed(line, problem, cause="malformed" if userid else "empty")


def _addressed(
    line: int, kind: Identifier, text: str, fields: Mapping[str, str]
) -> Recipient | Malformed:
    """A recipient with an address."""
    if not text.strip():
        return Malformed(line, en("has no {}", ADDRESS_WORDS[kind]), cause="empty")
    try:
        value = PARSERS[kind](_visible(text))
        value.encode()  # half of a character, which JSON can carry, is in no address
    except UnicodeEncodeError:
        return Malformed(line, en("{}: must be Unicode text", kind))
    except ValueError as error:
        return Malformed(line, en("{}: {}", kind, error))
    problem = _nul_in(fields) if fields else None
    return Malformed(line, problem) if problem else Recipient(line, "", fields, (kind, value))


def _runaway(last: int) -> str:
    return en("a quote that opens here holds all up to line {}", last)


def _swallows_rows(row: Sequence[str], table: _Table, delimiter: str) -> bool:
    """Whether a value of several lines holds rows: a quote was opened and never closed.

    A line in it that has as many columns as the table, and a userid where that belongs, is hardly
    part of a text. In a text, a blank follows a comma.
    """
    for value in row:
        for inner in value.splitlines()[1:]:
            values = [] if f"{delimiter} " in inner else inner.split(delimiter)
            if len(values) == table.width and problem_of(values[table.place].strip('"')) is None:
                return True
    return False


def _plain(userid: str) -> str:
    """A userid without the apostrophe that a report puts before what might be a formula."""
    if userid.startswith("'") and userid[1:2] in {*"=+-@"}:
        return userid[1:]
    return _visible(_value(userid))


def _value(cell: str) -> str:
    """The value of a cell.

    An error of a spreadsheet is none, and the formula in which Excel keeps the zeros of a number (``="0012"``) is
    taken off.
    """
    if _ERROR.fullmatch(cell):
        return ""
    return cell[2:-1] if len(cell) > 2 and cell.startswith('="') and cell.endswith('"') else cell


def _visible(name: str) -> str:
    """A name without blanks around it and without the invisible characters of a web page or a chat."""
    return name.translate(_INVISIBLE).strip()


def _nul_in(fields: Mapping[str, str]) -> str | None:
    """The field with a NUL, which no message and no database can hold; None if none has one."""
    return next(
        (en("{}: holds a NUL character", name) for name in fields if "\0" in fields[name]), None
    )


def _of_json(
    lines: TextReader, ahead: Iterable[str], wanted: Collection[str], column: FileColumn | None
) -> Iterator[Recipient | Malformed]:
    for text in ahead:
        if text.isspace():
            continue
        if lines.broken and not _is_text(text):
            yield _unparsed(lines.number, lines.problem, text.strip())
            continue
        try:
            value = json.loads(text.rstrip("\n"), parse_constant=_refuse)
        except (ValueError, RecursionError) as error:
            yield _unparsed(lines.number, not_json(error), text.strip())
        else:
            if isinstance(value, dict):
                yield _of_mapping(lines.number, cast("dict[str, Any]", value), wanted, column)
            else:
                yield _unparsed(lines.number, "must be a JSON object", text.strip())


def _of_values(
    values: Iterable[object], wanted: Collection[str], column: FileColumn | None
) -> Iterator[Recipient | Malformed]:
    for number, value in enumerate(values, 1):
        if isinstance(value, Mapping):
            yield _of_mapping(number, cast("Mapping[str, Any]", value), wanted, column)
        elif problem := problem_of(value):
            yield Malformed(number, problem, text=str(value))
        else:
            yield Recipient(number, cast("str", value))


def _of_mapping(
    line: int, row: Mapping[str, Any], wanted: Collection[str], column: FileColumn | None
) -> Recipient | Malformed:
    person = _named_in(line, row, wanted, column)
    if isinstance(person, Malformed):
        names: dict[Identifier, str] = {kind: kind for kind in _KINDS}
        if column:
            names[column.kind or USERID] = column.name
        cells = (
            cell
            for kind, name in names.items()
            if isinstance(value := row.get(name), str | int)
            for cell in _parsed(kind, str(value))
        )
        text = ", ".join(str(value) for value in row.values() if value)
        return person._replace(text=text, cells=(*cells,))
    return person


def _named_in(
    line: int, row: Mapping[str, Any], wanted: Collection[str], column: FileColumn | None
) -> Recipient | Malformed:
    userid: Any = row.get(column.name if column else USERID, "")
    kind: Identifier | None = column.kind if column else None
    if column is None and USERID not in row:
        kind = next((address_kind for address_kind in _ADDRESSES if address_kind in row), None)
    if isinstance(userid, str):
        userid = _visible(_value(userid))
    if not kind and (problem := problem_of(userid)):
        return Malformed(line, problem)
    fields: dict[str, str] = {}
    for name in wanted:
        if name in row:
            value = row[name]
            if isinstance(value, bool) or not isinstance(value, str | int | float | None):
                return Malformed(line, en("{}: must be text or a number", name))
            fields[name] = "" if value is None else _value(str(value))
    if nul := _nul_in(fields):
        return Malformed(line, nul)
    if kind:
        text = row.get(column.name if column else kind)
        address = str(text) if isinstance(text, str | int) and not isinstance(text, bool) else ""
        return _addressed(line, kind, _value(address), fields)
    return Recipient(line, userid, fields)


def _refuse(constant: str) -> NoReturn:
    raise ValueError(constant)


def _is_text(text: str) -> bool:
    """Whether UTF-8 can spell it: bytes that could not be decoded stand as lone surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _quoted(names: Collection[str]) -> str:
    return ", ".join(f'"{name}"' for name in list(names)[:20])
