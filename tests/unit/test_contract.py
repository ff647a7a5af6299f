import sys
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dingrelay_producers.store.record import canonical_json
from dingrelay_tasks import ApiCall, ApprovalCreate, Contract, ContractError, MessageSend, UserSync
from dingrelay_tasks.contract import check_size
from support.examples import SCALARS, TEXTS, either, json_values

TEXT = {"msgtype": "text", "text": {"content": "x"}}
GOOD: dict[type[Contract], dict[str, Any]] = {
    MessageSend: {"to": {"users": ["u1", "u2"]}, "message": TEXT, "lane": "urgent"},
    ApprovalCreate: {
        "process_code": "PROC-1",
        "originator": "u1",
        "form": [{"name": "a", "value": "b"}],
        "approvers": [{"action": "AND", "users": ["u2"]}],
    },
    UserSync: {"scope": "department", "department": 5},
    ApiCall: {
        "method": "POST",
        "path": "/topapi/v2/user/get",
        "query": {"language": "zh_CN"},
        "body": {"userid": "u1"},
    },
}
CONTRACTS = st.sampled_from(list(GOOD))

ANYTHING = json_values(scalars=SCALARS | TEXTS | st.binary(max_size=4))
ANYTHING |= st.dictionaries(TEXTS, ANYTHING, max_size=4)
NAMES = st.sampled_from(sorted({name for good in GOOD.values() for name in good} | {"app"}))


def places(value: Any, path: tuple[int | str, ...] = ()) -> list[tuple[int | str, ...]]:
    """Every place in a job at which something else could stand."""
    steps: list[tuple[int | str, Any]] = []
    if isinstance(value, dict):
        steps = list(value.items())
    elif isinstance(value, list):
        steps = list(enumerate(value))
    return [path, *(place for step, part in steps for place in places(part, (*path, step)))]


def changed(value: Any, place: tuple[int | str, ...], other: Any) -> Any:
    if not place:
        return other
    copy = value.copy()
    copy[place[0]] = changed(value[place[0]], place[1:], other)
    return copy


def outcome(contract: type[Contract], job: object) -> ContractError | None:
    """The job's error. Anything but a `ContractError` fails the test."""
    try:
        parsed = contract.parse(job)
    except ContractError as refusal:
        error = refusal
    else:
        assert contract.parse(parsed.wire()) == parsed
        assert parsed.summary()
        return None
    assert error.field
    assert error.problem
    problems = (error, *error.others)
    assert str(error) == "; ".join(f"{each.field}: {each.problem}" for each in problems)
    return error


@given(CONTRACTS, ANYTHING)
def test_anything_parses_or_fails(contract: type[Contract], job: object) -> None:
    outcome(contract, job)


@given(CONTRACTS, st.dictionaries(NAMES, ANYTHING))
def test_any_values_parse_or_fail(contract: type[Contract], job: dict[str, Any]) -> None:
    outcome(contract, job)


@settings(max_examples=either(80, 2_000), suppress_health_check=[HealthCheck.too_slow])
@given(CONTRACTS, st.data())
def test_the_wrong_field_is_named(contract: type[Contract], data: st.DataObject) -> None:
    good = GOOD[contract]
    place = data.draw(st.sampled_from(places(good)))
    error = outcome(contract, changed(good, place, data.draw(ANYTHING)))
    if error and place:
        # Another scope needs another target, and it is the target that is wrong or missing then.
        named = {"user", "department"} if place == ("scope",) else set[str]()
        assert error.field.split(".")[0] in named | {place[0]}


@given(CONTRACTS, st.text(min_size=1))
def test_a_stranger_among_the_fields_is_refused(contract: type[Contract], name: str) -> None:
    if name not in contract.model_fields:
        error = outcome(contract, GOOD[contract] | {name: 1})
        assert error
        assert error.problem.startswith("there is no such field")


@pytest.mark.parametrize("job", [None, 3, "job", [], [("app", "x")], b"{}"])
def test_a_job_is_an_object(job: object) -> None:
    error = outcome(MessageSend, job)
    assert error
    assert error.field == "job"


def test_names_of_fields_are_strings() -> None:
    error = outcome(MessageSend, {0: "x"})
    assert error
    assert error.field == "0"


@pytest.mark.parametrize("name", ["self", "data", "cls", "job", "__class__"])
def test_no_field_name_is_taken_for_an_argument_of_python(name: str) -> None:
    error = outcome(MessageSend, GOOD[MessageSend] | {name: 1})
    assert error
    assert error.field == name


def test_a_job_made_in_python_fails_where_it_is_made() -> None:
    with pytest.raises(ContractError, match=r"^to\.users\.1: "):
        MessageSend(**GOOD[MessageSend] | {"to": {"users": ["u1", "u 2"]}})


def test_null_means_the_default() -> None:
    nulls = {name: None for name in MessageSend.model_fields if name not in {"to", "message"}}
    body = {"to": {"users": ["u"], "departments": None}, "message": TEXT}
    assert MessageSend.parse(nulls | body) == MessageSend.parse(body)


TO = {"users": ["u"]}
LONG = {"msgtype": "text", "text": {"content": "a" * 5_001}}
LATE = {"send_at": "2026-11-24T09:00:00+08:00", "expires_at": "2026-11-24T01:00:00Z"}
REFUSED: dict[type[Contract], list[tuple[dict[str, Any], str]]] = {
    MessageSend: [
        ({"app": "a b"}, "app"),
        ({"lane": "fast"}, "lane: must be 'urgent', 'normal' or 'bulk'"),
        ({"to": {}}, "to"),
        ({"to": []}, "to: must be an object"),
        ({"to": {"users": [], "everyone": False}}, "to"),
        ({"to": {"everyone": True, "users": ["u"]}}, "to.everyone"),
        ({"to": {"users": ["a,b"]}}, "to.users.0"),
        ({"to": {"users": [1]}}, "to.users.0: must be a text"),
        ({"to": {"users": "u1"}}, "to.users: must be a list"),
        ({"to": {"departments": ["1"]}}, "to.departments.0"),
        ({"to": {"departments": [True]}}, "to.departments.0"),
        ({"to": {"departments": [0.5]}}, "to.departments.0: must be a whole number"),
        ({"to": {**TO, "user": None}}, "to.user"),
        ({"idempotency_key": ""}, "idempotency_key: must not be empty"),
        ({"send_at": "2026-11-24T09:00:00"}, "send_at"),
        (
            {"send_at": "soon"},
            "send_at: must be a date and time such as 2026-01-31T09:00:00+08:00",
        ),
        (LATE, "expires_at"),
        ({"on_unknown": "guess"}, "on_unknown"),
        ({"confirm": "perhaps"}, "confirm: must be true or false"),
        ({"message": "hi"}, "message"),
        ({"message": {"msgtype": "oa"}}, "message.oa: is required"),
        ({"message": LONG}, "message.text.content: may have 5,000 characters at most"),
        ({"messsage": None}, "messsage: there is no such field; did you mean `message`?"),
        ({"zzz": 1}, "zzz: there is no such field"),
        ({"to": {**TO, "user": None}}, "to.user: there is no such field; did you mean `users`?"),
        (
            {"message": {"msgtype": "text", "text": {"content": "x", "contnet": "y"}}},
            "message.text.contnet: there is no such field; did you mean `content`?",
        ),
    ],
    UserSync: [({"department": None}, "department: needed for scope department")],
    ApprovalCreate: [({"cc": ["u"] * 51}, "cc: may have 50 entries at most")],
}


@pytest.mark.parametrize(
    ("kind", "fields", "error"),
    [(kind, *row) for kind, rows in REFUSED.items() for row in rows],
)
def test_errors_are_named(kind: type[Contract], fields: dict[str, Any], error: str) -> None:
    """Errors name their fields, in a sentence for the author of the job."""
    found = outcome(kind, GOOD[kind] | fields)
    assert found
    assert error in {found.field, str(found)}


def test_a_missing_field_is_named() -> None:
    assert str(outcome(MessageSend, {"message": TEXT})) == "to: is required"


@pytest.mark.parametrize("strict", [False, True])
def test_all_mistakes_are_named_a_misspelled_field_first(strict: bool) -> None:
    job = {
        "too": {"users": ["u1"]},
        "message": {"msgtype": "text", "text": {"content": ""}},
        "lane": "fast",
        "confirm": "perhaps",
    }
    with pytest.raises(ContractError) as refused:
        MessageSend.parse(job, strict=strict)
    error = refused.value
    assert (error.field, error.problem) == ("too", "there is no such field; did you mean `to`?")
    assert [each.field for each in error.others] == [
        "lane",
        "to",
        "message.text.content",
        "confirm",
    ]


def test_of_very_many_mistakes_twenty_are_named() -> None:
    job = GOOD[MessageSend] | {"to": {"users": ["a,b"] * 1_000}}
    error = outcome(MessageSend, job)
    assert error
    assert [each.field for each in error.others] == [f"to.users.{at}" for at in range(1, 20)]


def test_what_follows_from_a_mistake_is_no_other_one() -> None:
    error = outcome(ApiCall, GOOD[ApiCall] | {"path": "https://evil.example/"})
    assert error
    assert (error.field, error.others) == ("path", ())


def test_an_error_never_repeats_what_was_given() -> None:
    secret = "s3cr3t" * 1000
    for fields in ({"message": {"msgtype": secret}}, {"to": secret}, {"app": secret}):
        error = outcome(MessageSend, GOOD[MessageSend] | fields)
        assert error
        assert "s3cr3t" not in str(error)


def test_a_job_of_more_than_a_megabyte_is_refused_with_its_largest_field() -> None:
    small = {"app": "default", "form": "中" * 300_000}
    check_size(small, canonical_json(small))
    large = {"app": "default", "form": "中" * 400_000}
    with pytest.raises(ContractError) as refused:
        check_size(large, canonical_json(large))
    assert refused.value.field == "form"
    assert "1.2 MB" in refused.value.problem


def test_threads_may_use_a_contract_for_the_first_time_together() -> None:
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(8) as threads:
            for _ in range(20):
                together = Barrier(8)

                class Note(Contract):
                    text: str

                def send(number: int, note: Any = Note, together: Barrier = together) -> str:
                    together.wait(timeout=30)
                    return str(note.parse(note(text=str(number)).wire(), strict=True).text)

                assert list(threads.map(send, range(8))) == list(map(str, range(8)))
    finally:
        sys.setswitchinterval(interval)
