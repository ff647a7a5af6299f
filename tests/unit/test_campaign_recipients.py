import csv
import io
import json
import re
import tracemalloc
from collections.abc import Callable
from datetime import datetime
from itertools import chain, islice
from typing import Any, cast
from zipfile import ZipFile

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openpyxl import Workbook

from dingrelay_producers.client.campaign_documents import Malformed
from dingrelay_tasks.contract import ContractError
from dingrelay_workers.campaigns.recipients import BLOCK, LONGEST, FileColumn, Recipient, read
from support.campaigns import xlsx

USERIDS = st.text(
    st.characters(exclude_categories=["C", "Z"], exclude_characters=","), min_size=1, max_size=64
)
VALUES = st.text(st.characters(exclude_categories=["C"]), max_size=20)


def rows(content: bytes | str, *wanted: str) -> list[Recipient | Malformed]:
    data = content.encode() if isinstance(content, str) else content
    return list(read(io.BytesIO(data), wanted))


def problems(found: list[Recipient | Malformed]) -> list[tuple[int, str]]:
    return [(row.line, row.problem) for row in found if isinstance(row, Malformed)]


def userids(found: list[Recipient | Malformed]) -> list[str]:
    return [row.userid for row in found if isinstance(row, Recipient)]


@given(st.lists(st.tuples(USERIDS, VALUES)), st.sampled_from(["utf-8", "utf-8-sig", "gb18030"]))
def test_any_table_round_trips(people: list[tuple[str, str]], encoding: str) -> None:
    text = io.StringIO()
    table = csv.writer(text)
    table.writerow(["姓名", "userid", "other"])
    table.writerows([name, userid, "x"] for userid, name in people)
    found = rows(text.getvalue().encode(encoding), "姓名", "missing")
    assert [(row.userid, row.fields["姓名"]) for row in found if isinstance(row, Recipient)] == [
        (userid, name) for userid, name in people
    ]
    assert [row.line for row in found] == list(range(2, len(people) + 2))


@given(st.lists(st.tuples(USERIDS, VALUES), min_size=1))
def test_any_objects_come_back_as_they_were_written(people: list[tuple[str, str]]) -> None:
    objects = [{"userid": userid, "name": name} for userid, name in people]
    text = "\n\n".join(json.dumps(item, ensure_ascii=False) for item in objects)
    wanted = [Recipient(1 + 2 * at, u, {"name": name}) for at, (u, name) in enumerate(people)]
    assert rows(text, "name") == wanted
    result = list(read(objects, ["name"]))
    assert result == [row._replace(line=at) for at, row in enumerate(wanted, 1)]


@given(st.binary(max_size=400))
def test_any_bytes_are_rows_or_a_contract_error(content: bytes) -> None:
    for head in (b"", b"userid,a\n", b'{"userid": "u"}\n'):
        try:
            found = rows(head + content, "a")
        except ContractError:
            continue
        for row in found:
            if isinstance(row, Recipient):
                assert row.userid.encode()
                assert not set(row.userid) & set(", \n\t\0")


def test_each_malformed_row_of_a_table_names_its_line() -> None:
    content = (
        "name,userid\n"  # 1
        "a,u1\n"
        "b\n"
        '"two\nlines",u 2\n'  # 4 and 5
        "\n"
        "c,\n"
        "d," + "x" * 65 + "\n"
        "e,u3,more\n"
        'f,"u4"x\n'
        "g,u5"
    )
    found = rows(content)
    assert userids(found) == ["u1", "u5"]
    assert problems(found) == [
        (3, "columns: 1 instead of 2"),
        (4, "userid: holds a comma, a blank or a control character"),
        (7, "userid: is missing"),
        (8, "userid: has more than 64 characters"),
        (9, "columns: 3 instead of 2"),
        (10, "is not CSV: ',' expected after '\"'"),
    ]


def test_each_malformed_object_names_its_line() -> None:
    content = (
        '{"userid": "u1"}\n{"userid": 7}\n[1]\n{"userid": "u2"\n{}\n{"userid": "u3", "n": [1]}'
    )
    found = rows(content + '\n{"userid": "u4", "n": NaN}\n{"userid": "u5", "n": 1.5}', "n")
    assert found[0] == Recipient(1, "u1", {})
    assert problems(found) == [
        (2, "userid: must be text"),
        (3, "must be a JSON object"),
        (4, "is not JSON: Expecting ',' delimiter at column 16"),
        (5, "userid: is missing"),
        (6, "n: must be text or a number"),
        (7, "is not JSON: a number or a depth out of bounds"),
    ]
    assert found[-1] == Recipient(8, "u5", {"n": "1.5"})


def test_values_are_userids_or_mappings() -> None:
    found = list(read(["u1", {"userid": "u2", "n": None}, 3, "u 4", {}], ["n"]))
    assert found[:2] == [Recipient(1, "u1"), Recipient(2, "u2", {"n": ""})]
    assert problems(found) == [
        (3, "userid: must be text"),
        (4, "userid: holds a comma, a blank or a control character"),
        (5, "userid: is missing"),
    ]


@pytest.mark.parametrize(
    ("encoding", "name"), [("utf-8", "UTF-8"), ("gb18030", "GB18030")], ids=["utf-8", "gb18030"]
)
def test_bytes_of_no_character_spoil_their_own_row(encoding: str, name: str) -> None:
    lines = ["userid,name", "u1,张三", "u2,李四", "u3,王五", "u4,x"]
    data = [line.encode(encoding) for line in lines]
    data[2] = b"u2,\xff"
    found = rows(b"\r\n".join(data), "name")
    [(line, problem)] = problems(found)
    assert (line, f"no {name}, as which the file begins" in problem) == (3, True)
    assert [row.fields for row in found if isinstance(row, Recipient)] == [
        {"name": "张三"},
        {"name": "王五"},
        {"name": "x"},
    ]


def test_a_named_encoding_is_not_guessed() -> None:
    """The first row is valid UTF-8 as well."""
    data = "userid,name\nu1,小伟\nu2,张三\n".encode("gbk")
    assert data.split(b"\n")[1].decode()
    assert len(problems(rows(data))) == 1
    found = list(read(io.BytesIO(data), ["name"], encoding="gbk"))
    assert [cast("Recipient", row).fields["name"] for row in found] == ["小伟", "张三"]
    broken = list(read(io.BytesIO(data + b"u3,\xff\n"), encoding="gbk"))
    assert problems(broken) == [(4, "holds bytes that are no GBK")]
    for wrong in ("utf-16", "klingon", "base64", "idna", "unicode_escape", "raw_unicode_escape"):
        with pytest.raises(ContractError, match="encoding"):
            read(io.BytesIO(data), encoding=wrong)


@pytest.mark.parametrize("end", ["\r", "\r\n", "\n"])
def test_long_files_may_have_any_line_ends(end: str) -> None:
    count, name = LONGEST // 64, "张三" * 10
    text = end.join(["userid,name", *(f"u{number:07d},{name}" for number in range(count))])
    assert len(text.encode()) > LONGEST
    found = rows(text, "name")
    assert problems(found) == []
    assert (len(found), found[-1].line) == (count, count + 1)


@pytest.mark.parametrize(
    "cell",
    ['="0012"', '"=""0012"""', "\u200b0012", "0012\ufeff", "\xa00012\u3000", "00\u200d12"],
)
def test_a_userid_has_no_invisible_characters_and_no_formula_of_excel(cell: str) -> None:
    for header in ("userid", "\u200buserid", "\xa0userid"):
        assert userids(rows(f"{header}\n{cell}\n")) == ["0012"]
    [by_number] = rows(f"job_number\n{cell}\n")
    assert cast("Recipient", by_number).address == ("job_number", "0012")
    if "=" not in cell:
        assert userids(rows(json.dumps({"userid": cell}))) == ["0012"]


def test_a_formula_of_excel_in_another_column_is_its_text() -> None:
    [row] = rows('userid,no\nu1,="007"\n', "no")
    assert cast("Recipient", row).fields == {"no": "007"}


def test_an_encoding_that_shows_late_is_recognised() -> None:
    plain = b"u%07d,ann\n"
    head = b"userid,name\n" + b"".join(plain % number for number in range(BLOCK // 8))
    found = rows(head + "last,张三\n".encode("gb18030"), "name")
    assert found[-1] == Recipient(
        2 + BLOCK // 8, "last", {"name": "张三"}, others=(("name", "张三"),)
    )


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"", "line 1: the file is empty"),
        (b"\n \n", "line 2: the file is empty"),
        (b"name;userid\n", 'line 1: the header has no column "userid", "job_number", "工号"'),
        ("备注,编号\n".encode(), "Say which one names people, such as job_number=备注"),
        (b"\x89PNG\r\n\x1a\n\0\0", "line 1: the file is a PNG picture; save it as .xlsx"),
        (b"\xd0\xcf\x11\xe0" + bytes(99), "an Excel file of before 2007"),
        (b"MZ\0\0", "line 1: the file is no text"),
        (b"PK\x03\x04", "line 1: the file can't be read as an Excel file .BadZipFile"),
        (xlsx(["a"]), "line 1: the header has no column"),
        (xlsx(), "line 1: the header has no column"),
        (xlsx(["userid"], ["x" * 300] * 16_000), "line 1: the file can't be read as an Excel file"),
        (b"userid,a,a\n", 'line 1: the header has two columns "a"'),
        ("userid\nu1\n".encode("utf-16"), "line 1: the file is UTF-16"),
        (b"userid\n" + b"x" * (LONGEST + BLOCK), "line 2: is longer than"),
    ],
)
def test_wrong_lists_of_recipients_are_refused(content: bytes, error: str) -> None:
    with pytest.raises(ContractError, match=error):
        rows(content)


@pytest.mark.parametrize("value", ["u1", b"u1", {"userid": "u1"}])
def test_one_value_is_not_taken_for_many(value: Any) -> None:
    with pytest.raises(TypeError, match="recipients: "):
        read(value)


def test_a_quote_that_is_never_closed_is_one_malformed_row() -> None:
    found = rows('userid\nu1\n"u2\nu3\n')
    assert userids(found) == ["u1"]
    assert problems(found) == [(3, "a quote that opens here holds all up to line 4")]


@pytest.mark.parametrize(
    "swallowing",
    [
        'u2,"Ann\nu3,Bob\nu4,"Cid"\n',  # closed by the next quote, after which comes a letter
        'u2,"Ann\nu3,Bob\nu4,Cid"\n',  # closed at the end of a row: good CSV
    ],
)
def test_a_quote_that_swallows_rows_is_reported_with_its_line(swallowing: str) -> None:
    found = rows(f"userid,name\nu1,Al\n{swallowing}u5,Eve\n", "name")
    assert userids(found) == ["u1", "u5"]
    assert problems(found) == [(3, "a quote that opens here holds all up to line 5")]


def test_a_text_of_several_lines_is_a_value() -> None:
    found = rows('userid,address\nu1,"Street 1,\nTown, District"\nu2,x\n', "address")
    assert userids(found) == ["u1", "u2"]
    assert found[0] == Recipient(2, "u1", {"address": "Street 1,\nTown, District"})


def test_rows_that_no_database_takes_are_malformed() -> None:
    for content in ("userid,name\nu1,a\0b\n", '{"userid": "u1", "name": "a\\u0000b"}\n'):
        assert [problem for _, problem in problems(rows(content, "name"))] == [
            "name: holds a NUL character"
        ]


def test_a_userid_of_a_report_is_read_as_it_was() -> None:
    assert userids(rows("userid\n'=1+1\n'-7\n'x\n")) == ["=1+1", "-7", "'x"]


class Generated(io.RawIOBase):
    """A table that is never in memory as a whole."""

    def __init__(self, count: int) -> None:
        rows = (b"user%09d,a name\n" % number for number in range(count))
        self._lines = chain([b"userid,name\n"], rows)

    def read(self, size: int = -1) -> Any:
        return b"".join(islice(self._lines, size // 30))


@pytest.mark.parametrize(
    ("source", "rows", "bytes_"),
    [
        (Generated, 10_000, 2_000_000),
        (
            lambda rows: io.BytesIO(
                xlsx(["userid", "name"], *([row, "a name"] for row in range(rows)))
            ),
            4_000,
            2_000_000,
        ),
    ],
    ids=["CSV", "Excel"],
)
def test_memory_does_not_grow_with_the_rows(
    source: Callable[[int], Any], rows: int, bytes_: int
) -> None:
    """All rows at once would take more."""
    table = source(rows)
    tracemalloc.start()
    try:
        assert sum(isinstance(row, Recipient) for row in read(table, ["name"])) == rows
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < bytes_


def test_the_column_that_names_people_may_have_another_name() -> None:
    table = "姓名,工号\n张三,u1\n李四,\n".encode("gb18030")
    found = list(read(io.BytesIO(table), ["姓名", "工号"], "userid=工号"))
    assert found == [
        Recipient(2, "u1", {"姓名": "张三", "工号": "u1"}, others=(("name", "张三"),)),
        Malformed(3, "userid: is missing", text="李四", cause="empty", cells=(("name", "李四"),)),
    ]
    # It goes before the usual names.
    table = "userid,电话\nu1,13800000001\n".encode()
    (person,) = read(io.BytesIO(table), column="mobile=电话")
    assert isinstance(person, Recipient)
    assert (person.userid, person.address) == ("", ("mobile", "+86-13800000001"))
    lines = '{"工号": "7"}\n{"name": "x"}\n'.encode()
    found = list(read(io.BytesIO(lines), column="job_number=工号"))
    assert found[0] == Recipient(1, "", {}, ("job_number", "7"))
    assert isinstance(found[1], Malformed)
    assert list(read([{"id": "u9"}], column="id")) == [Recipient(1, "u9")]


@pytest.mark.parametrize(
    ("header", "row", "address", "others"),
    [
        (
            "手机号,姓名,工号",
            "13800000001,王 芳,0012",
            ("job_number", "0012"),
            (("mobile", "+86-13800000001"), ("name", "王 芳")),
        ),
        (
            "邮箱,姓名,手机",
            "a@b.cn,王 芳,13800000001",
            ("mobile", "+86-13800000001"),
            (("email", "a@b.cn"), ("name", "王 芳")),
        ),
        ("电子邮箱,name", "a@b.cn,王 芳", ("email", "a@b.cn"), (("name", "王 芳"),)),
        ("部门,name", "x,王 芳", ("name", "王 芳"), ()),
    ],
)
def test_chinese_headers_say_what_a_column_holds(
    header: str, row: str, address: tuple[str, str], others: tuple[tuple[str, str], ...]
) -> None:
    """The first of job number, mobile number, e-mail address and name names the people."""
    table = xlsx(header.split(","), row.split(","))
    tabs = f"{header}\n{row}\n".replace(",", "\t").encode()
    for content in (f"{header}\n{row}\n".encode("gbk"), table, tabs):
        found = read(io.BytesIO(content), ["name"])
        [person] = found
        assert person == Recipient(
            2,
            "",
            {"name": "王 芳"},
            cast("Any", address),
            cast("Any", others),
            department="x" if "部门" in header else "",
        )
        assert found.columns
        assert found.columns >= {*header.split(","), address[0], "name"}


def test_a_chosen_column_holds_what_its_name_says() -> None:
    assert FileColumn.of("手机") == FileColumn("手机", "mobile")
    table = "工号,手机\nu1,13800000001\n".encode()
    [chosen] = read(io.BytesIO(table), column="手机")
    assert cast("Recipient", chosen).address == ("mobile", "+86-13800000001")
    assert list(read(io.BytesIO(table), column="userid=工号")) == [Recipient(2, "u1")]


def test_an_excel_file_is_read_as_it_shows() -> None:
    moment = datetime(2026, 11, 24, 9, 30)  # noqa: DTZ001 - Excel knows no time zone
    table: list[list[Any]] = [
        [],
        ["UserID", "姓名", "金额", "日期", None],
        ["u1", "张三", 1234.5, moment.replace(hour=0, minute=0)],
        [1001.0, "李四", 13800000001, moment, None, None],
        [None, None, None],
        ["u 2", "王五", 0.1 + 0.2, moment.time()],
        ["u3", "赵六", True, "x", "too", "much"],
    ]
    found = [
        row._replace(cells=()) if isinstance(row, Malformed) else row
        for row in rows(xlsx(*table), "name", "金额", "日期")
    ]
    assert found == [
        Recipient(
            3,
            "u1",
            {"name": "张三", "金额": "1234.5", "日期": "2026-11-24"},
            others=(("name", "张三"),),
        ),
        Recipient(
            4,
            "1001",
            {"name": "李四", "金额": "13800000001", "日期": "2026-11-24 09:30"},
            others=(("name", "李四"),),
        ),
        Malformed(6, "userid: holds a comma, a blank or a control character", text="u 2"),
        Malformed(7, "columns: 6 instead of 4", text="u3, 赵六, TRUE, x, too, much", users=("u3",)),
    ]


def test_a_formula_without_its_value_is_a_malformed_row() -> None:
    """Programs that write Excel files calculate nothing; only Excel stores the values."""
    table: list[list[Any]] = [["工号"], ["=A9"], ["0012"], ['=TEXT(1,"0000")'], [], ["0013"]]
    found = rows(xlsx(*table))
    assert [row.line for row in found] == [2, 3, 4, 6]
    assert [(row.line, row.text) for row in found if isinstance(row, Malformed)] == [
        (2, "=A9"),
        (4, '=TEXT(1,"0000")'),
    ]
    [_, (_, problem)] = problems(found)
    assert problem == (
        'the file has no value for the formula =TEXT(1,"0000"): open it in Excel or WPS, and save it'
    )
    named: list[list[Any]] = [["userid", "name", "other"], ["u1", "=A9", ""], ["u2", "x", "=A9"]]
    [first, second] = rows(xlsx(*named), "name")
    assert isinstance(first, Malformed)
    assert second == Recipient(3, "u2", {"name": "x"}, others=(("name", "x"),))


def test_a_formula_that_was_calculated_to_nothing_is_an_empty_cell() -> None:
    file = io.BytesIO()
    with ZipFile(io.BytesIO(xlsx(["userid"], ["=A9"], ["u1"]))) as plain, ZipFile(file, "w") as new:
        for part in plain.namelist():
            sheet = plain.read(part)
            empty = b'<c r="A2" t="str"><f>A9</f><v></v></c>'
            new.writestr(part, re.sub(rb'<c r="A2"><f>A9</f>.*?</c>', empty, sheet))
    assert rows(file.getvalue()) == [Recipient(3, "u1")]


def test_the_first_visible_sheet_is_read() -> None:
    book = Workbook()
    old = cast("Any", book.active)
    old.append(["userid"])
    old.append(["u9"])
    old.sheet_state = "hidden"
    shown = book.create_sheet()
    shown.append(["userid"])
    shown.append(["u1"])
    file = io.BytesIO()
    book.save(file)
    assert rows(file.getvalue()) == [Recipient(2, "u1")]


@pytest.mark.parametrize("error", ["#N/A", "#REF!", "#VALUE!", "#DIV/0!", "#NAME?", "#NULL!"])
def test_errors_of_a_spreadsheet_are_empty(error: str) -> None:
    table = [["userid", "name"], ["u1", error], [error, "x"]]
    lines = "\n".join(json.dumps(dict(zip(table[0], row, strict=True))) for row in table[1:])
    for content in (xlsx(*table), "\n".join(map(",".join, table)), lines):
        valid, malformed = rows(content, "name")
        assert isinstance(valid, Recipient)
        assert valid.fields == {"name": ""}
        assert isinstance(malformed, Malformed)
        assert malformed.problem == "userid: is missing"
        assert error in malformed.text


def test_a_missing_column_is_named_with_those_that_are_there() -> None:
    with pytest.raises(ContractError, match='no column "工号"; it has "a", "b"'):
        read(io.BytesIO(b"a,b\n1,2\n"), column="工号")
    with pytest.raises(ContractError, match="column: must not be empty"):
        FileColumn.of(" ")
    assert FileColumn.of("a=b") == FileColumn("a=b")
    assert FileColumn.of("userid=b") == FileColumn("b")
