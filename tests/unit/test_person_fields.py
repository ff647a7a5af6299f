"""The declarations of person fields in contracts, tables and keys, which no other text replaces."""

import inspect
import re
from collections import Counter
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import JSON, Column, LargeBinary, String, Text, TypeDecorator

import dingrelay_workers
from dingrelay_producers.store import keys
from dingrelay_producers.store.status import people_of
from dingrelay_tasks.contract import Part, UserId
from dingrelay_tasks.kinds import KINDS
from dingrelay_tasks.person_fields import (
    paths_of,
    people_in,
    renamed,
    renamed_in,
    texts_of,
    undeclared_in,
)
from dingrelay_workers.database.base import Base
from dingrelay_workers.gateway.server import ROUTES
from dingrelay_workers.personal_data.service import PERSONAL_DATA

for models in Path(dingrelay_workers.__path__[0]).glob("*/models.py"):
    import_module(f"dingrelay_workers.{models.parent.name}.models")
TABLES: list[type[Base]] = sorted(
    (mapper.class_ for mapper in Base.registry.mappers), key=lambda table: table.__name__
)

ROOT = Path(__file__).parents[2]
EVENT = ["data.**"]
FIELDS = {
    "message-send": {
        "to": {"users": ["1001", "u2"], "job_numbers": ["7"]},
        "message": {"msgtype": "text", "text": {"content": "text"}},
    },
    "approval-create": {
        "originator": "1001",
        "approvers": [{"action": "OR", "users": ["u2"]}],
        "target_actioners": [{"key": "7", "users": ["u3"]}],
        "cc": ["u4"],
        "form": [{"name": "u5", "value": "u6"}],
    },
    "api-call": {
        "path": "/v1.0/orders/7/users/u%2F2",
        "query": {"userid": "1001"},
        "body": {"userid_list": "u3,u4", "text": "7", "at": {"atUserIds": ["u5"]}},
    },
    "event": {
        "event_id": "7",
        "data": {"userId": [1001, "u2"], "staffId": "u3", "title": "u9", "unionId": "u8"},
    },
    "robot-message": {
        "to": {"users": ["1001", "u2"]},
        "message": {"text": {"content": "7"}, "at": {"atUserIds": ["u3"], "atMobiles": ["7"]}},
    },
}
PEOPLE = {
    "message-send": {"1001", "u2"},
    "approval-create": {"1001", "u2", "u3", "u4"},
    "api-call": {"1001", "u/2", "u3", "u4", "u5"},
    "event": {"1001", "u2", "u3"},
    "robot-message": {"1001", "u2", "u3"},
}


@pytest.mark.parametrize("kind", FIELDS)
def test_a_contract_names_people_in_its_fields_only(kind: str) -> None:
    assert KINDS[kind].people(FIELDS[kind], {}, {}) == PEOPLE[kind]


@pytest.mark.parametrize("job", [{}, [], None, "text", {"to": 7}, {"to": {"users": None}}])
def test_a_malformed_job_names_nobody(job: Any) -> None:
    for kind in KINDS.values():
        assert kind.people(job, {}, {}) == set()


def test_people_of_results_and_steps_are_named() -> None:
    message = KINDS["message-send"]
    result = {"duplicate": ["a"], "unresolved": [{"job_number": "7", "users": ["b"]}]}
    result |= {"forbidden": [{"userid": "c", "code": "7"}], "calls": [{"request_id": "d"}]}
    assert message.people({}, result, {}) == {"a", "b", "c"}
    steps: dict[str, Any] = {"leader:a:b": {}, "departments": {"leaders": ["c"], "there": [7]}}
    assert KINDS["event"].people({}, {}, steps) == {"a:b", "c"}


@pytest.mark.parametrize(
    ("document", "paths", "left"),
    [
        ({"a": "u1", "b": "u1"}, ["a"], {"a": "x", "b": "u1"}),
        ({"a": ["u1", "u10", "u1,u2"]}, ["a"], {"a": ["x", "u10", "x,u2"]}),
        ({"u1": {"users": ["u1"]}}, ["*.users"], {"u1": {"users": ["x"]}}),
        ({"data": {"u1": {"userId": "u1"}, "id": "u1"}}, EVENT, None),
        ("u1", ["a"], "u1"),
        (None, ["a"], None),
    ],
)
def test_a_userid_is_replaced_in_its_fields_only(document: Any, paths: Any, left: Any) -> None:
    expected = {"data": {"u1": {"userId": "x"}, "id": "u1"}} if paths == EVENT else left
    assert renamed_in(document, paths, "u1", "x") == expected
    assert people_in(expected, paths).isdisjoint({"u1"})


def test_numbers_of_others_stay_numbers() -> None:
    assert renamed([1001, 1002, True], "1001", "x") == ["x", 1002, True]


def test_answers_declare_the_people_in_them() -> None:
    """An answer is kept for repeated requests, with the people in it."""
    names = {"user", "userid", "originator", "owner", "writers", "absent", "by"}
    names |= {"created_by", "updated_by", "asked_by", "decided_by"}
    routes = [route for route in ROUTES if route.idempotent]
    for model in (answer.model for route in routes for answer in route.answers.values()):
        if isinstance(model, type):
            declared = {step for path in paths_of(model) for step in path.split(".")}
            assert names.intersection(texts_of(model)) <= declared, model


def test_a_job_as_json_names_its_people() -> None:
    resolved = {"happened": True, "by": "u3", "at": "2026-01-01T00:00:00Z"}
    job = {"kind": "message-send", "result": {"invalid": ["u1"]}, "sender": "u2", "id": "u4"}
    assert people_of({**job, "resolved": resolved}) == {"u1", "u3"}
    assert people_of({**job, "kind": "another release's"}) == set()


class Undeclared(Part):
    """People without the type that says so."""

    owner: UserId
    user_id: str
    cc: list[str]
    number: str


def test_a_field_that_is_called_as_people_must_be_declared() -> None:
    """A kind with one is refused (`kind_checks`)."""
    assert list(undeclared_in(Undeclared)) == ["user_id", "cc"]


def test_each_table_has_a_model() -> None:
    assert set(Base.metadata.tables) == {table.__tablename__ for table in TABLES}


@pytest.mark.parametrize("table", TABLES)
def test_a_table_declares_its_people(table: type[Base]) -> None:
    """A new column with a text, JSON or bytes is named in `__people__` of its table."""
    declared = table.__dict__["__people__"].declared
    holding = [column.key for column in table.__table__.columns if _holds_text(column)]
    assert sorted(declared) == sorted(holding)


def _holds_text(column: Column[Any]) -> bool:
    kind = column.type
    inner = kind.impl if isinstance(kind, TypeDecorator) else kind
    return isinstance(inner, String | Text | JSON | LargeBinary)


def test_a_key_declares_its_people() -> None:
    """A new key of Redis is named in `keys.PEOPLE` or in `keys.IMPERSONAL`."""
    constants = {name for name, value in vars(keys).items() if _is_key(value)}
    functions = {
        name
        for name, value in vars(keys).items()
        if inspect.isfunction(value) and value.__module__ == keys.__name__
    }
    declared = [*keys.PEOPLE, *keys.IMPERSONAL]
    assert sorted(declared) == sorted((constants | functions) - {"PREFIX"})


def _is_key(value: object) -> bool:
    return isinstance(value, str) and value.startswith(keys.PREFIX)


def test_a_noun_has_each_table_and_key_with_people() -> None:
    tables = Counter(table for noun in PERSONAL_DATA for table in noun.tables)
    assert tables == Counter(table for table in TABLES if table.__people__.holds_people)
    gone_by_themselves = {"upload", "REFUSED"}
    held = Counter(key for noun in PERSONAL_DATA for key in noun.keys)
    assert held == Counter(set(keys.PEOPLE) - gone_by_themselves)
    places = [noun.place for noun in PERSONAL_DATA]
    assert len(set(places)) == len(places)


def test_the_guide_lists_what_is_declared() -> None:
    """Each table and key with people is in the table of both languages, with the time for which it is kept."""
    english, chinese = _listed("docs/guide"), _listed("docs/guide/zh-CN")
    declared = {
        **{table.__tablename__: table.__people__.kept for table in TABLES if _has_people(table)},
        **{_in_redis(key): about.kept for key, about in keys.PEOPLE.items()},
    }
    assert set(english) == set(chinese) == set(declared)
    for name, kept in declared.items():
        assert kept in english[name], name
        assert re.findall(r"\d+", english[name]) == re.findall(r"\d+", chinese[name]), name


def _has_people(table: type[Base]) -> bool:
    return table.__people__.holds_people


def _in_redis(key: str) -> str:
    """How a key's name begins in Redis."""
    made = getattr(keys, key)
    if not isinstance(made, str):
        made = made(*["x"] * len(inspect.signature(made).parameters))
    return str(made).split(":")[1]


def _listed(folder: str) -> dict[str, str]:
    """Table or key → for how long the guide says that it is kept."""
    page = (ROOT / folder / "personal-data.md").read_text("utf-8")
    table = page.split("\n## ")[1]
    kept: dict[str, str] = {}
    for line in table.splitlines():
        if re.search(r"\| (?:SQL|Redis)", line):
            _, _, where, time, _ = line.split("|")
            for name in re.findall(r"`([a-z_-]+)`", where):
                kept[name] = f"{kept.get(name, '')} {time}"
    return kept
