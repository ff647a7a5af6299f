"""Equal messages of a batch become one job, and every job given is part of exactly one."""

from collections import Counter
from datetime import UTC, datetime
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from dingrelay_producers.client.groups import grouped
from dingrelay_tasks import ApprovalCreate, MessageSend
from dingrelay_tasks.contract import Contract
from support.jobs import message

OWN: list[dict[str, Any]] = [
    {"idempotency_key": "k"},
    {"send_at": datetime(2030, 1, 1, tzinfo=UTC)},
    {"expires_at": datetime(2030, 1, 1, tzinfo=UTC)},
    {"confirm": True},
    {"allow_duplicate": True},
    {"on_unknown": "stop"},
]


def jobs_of(jobs: list[Contract]) -> list[Contract]:
    return [group.job for group in dict.fromkeys(list(grouped(jobs)))]


user = st.integers(1, 130).map(lambda number: f"u{number}")
given_jobs = st.builds(
    lambda users, text, lane, own: message(*users, text=text, lane=lane, **own),
    st.lists(user, min_size=1, max_size=110),
    st.sampled_from("ab"),
    st.sampled_from(["urgent", "bulk"]),
    st.sampled_from([{}, {}, {}, *OWN]),
)


@given(jobs=st.lists(given_jobs, max_size=30))
def test_every_user_gets_each_message_as_often_as_asked_for(jobs: list[MessageSend]) -> None:
    def messages(of: list[Any]) -> Counter[tuple[object, ...]]:
        return Counter(
            (user, job.lane, job.message.text.content, job.idempotency_key, job.confirm)
            for job in of
            for user in job.users
        )

    groups = list(grouped(jobs))
    made = jobs_of(list(jobs))
    assert len(groups) == len(jobs)
    assert messages(made) == messages(list(jobs))
    for job, group in zip(jobs, groups, strict=True):
        assert isinstance(group.job, MessageSend)
        assert set(job.users) <= set(group.job.users)
        if len(group.job.users) > len(job.users):
            assert len(group.job.users) <= 100
            assert group.job.readdressed(job.users) == job.readdressed(job.users)


def test_a_hundred_users_are_one_job() -> None:
    (job,) = jobs_of([message(f"u{number}") for number in range(100)])
    assert isinstance(job, MessageSend)
    assert job.users == [f"u{number}" for number in range(100)]
    assert len(jobs_of([message(f"u{number}") for number in range(101)])) == 2


def test_a_user_who_is_named_again_starts_another_job() -> None:
    made = jobs_of([message("u1"), message("u2"), message("u1"), message("u3")])
    assert [job.users for job in made if isinstance(job, MessageSend)] == [
        ["u1", "u2"],
        ["u1", "u3"],
    ]


def test_messages_with_fields_of_their_own_are_not_grouped() -> None:
    approval = ApprovalCreate.parse({"process_code": "P", "originator": "u1", "form": {"a": "b"}})
    own = [message(f"u{number}", **fields) for number, fields in enumerate(OWN)]
    others = [message("v1", lane="bulk"), message("v2", app="other"), message("v3", text="另")]
    jobs: list[Contract] = [approval, approval, *own, *others, message("w1")]
    assert jobs_of(jobs) == jobs
    assert jobs_of([approval, approval]) == [approval, approval]
