"""The drop-in door's parsing of calls and of the ends of jobs, without making any."""

from typing import Any

import pytest

from dingrelay_producers.store.status import JobStatus
from dingrelay_workers.gateway.drop_in import answers
from dingrelay_workers.gateway.drop_in.answers import DoorAnswer, Refusal
from dingrelay_workers.gateway.drop_in.incoming import Incoming, passage_of
from dingrelay_workers.gateway.drop_in.job_call import refusal_of, verbatim
from dingrelay_workers.gateway.drop_in.messages import Task, message_send, reaches_nobody


def ended(state: str, **error: Any) -> JobStatus:
    failure = {"class": "permanent", "code": "1", "message": "m", **error} if error else None
    return JobStatus.model_validate(
        {
            "id": "j",
            "kind": "approval-create",
            "app": "default",
            "lane": "normal",
            "state": state,
            "created_at": "2026-11-25T00:00:00Z",
            "error": failure,
        }
    )


@pytest.mark.parametrize(
    ("status", "old", "new"),
    [
        (ended("unknown", code="x"), 15, (504, "service.timeout")),
        (ended("cancelled"), 400002, (400, "invalidParameter")),
        (ended("dead", **{"class": "outage"}, code="-1"), -1, (503, "serviceBusy")),
        (
            ended("dead", **{"class": "contract"}, code="form.事由"),
            810003,
            (400, "formConverterError"),
        ),
        (ended("dead", **{"class": "contract"}, code="cc"), 400002, (400, "invalidParameter")),
        (ended("dead", code="answer_too_large"), 400002, (400, "invalidParameter")),
        (ended("dead", code="processCodeError"), 820001, (400, "processCodeError")),
        (ended("dead", code="820001"), 820001, (400, "processCodeError")),
        (ended("dead", code="33012", **{"class": "not_found"}), 33012, (400, "invalidParameter")),
        (ended("dead", code="needAuth", **{"class": "permission"}), 88, (403, "needAuth")),
        (
            ended("dead", code="quota", **{"class": "quota"}),
            90020,
            (403, "Forbidden.AccessDenied.ApiCountLimitForOrg"),
        ),
    ],
)
def test_ends_in_both_dialects(status: JobStatus, old: int, new: tuple[int, str]) -> None:
    answer = answers.refused(refusal_of(status), "/department/list")
    assert (answer.status, answer.content["errcode"]) == (200, old)
    answer = answers.refused(refusal_of(status), "/v1.0/x")
    assert (answer.status, answer.content["code"]) == new


def test_unreachable_people_are_reported_as_by_dingtalk() -> None:
    """The answer is a task all the same; only its result names them."""
    result = {"unknown_user": ["u1"], "out_of_scope": ["u2"]}
    status = ended("dead", code="nobody_reachable", **{"class": "refused"})
    assert reaches_nobody(status)
    assert not reaches_nobody(ended("dead", code="nobody_found"))
    caller: Any = None
    left_out = status.model_copy(update={"result": result})
    task = Task(caller, incoming(), "task_id", frozenset({"u1", "u2"}), [], left_out)
    assert (task.invalid, task.left_out) == (["u1", "u2"], [])


def test_dingtalks_own_words_go_first() -> None:
    body = {"code": "x.y", "message": "words", "requestid": "R", "more": [1]}
    status = ended("dead", answer={"status": 409, "body": body})
    assert verbatim(status, "/v1.0/x") == DoorAnswer(body, 409)


@pytest.mark.parametrize("words", [answers.CREDENTIALS, answers.NO_API])
def test_what_dingtalk_refuses_without_a_request_id(words: answers.RefusalTexts) -> None:
    """API §1, P1; API §5.2, P12."""
    assert set(answers.refused(words, "/gettoken").content) == {"errcode", "errmsg"}
    assert "requestid" in answers.refused(words, "/v1.0/x").content


def incoming(**fields: Any) -> Incoming:
    return Incoming("POST", "/router/rest", {}, fields, "")


def test_the_oldest_way_is_the_newer_one_in_an_envelope() -> None:
    way = passage_of(
        incoming(
            method="dingtalk.oapi.v2.user.get", session="t", v="2.0", format="json", userid="u"
        )
    )
    assert (way.call.path, way.call.token, way.call.body) == (
        "/topapi/v2/user/get",
        "t",
        {"userid": "u"},
    )
    assert way.envelope(DoorAnswer({"errcode": 0, "result": {}})).content == {
        "dingtalk_oapi_v2_user_get_response": {"errcode": 0, "result": {}}
    }
    refused = answers.refused(answers.TOKEN_INVALID, way.call.path)
    assert way.envelope(refused).content["error_response"]["sub_code"] == "40014"


@pytest.mark.parametrize("method", [None, 3, "", "../../etc", "a b", "x/../y"])
def test_a_method_that_is_none(method: object) -> None:
    with pytest.raises(Refusal):
        passage_of(incoming(method=method))


def test_fields_that_dingtalk_accepts_are_accepted() -> None:
    oa = {
        "message_url": "https://x.example",
        "head": {"bgcolor": "FFBBBBBB", "text": "h", "icon": "?"},
        "body": {"form": [{"key": "天数", "value": 3}], "rich": {"num": 15.6}},
    }
    given = {"msgtype": "oa", "oa": oa, "at": {"isAtAll": True}}
    job = message_send({"users": ["u1"]}, given)
    content = job.wire()["message"]["oa"]
    assert content["head"] == {"bgcolor": "FFBBBBBB", "text": "h"}
    assert content["body"] == {"form": [{"key": "天数", "value": "3"}], "rich": {"num": "15.6"}}
    assert given["at"] == {"isAtAll": True}, "what was given stays as it was"


MANY = {f"x{number}": number for number in range(100)}


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("x", 40035),
        ({"msgtype": "fax"}, 40008),
        ({"msgtype": "text"}, 40035),
        ({"msgtype": "text", "text": {"content": True}}, 40035),
        ({"msgtype": "text", "text": {"content": "x" * 5_001}}, 34016),
        ({"msgtype": "text", "text": {"content": "x", **MANY}}, 400002),
    ],
)
def test_the_rest_is_refused_in_dingtalks_codes(message: Any, code: int) -> None:
    with pytest.raises(Refusal) as refused:
        message_send({"users": ["u1"]}, message)
    assert refused.value.words.errcode == code
