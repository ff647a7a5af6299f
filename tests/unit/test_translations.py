"""The catalogue has every text of the code, and says each as the code gives it."""

import ast
import gettext
import io
import itertools
import json
import math
import pickle
import re
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from string import Formatter
from threading import Barrier
from typing import Any, cast

import pytest
from babel.messages.catalog import Message
from hypothesis import given as examples
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

import catalogue
import compiled
import extraction
from dingrelay_producers import language
from dingrelay_producers.cli.jobs_file import LineError, send_jobs
from dingrelay_producers.language import CHINESE, ENGLISH
from dingrelay_producers.settings import Settings, SettingsError
from dingrelay_producers.store.states import State
from dingrelay_producers.store.status import JobError
from dingrelay_producers.time_spans import span
from dingrelay_tasks.contract import ContractError, Part, contract_error
from dingrelay_tasks.message_result import MessageSendResult, refuse_unreachable
from dingrelay_tasks.outcomes import Refused
from dingrelay_tasks.sentence import en, from_text, to_text, with_parts
from dingrelay_tasks.user_sync import UserSync
from dingrelay_workers.campaigns import recipients
from dingrelay_workers.dingtalk.approval_schema import Schema
from dingrelay_workers.http.problems import KINDS
from support.foreign_words import foreign_words

STORED = [message for message in catalogue.stored(CHINESE) if message.id]
BY_KEY = {(message.context, message.id): message for message in STORED}
SAME = {
    "userid",
    "task_id",
    "worker",
    "workers",
    "id",
    "url",
}
"""Texts that are equal in both languages."""

CHINESE_CHARACTER = re.compile("[\u4e00-\u9fff，。、：（]")


def values(text: str) -> list[str]:
    """The values of a text, each as it is written, in any order; those without a name are counted."""
    if '{"' in text:  # JSON, and no values
        return []
    parts = [part for part in Formatter().parse(text) if part[1] is not None]
    return sorted(
        f"{name or number}!{how}:{spec}" for number, (_, name, spec, how) in enumerate(parts)
    )


def markup(text: str) -> list[str]:
    """Rich's marks, in any order."""
    return sorted(re.findall(r"\[/?(?:bold|dim|blue|green|cyan| )*\]", text))


def test_extracting_finds_nothing_that_the_catalogue_lacks_and_the_catalogue_nothing_else() -> None:
    found = {
        (message.context, message.id) for message in catalogue.extracted(CHINESE) if message.id
    }
    advice = "run `make translations`, translate what it names, and run it again"
    assert found - BY_KEY.keys() == set(), advice
    assert BY_KEY.keys() - found == set(), advice


def test_each_text_is_translated_and_none_is_fuzzy_or_obsolete() -> None:
    assert [message.id for message in STORED if not message.string] == []
    assert [message.id for message in STORED if message.fuzzy] == []
    assert list(catalogue.stored(CHINESE).obsolete) == []


def test_a_catalogue_is_compiled_where_it_changed(tmp_path: Path) -> None:
    source = catalogue.path(CHINESE)
    po = tmp_path / source.relative_to(catalogue.ROOT)
    po.parent.mkdir(parents=True)
    po.write_bytes(source.read_bytes())
    compiled.compile_stale(tmp_path)
    with po.with_suffix(".mo").open("rb") as file:
        known = gettext.GNUTranslations(file)
    for each in STORED:
        found = known.pgettext(each.context, each.id) if each.context else known.gettext(each.id)
        assert found == each.string


def test_a_translation_has_the_same_values_and_is_chinese() -> None:
    wrong: list[str] = []
    for message in STORED:
        english, chinese = str(message.id), str(message.string)
        right = (
            values(chinese) == values(english)
            and markup(chinese) == markup(english)
            and (CHINESE_CHARACTER.search(chinese) or english in SAME)
            # Blanks at the ends matter where texts are put together; a single line end would be shown.
            and chinese.startswith("  ") == english.startswith("  ")
            and "\n" not in re.sub(r"\n\n|\n$", "", chinese)
        )
        if not right:
            wrong.append(english)
    assert wrong == []


def test_a_translation_leaves_no_word_in_english() -> None:
    wrong = {str(message.id): foreign_words(str(message.string)) for message in STORED}
    assert {english: words for english, words in wrong.items() if words} == {}


COUNTED = [message for message in catalogue.stored(ENGLISH) if message.id]
FORM = re.compile(r"\{(?:\w+):([^{}|]+)\|([^{}|]+)\}")
PLURALS = {
    word
    for message in COUNTED
    for _, more in FORM.findall(str(message.string))
    for word in re.findall(r"\b(?:\w{2,}s|people)\b", more)
} - {
    word
    for message in COUNTED
    for one, _ in FORM.findall(str(message.string))
    for word in one.split()
}
COUNTS = re.compile(rf"(\{{[^{{}}]*\}}|\b1) (?:(?!of\b)[a-z]+ )?(?:{'|'.join(PLURALS)})\b")
"""A value and a plural behind it."""
NO_COUNTS = {
    "dingtalk {} approvals",
    "dingtalk {} mobile numbers",
    "dingtalk {} people",
    "{type} to departments",
    "{} of {} calls of this month are used; {} jobs stop at {:.0%}",
    # Click chooses the form itself.
    "Option {name} requires {number} arguments.",
    "Argument {name} takes {number} values.",
}
"""Texts with a plural behind a value that is no count, such as an app or a lane."""


def _in_english(message: Message, count: int) -> str:
    """The text with each of its values a count."""
    fields = [name for _, name, _, _ in Formatter().parse(str(message.id)) if name is not None]
    with language.spoken(ENGLISH):
        if message.context:
            return language.translated(en(str(message.id), *[count] * len(fields)))
        return language.tr(str(message.id), **dict.fromkeys(fields, count))


@pytest.mark.parametrize("message", COUNTED, ids=lambda message: str(message.id))
def test_a_text_with_a_count_has_its_singular_for_one_alone(message: Message) -> None:
    template = str(message.id)
    names = [name for _, name, _, _ in Formatter().parse(template) if name]
    for count in (0, 2, 1_000):
        of_code = template.format(*[count] * 9, **dict.fromkeys(names, count))
        assert _in_english(message, count) == of_code
    assert template in NO_COUNTS or not COUNTS.search(_in_english(message, 1))


def test_each_text_with_a_count_has_its_forms_and_no_other_does() -> None:
    found = {(each.context, each.id) for each in STORED if COUNTS.search(str(each.id))}
    counted = {(message.context, message.id) for message in COUNTED}
    assert {key for key in found - counted if key[1] not in NO_COUNTS} == set(), (
        "add their forms to the catalogue of English"
    )
    assert counted - BY_KEY.keys() == set(), "run `make translations`"


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, ENGLISH),
        ({"LANG": "C"}, ENGLISH),
        ({"LANG": "C.UTF-8"}, ENGLISH),
        ({"LANG": "de_DE.UTF-8"}, ENGLISH),
        ({"LANG": "zh_CN.UTF-8"}, CHINESE),
        ({"LANG": "zh_CN.GBK"}, CHINESE),
        ({"LANG": "en_US.UTF-8", "LC_ALL": "zh_CN.UTF-8"}, CHINESE),
        ({"LANG": "zh_CN.UTF-8", "LC_MESSAGES": "en_GB.UTF-8"}, ENGLISH),
        ({"LANG": "zh_CN.UTF-8", "LC_ALL": "C"}, ENGLISH),
        ({"LANG": "zh_CN.UTF-8", "LC_ALL": ""}, CHINESE),
        ({"LANG": "zh_CN.UTF-8", "DINGRELAY_LANGUAGE": "en"}, ENGLISH),
        ({"LANG": "C", "DINGRELAY_LANGUAGE": "zh"}, CHINESE),
        ({"LANG": "C", "DINGRELAY_LANGUAGE": "zh-CN"}, CHINESE),
        ({"LANG": "zh_TW.UTF-8"}, CHINESE),
        ({"LANG": "zh_CN.UTF-8", "DINGRELAY_LANGUAGE": "fr"}, CHINESE),
    ],
)
def test_the_environment_chooses_the_language(
    variables: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("DINGRELAY_LANGUAGE", "LC_ALL", "LC_MESSAGES", "LANG"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert language.chosen() == expected


def test_a_dotenv_has_the_language(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DINGRELAY_LANGUAGE")
    monkeypatch.setenv("LC_ALL", "C")
    (tmp_path / ".env").write_text("DINGRELAY_LANGUAGE=zh\n", "utf-8")
    assert language.chosen() == CHINESE


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("", ENGLISH),
        ("*", ENGLISH),
        ("zh-CN,zh;q=0.9,en;q=0.8", CHINESE),
        ("en-GB, zh;q=0.9", ENGLISH),
        ("fr, zh;q=0.3, en;q=0.2", CHINESE),
        ("zh;q=0, en;q=0.1", ENGLISH),
        ("zh;q=nonsense", ENGLISH),
        ("zh;q=nan", ENGLISH),
        ("zh;q=7", ENGLISH),
        (";;;,=,zh", CHINESE),
    ],
)
def test_a_header_chooses_the_language(header: str, expected: str) -> None:
    assert language.accepted(header) == expected


def test_unknown_sentences_are_not_translated() -> None:
    for text in (
        "",
        "{",
        "{}",
        "a: b",
        "用户不存在",
        "no such thing in the catalogue: at all",
        "x" * 5_000,
    ):
        assert language.translated(text, CHINESE) == text


def test_a_sentence_is_translated_with_the_sentences_among_its_values() -> None:
    required = ContractError("to.users.3", "is required")
    assert str(required) == "to.users.3: is required"
    assert language.translated(str(required), CHINESE) == "to.users.3：必填"
    nested = LineError(7, "to", "must be a list")
    assert str(nested) == "line 7: to: must be a list"
    assert language.translated(str(nested), CHINESE) == "第 7 行：to：必须是列表"
    token = en("a token, good for {}", span(5_400))
    assert token == "a token, good for 1 h 30 min"
    assert language.translated(token, CHINESE) == "获得 token，有效期 1 小时 30 分钟"
    assert language.translated(en("the job is {}", State.CANCELLED), CHINESE).endswith("cancelled")
    assert pickle.loads(pickle.dumps(token)).values == token.values


def test_two_readers_in_one_process_read_their_own_languages() -> None:
    both_speak = Barrier(2)

    def read(chosen: str) -> tuple[str, str]:
        with language.spoken(chosen):
            both_speak.wait()
            return language.tr("{count} jobs accepted", count=3), language.translated("is required")

    with ThreadPoolExecutor(2) as readers:
        assert list(readers.map(read, (CHINESE, ENGLISH))) == [
            ("已接收 3 个任务", "必填"),
            ("3 jobs accepted", "is required"),
        ]


def test_outside_a_command_everything_is_english() -> None:
    assert language.tr("{count} jobs accepted", count=3) == "3 jobs accepted"
    with language.spoken(CHINESE):
        assert language.tr("{count} jobs accepted", count=3) == "已接收 3 个任务"
        with language.spoken(ENGLISH):
            assert language.tr("{count} jobs accepted", count=3) == "3 jobs accepted"
        assert language.translated("is required") == "必填"
    assert language.translated("is required") == "is required"


@pytest.mark.parametrize(("encoding", "expected"), [("ascii", ENGLISH), ("gbk", CHINESE)])
def test_a_terminal_without_chinese_characters_is_spoken_to_in_english(
    encoding: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DINGRELAY_LANGUAGE", "zh")
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(io.BytesIO(), encoding=encoding))
    with language.spoken():
        assert language.current_language() == expected


@contextmanager
def _variables(**variables: str) -> Generator[None]:
    with pytest.MonkeyPatch.context() as patched:
        for name, value in variables.items():
            patched.setenv(name, value)
        yield


def _settings(**variables: str) -> None:
    with _variables(**variables):
        Settings.load()


def _form() -> None:
    props = {"id": "TextField-1", "label": "采购事由", "required": True}
    problem = cast("Schema", Schema.of([{"componentName": "TextField", "props": props}])).problem(
        []
    )
    raise problem or AssertionError


def _job_line(text: str) -> None:
    with _variables(DINGRELAY_ENV="sandbox"):
        send_jobs(io.BytesIO(text.encode()), first=1, defaults={})


WRONG: list[Any] = [
    *(0.5, -1, 0, 10**30, True, math.nan, "", "，", "中" * 70_000, b"\xff", "\ud800"),
    *("2026-13-01T00:00:00Z", "2026-01-01T00:00:00", "2026-01-01"),
    *([], [""], [{}], [0], ["中"] * 10_001, [["，"]], {}, {"中": 1}, {"，": {"，": 1}}),
]
"""Values that some field refuses, each for another reason."""


def below(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    """The models that are made of one."""
    for each in model.__subclasses__():
        yield each
        yield from below(each)


def test_contract_errors_are_in_chinese() -> None:
    assert [*extraction.of_gateway()]  # imports the nouns' requests
    said = {each.title for each in KINDS}
    for model, value in itertools.product(set(below(Part)), WRONG):
        for name in model.model_fields:
            try:
                model.__pydantic_validator__.validate_python({name: value}, strict=True)
            except ValidationError as refused:
                # Of ten thousand entries, all that are wrong are so for the same reasons.
                errors = refused.errors(include_url=False, include_input=False)[:20]
                said |= {contract_error([error], {name: value}, model).problem for error in errors}
    wrong = {word for text in said for word in foreign_words(language.translated(text, CHINESE))}
    assert wrong == {"everything"}  # a value of the field


@pytest.mark.parametrize("name", Settings.model_fields)
def test_errors_of_settings_are_in_chinese(name: str) -> None:
    texts = [
        "",
        "，",
        "-1",
        "9" * 20,
        "x y",
        "{",
        "[]",
        "[1]",
        '{"a.b": {"c.d": "，"}}',
        "/no",
        "90d",
    ]
    addresses = ["ftp://x", "https://[", "redis://h:99999/0", "redis://h/z", "amqp://[", "unix://"]
    wrong: list[str] = []
    for text in (*texts, *addresses, "http://例子", "rediss://h?ssl_cert_reqs=no", "https://u@h/x"):
        try:
            _settings(**{"DINGRELAY_ENV": "sandbox", f"DINGRELAY_{name.upper()}": text})
        except SettingsError as refused:
            wrong += foreign_words(language.translated(str(refused), CHINESE))
    assert wrong == []


@pytest.mark.parametrize(
    ("mistake", "chinese"),
    [
        (
            lambda: recipients.read(io.BytesIO(b"note\nx\n")),
            (
                '第 1 行：表头中没有 "userid", "job_number", "工号", "mobile", "手机号", "email", "邮箱", "name", "姓名" 中的任何一列；'
                '现有的列："note"。请指明收件人在哪一列，例如 job_number=note（--column；HTTP 中为 "column"）'
            ),
        ),
        (
            lambda: _settings(DINGRELAY_ENV="no"),
            "DINGRELAY_ENV：必须是 'sandbox', 'test' 或 'production'",
        ),
        (lambda: _settings(DINGRELAY_CONFIG="/no.toml"), "DINGRELAY_CONFIG：没有这个文件或目录"),
        (
            lambda: _settings(DINGRELAY_HISTORY="[1,\n2"),
            "DINGRELAY_HISTORY：不是合法的 JSON：第 2 行第 2 列，此处应为 ','",
        ),
        (
            lambda: _job_line('{"a'),
            "第 1 行：不是合法的 JSON：第 2 列，字符串没有结束",
        ),
        (_form, "form.采购事由：模板要求必填"),
        (
            lambda: refuse_unreachable(MessageSendResult(unknown_user=["u1"])),
            "没有可以发送的人：1 人在钉钉中没有",
        ),
        (lambda: UserSync(scope="user"), "user：scope 为 user 时必填"),
    ],
)
def test_errors_are_translated_whole(mistake: Callable[[], object], chinese: str) -> None:
    with pytest.raises((ValueError, Refused)) as raised:
        mistake()
    assert language.translated(str(raised.value), CHINESE) == chinese


@pytest.mark.parametrize(
    ("content", "chinese"),
    [
        (b'userid\n"u1\n', "不是合法的 CSV：内容不完整"),
        (b'userid\n"u1"x\n', "不是合法的 CSV：'\"' 之后应为 ','"),
        (b'{"userid": 1,,}', "不是合法的 JSON：第 14 列，此处应为双引号括起的属性名"),
    ],
)
def test_a_malformed_row_is_named_in_chinese(content: bytes, chinese: str) -> None:
    (row,) = recipients.read(io.BytesIO(content))
    assert isinstance(row, recipients.Malformed)
    assert language.translated(row.problem, CHINESE) == chinese


@pytest.mark.parametrize(
    ("text", "chinese"),
    [
        ("a = [\nb=1", "第 2 行第 1 列，值不合法"),
        ("[a]\n[a]", "第 2 行第 3 列，('a',) 定义了两次"),
        ("a = 1\na = 2", "第 2 行第 1 列，同一项赋值了两次"),
        ("x", "第 1 行第 1 列，键之后应为 '='"),
    ],
)
def test_toml_errors_are_in_chinese(text: str, chinese: str, tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    path.write_text(text, "utf-8")
    with pytest.raises(SettingsError) as refused:
        _settings(DINGRELAY_CONFIG=str(path))
    said = language.translated(str(refused.value), CHINESE)
    assert said == f"DINGRELAY_CONFIG：不是合法的 TOML：{chinese}"


def test_a_stored_error_keeps_what_it_was_made_of() -> None:
    message = en("no recipient can be reached: {}", en("{} unknown to DingTalk", 1))
    error = {"class": "refused", "code": "x", "message": message, "hint": en("set it")}
    text = json.dumps(with_parts(error))
    read = JobError.from_record(text)
    assert language.translated(read.message, CHINESE) == "没有可以发送的人：1 人在钉钉中没有"
    assert read.model_dump(exclude={"error_class"}) == {
        "code": "x",
        "message": message,
        "hint": "set it",
    }
    # Erasing a person's data may change the text alone.
    changed = JobError.from_record(text.replace("reached: 1", "reached: 2"))
    assert (
        language.translated(changed.message, CHINESE)
        == "no recipient can be reached: 2 unknown to DingTalk"
    )
    assert (
        JobError.from_record(json.dumps({**error, "made_of": {"message": [1]}})).message == message
    )


@examples(st.text(), st.one_of(st.text(), st.integers(), st.none()))
def test_a_text_column_gives_back_what_was_written(text: str, value: object) -> None:
    assert from_text(to_text(text)) == text
    sentence = en("the job is {}", value)
    assert from_text(to_text(sentence)) == sentence
    assert str(sentence).startswith("the job is ")


FOR_LOGS = {"NoTicket", "Unreadable", "_Stuck"}
"""Errors that no person is shown."""


def _exceptions(trees: Iterable[ast.Module]) -> set[str]:
    """The names of our exceptions, and of those that they are made of."""
    nodes = (node for tree in trees for node in tree.body if isinstance(node, ast.ClassDef))
    bases = {node.name: {ast.unparse(each) for each in node.bases} for node in nodes}
    found = {"Exception", "ValueError"}
    while more := {name for name, of in bases.items() if of & found} - found:
        found |= more
    return found


def test_no_error_is_raised_with_a_text_that_is_not_translated() -> None:
    paths = (
        path for each in extraction.FOLDERS[:3] for path in (extraction.ROOT / each).rglob("*.py")
    )
    trees = {
        path: ast.parse(path.read_text("utf-8"))
        for path in paths
        if not any(each in path.as_posix() for each in extraction.SILENT)
    }
    errors = _exceptions(trees.values()) - FOR_LOGS
    wrong: list[str] = []
    for path, node in ((path, node) for path, tree in trees.items() for node in ast.walk(tree)):
        if not isinstance(node, ast.Call):
            continue
        name = extraction.called(node)
        found = bool(extraction.SAYING.fullmatch(name))
        if not found and name not in errors:
            continue
        for given in (*node.args, *(each.value for each in node.keywords)):
            if isinstance(given, ast.JoinedStr if found else ast.JoinedStr | ast.Constant):
                text = ast.unparse(given)
                if re.search("[a-z]{2} [a-z]|: ", text):
                    wrong.append(f"{path}: {name}({text})")
    assert wrong == []
