"""Scenes: operations and faults that matter only where they meet, which chance alone lets them do too seldom."""

import random
from collections.abc import Callable
from typing import Any, Protocol

from dingrelay_simulation.draws import USERS

ASYNCSEND = "/topapi/message/corpconversation/asyncsend_v2"
INSTANCES = "/v1.0/workflow/processInstances"
DONE_UNSEEN = ("lost_answer", "reset_after", "truncated")
"""Faults after which a call was carried out, and its worker can't know."""


class Stage(Protocol):
    """Place of a scene's operations and faults; their times are seconds after its beginning."""

    @property
    def rng(self) -> random.Random:
        """Draws what the seed decides."""
        ...

    def operation(self, after: float, name: str, **values: Any) -> int:
        """Add an operation with some of its values; its number."""
        ...

    def fault(self, after: float, name: str, **values: Any) -> None:
        """Add a fault with some of its values."""
        ...


def _strike(stage: Stage, name: str, api: str, seconds: float, **values: Any) -> None:
    """Strike all calls of an API for a while."""
    stage.fault(0.0, name, **values, api=api, seconds=seconds, share=1.0, count=None)


def _lose_answers(stage: Stage, api: str, seconds: float) -> None:
    _strike(stage, "lost_answer", api, seconds, kind=stage.rng.choice(DONE_UNSEEN))


def cancel_in_doubt(stage: Stage) -> None:
    """Jobs are cancelled whose calls were carried out, and have no answer."""
    rng = stage.rng
    seconds = round(rng.uniform(4, 12), 1)
    _lose_answers(stage, ASYNCSEND, seconds)
    for name in ("send", "call", rng.choice(("send", "stop_on_unknown", "confirm"))):
        target = stage.operation(rng.uniform(0, 0.5), name)
        stage.operation(rng.uniform(0.6, seconds), "cancel", target=target)


def expire_in_doubt(stage: Stage) -> None:
    """The time of messages ends that were sent, and have no answer."""
    rng = stage.rng
    _lose_answers(stage, ASYNCSEND, round(rng.uniform(8, 14), 1))
    for _ in range(3):
        expires_in = round(rng.uniform(1.5, 8), 2)
        stage.operation(rng.uniform(0, 1), "times", send_in=None, expires_in=expires_in)


def equal_approvals_in_doubt(stage: Stage) -> None:
    """Equal approvals are created at once, and it is not known of any."""
    rng = stage.rng
    kind, count = rng.choice((*DONE_UNSEEN, "error", "html")), rng.choice((1, 2, 2, 3))
    name = "lost_answer" if kind in DONE_UNSEEN else "sick"
    values: dict[str, Any] = {} if kind in DONE_UNSEEN else {"effect": True}
    if kind == "error":
        values["code"] = "-1"
    stage.fault(
        0.0, name, kind=kind, api=INSTANCES, count=count, seconds=None, share=None, **values
    )
    first = stage.operation(0.1, "approval")
    for _ in range(rng.choice((1, 1, 2))):
        stage.operation(rng.uniform(0.1, 1.0), "approval", form=first)


def share_and_recall(stage: Stage) -> None:
    """Equal messages wait for a call that they share, and some of them are taken back."""
    rng = stage.rng
    for _ in range(4):
        stage.operation(rng.uniform(0, 0.05), "send", lane="normal")
    tag = f"equal{rng.randint(1, 2)}"
    equal = [stage.operation(rng.uniform(0, 0.3), "equal", tag=tag) for _ in range(5)]
    for target in rng.sample(equal, 2):
        stage.operation(rng.uniform(3, 15), "recall", target=target)


def end_at_calls(stage: Stage) -> None:
    """Each worker ends as it makes a call, or as it is answered."""
    rng = stage.rng
    for worker in range(3):
        when, count = rng.choice(("after", "after", "answer")), rng.choice((1, 2, 3))
        values = {"worker": worker, "to": "dingtalk", "when": when, "count": count}
        stage.fault(0.0, "kill_at", **values, seconds=round(rng.uniform(0.5, 6), 1))
    for name in ("call", "call", "stop_on_unknown", "approval", "bare"):
        stage.operation(rng.uniform(0, 2), name)


def outlast_leases(stage: Stage) -> None:
    """DingTalk takes longer for calls than the shortest lease lasts, and answers."""
    rng = stage.rng
    values = {"kind": "latency", "min_ms": 9_000, "max_ms": 13_000, "effect": rng.random() < 0.7}
    _strike(stage, "slow", rng.choice((ASYNCSEND, ASYNCSEND, INSTANCES)), 6.0, **values)
    for name in ("send", "stop_on_unknown", "approval", "call"):
        stage.operation(rng.uniform(0, 3), name)


def requeue_before_its_time(stage: Stage) -> None:
    """A message is called off, and wanted again, both before its time."""
    rng = stage.rng
    send_in = round(rng.uniform(10, 20), 2)
    target = stage.operation(0.0, "times", send_in=send_in, expires_in=None)
    stage.operation(rng.uniform(1, 3), "cancel", target=target)
    stage.operation(rng.uniform(3.2, 7), "requeue", target=target)


def wake_campaign_twice(stage: Stage) -> None:
    """A campaign is stopped and goes on, while what it has released is still on its way."""
    rng = stage.rng
    target = stage.operation(0.0, "campaign", rate=None)
    for _ in range(rng.choice((1, 2, 3))):
        paused = rng.uniform(0.1, 4)
        stage.operation(paused, "campaign_command", target=target, verb="pause")
        stage.operation(
            paused + rng.uniform(0.05, 1), "campaign_command", target=target, verb="resume"
        )
    if rng.random() < 0.4:
        stage.operation(rng.uniform(0.2, 5), "campaign_command", target=target, verb="cancel")


def end_of_who_tells(stage: Stage) -> None:
    """Workers end while the application takes its time for the notices that they bring."""
    rng = stage.rng
    stage.operation(0.0, "webhook", types=("*",))
    stage.fault(0.5, "application", manner="slow", seconds=8.0)
    for _ in range(3):
        stage.operation(rng.uniform(0.5, 4), "send")
    for worker in range(3):
        stage.fault(rng.uniform(2, 8), "kill", worker=worker, back=round(rng.uniform(0.5, 4), 1))


def pass_midnight_in_doubt(stage: Stage) -> None:
    """Messages are sent around midnight, equal ones on either side, and some have no answer."""
    rng = stage.rng
    if rng.random() < 0.7:
        _lose_answers(stage, ASYNCSEND, 6.0)
    for _ in range(3):
        stage.operation(rng.uniform(0, 3), "send")
    users = ["u1", "u2"]
    for _ in range(5):
        stage.operation(rng.uniform(0, 12), "equal", tag="equal1", users=users)


def stop_campaign_without_leader(stage: Stage) -> None:
    """A campaign is stopped while the worker that would withdraw its calls may stand still, and these wait for their slots."""
    rng = stage.rng
    people = list(USERS)
    target = stage.operation(0.0, "campaign", rate=None, fields=True, users=people)
    stage.operation(0.1, "send_many", lane="urgent", count=4)
    stopped = rng.uniform(0.5, 3)
    for worker in rng.sample(range(3), 2):
        stage.fault(stopped - 0.02, "freeze", worker=worker, seconds=round(rng.uniform(12, 20), 1))
    verb = rng.choice(("pause", "pause", "cancel"))
    stage.operation(stopped, "campaign_command", target=target, verb=verb)
    resumed = stopped + rng.uniform(20, 24)
    stage.operation(resumed, "campaign_command", target=target, verb="resume")


def share_and_end(stage: Stage) -> None:
    """Workers end as they make a call that equal messages share, which no message of the broker brings back."""
    rng = stage.rng
    stage.operation(0.0, "send_many", lane="normal", count=12)
    tag = f"equal{rng.randint(1, 2)}"
    equal = [stage.operation(rng.uniform(0, 0.4), "equal", tag=tag) for _ in range(5)]
    if rng.random() < 0.5:
        for worker in range(3):
            values = {"worker": worker, "to": "dingtalk", "when": rng.choice(("after", "answer"))}
            back = round(rng.uniform(0.5, 6), 1)
            stage.fault(0.2, "kill_at", **values, count=rng.choice((2, 3, 5)), seconds=back)
    for target in rng.sample(equal, 2):
        stage.operation(rng.uniform(3, 15), "recall", target=target)


def move_under_a_sync(stage: Stage) -> None:
    """People move to and fro while a sync reads one department after the other, so that it meets some in none that another one met."""
    rng, second = stage.rng, stage.rng.uniform(8, 12)
    for at in (0.0, second):
        stage.operation(at, "sync", scope="everything")
    for _ in range(60):
        stage.operation(second + rng.uniform(0, 3), "organisation", verb="move")


def pause_a_lane(stage: Stage) -> None:
    """A lane is paused while its jobs come, run and are repeated; it goes on by itself, or as an operator says so."""
    rng = stage.rng
    lane, seconds = rng.choice(("normal", "bulk", "all")), round(rng.uniform(4, 25), 1)
    jobs = "normal" if lane == "all" else lane
    if rng.random() < 0.5:
        _lose_answers(stage, ASYNCSEND, 3.0)
    for name in ("send", "send_many", "allow_duplicate"):
        stage.operation(rng.uniform(0, 1.5), name, lane=jobs)
    stage.operation(1.0, "pause_lane", lane=lane, seconds=seconds)
    for name in ("send", "send_many", "times", "bare", "stop_on_unknown"):
        stage.operation(rng.uniform(1, seconds), name, lane=jobs)
    if rng.random() < 0.5:
        stage.operation(rng.uniform(3, seconds + 1), "resume_lane", lane=lane)


def cancel_beside_an_equal(stage: Stage) -> None:
    """A message whose calls DingTalk refuses for now is cancelled before its next attempt, and an equal one has come in between."""
    rng = stage.rng
    _strike(stage, "sick", ASYNCSEND, 5.0, kind="error", effect=False)
    equal: dict[str, Any] = {"tag": "beside", "users": ["u1", "u2"]}
    target = stage.operation(0.2, "equal", **equal)
    stage.operation(rng.uniform(1.3, 2.5), "equal", **equal)
    stage.operation(rng.uniform(2.6, 5), "cancel", target=target)


def _put_off(stage: Stage, api: str, seconds: float) -> None:
    """Calls are refused for a while, and nothing of them is done."""
    name, kind = stage.rng.choice((("throttle", "throttle"), ("sick", "error")))
    _strike(stage, name, api, seconds, kind=kind, effect=None)


def stop_campaign_that_is_put_off(stage: Stage) -> None:
    """A campaign is stopped whose calls wait for their next attempt, while the worker that would withdraw them may stand still."""
    rng = stage.rng
    target = stage.operation(0.0, "campaign", rate=None, fields=True, users=list(USERS))
    stopped = rng.uniform(1.5, 3)
    _put_off(stage, ASYNCSEND, stopped)
    for worker in rng.sample(range(3), 2):
        stage.fault(stopped - 0.02, "freeze", worker=worker, seconds=round(rng.uniform(12, 20), 1))
    stage.operation(stopped, "campaign_command", target=target, verb="pause")
    resumed = stopped + rng.uniform(20, 24)
    stage.operation(resumed, "campaign_command", target=target, verb="resume")


def pause_behind_a_look_up(stage: Stage) -> None:
    """A lane is paused in which approvals have looked something up, and wait for the next attempt of their call."""
    rng = stage.rng
    _put_off(stage, INSTANCES, 2.0)
    for _ in range(2):
        stage.operation(rng.uniform(0, 0.5), "approval")
    seconds = round(rng.uniform(6, 15), 1)
    stage.operation(rng.uniform(1, 2), "pause_lane", lane="normal", seconds=seconds)


def refuse_unreadably(stage: Stage) -> None:
    """DingTalk refuses calls for a while with a code that can't be read."""
    rng = stage.rng
    body = {"code": ["Throttling"], "message": 1}
    _strike(stage, "throttle", INSTANCES, 2.0, kind="throttle", body=body)
    for _ in range(2):
        stage.operation(rng.uniform(0, 1.5), "approval")


SCRIPTS = (
    *("acquire", "claim", "claim_batch", "claim_late", "heartbeat", "lead", "release"),
    *("reserve_daily", "share_clock", "write_intent", "count_month", "park", "penalize"),
    *("settle", "restore_end", "reschedule", "schedule", "enqueue", "wake", "wake_parked"),
    *("take_messages", "keep_taken", "close_taken", "finish_message", "tally"),
    *("take_token", "put_token", "join_digest", "close_digest", "finish_digest", "claim_approval"),
)
"""Scripts that workers run."""


def _forget(stage: Stage, script: str, count: int = 1) -> None:
    """Redis forgets that a script has run, and what came soon after it."""
    lost = round(10 ** stage.rng.uniform(-2.5, -0.5), 3)
    seconds = round(stage.rng.uniform(0.05, 1), 2)
    values = {"script": script, "count": count, "when": "before", "what": "forget", "lost": lost}
    stage.fault(0.0, "at_script", **values, seconds=seconds)


def _hold(stage: Stage, script: str, seconds: float) -> None:
    """The worker that runs a script stands still when it has the answer."""
    values = {"script": script, "count": 1, "when": "answer", "what": "freeze"}
    stage.fault(0.0, "at_script", **values, seconds=round(seconds, 1))


def strike_at_scripts(stage: Stage) -> None:
    """Redis forgets a script that has just run, and at another one a worker ends or stands still."""
    rng = stage.rng
    for _ in range(2):
        _forget(stage, rng.choice(SCRIPTS), rng.choice((1, 1, 2, 3, 5, 8)))
    values: dict[str, Any] = {
        "script": rng.choice(SCRIPTS),
        "when": rng.choice(("after", "answer")),
    }
    values |= {"count": rng.choice((1, 2, 3)), "what": rng.choice(("kill", "freeze"))}
    stage.fault(0.0, "at_script", **values, seconds=round(rng.uniform(0.3, 12), 1))
    for name in ("send", "equal", "approval", "robot", "call"):
        stage.operation(rng.uniform(0, 3), name)


def forget_whose_approval(stage: Stage) -> None:
    """Redis forgets that an approval is a job's, whose worker stands still, and an equal one looks for its own that was never made."""
    rng = stage.rng
    _strike(stage, "lost_answer", INSTANCES, 0.8, kind="reset_before")
    first = stage.operation(0.1, "approval")
    stage.operation(rng.uniform(6.5, 9), "approval", form=first)
    _forget(stage, "claim_approval")
    _hold(stage, "claim_approval", rng.uniform(5, 7.5))


def forget_a_reservation(stage: Stage) -> None:
    """Redis forgets what a message has reserved, whose worker stands still, and an equal one comes."""
    rng = stage.rng
    equal: dict[str, Any] = {"tag": "reserved", "users": ["u1", "u2"]}
    _forget(stage, "reserve_daily")
    _hold(stage, "reserve_daily", rng.uniform(1, 5))
    stage.operation(0.01, "equal", **equal)
    for _ in range(2):
        stage.operation(rng.uniform(0.5, 3), "equal", **equal)


def cancel_digests(stage: Stage) -> None:
    """An operator cancels the jobs that are to post what waits in digests."""
    rng = stage.rng
    for _ in range(rng.choice((2, 4))):
        stage.operation(rng.uniform(0, 4), "robot", digest="3s")
    for _ in range(2):
        stage.operation(rng.uniform(0.5, 5), "cancel_digests")


def cut_off_in_calls(stage: Stage) -> None:
    """Workers are cut off from DingTalk as calls leave on open connections, for longer than the answers are waited for."""
    rng = stage.rng
    for name in ("send", "send", "call", "call"):
        stage.operation(rng.uniform(0, 1), name, **({"lane": "urgent"} if name == "send" else {}))
    for worker in range(3):
        values = {"worker": worker, "to": "dingtalk", "seconds": round(rng.uniform(16, 24), 1)}
        stage.fault(2.5, "cut", **values)
    for _ in range(4):
        expires_in = round(rng.uniform(3, 14), 2)
        values = {"send_in": None, "expires_in": expires_in, "lane": "urgent"}
        stage.operation(rng.uniform(2.5, 3), "times", **values)
    for name in ("stop_on_unknown", "approval", "call"):
        target = stage.operation(rng.uniform(2.5, 3.5), name)
        if rng.random() < 0.5:
            stage.operation(rng.uniform(4, 14), "cancel", target=target)


SCENES: tuple[Callable[[Stage], None], ...] = (
    cancel_in_doubt,
    expire_in_doubt,
    equal_approvals_in_doubt,
    equal_approvals_in_doubt,
    share_and_recall,
    end_at_calls,
    outlast_leases,
    requeue_before_its_time,
    wake_campaign_twice,
    end_of_who_tells,
)
"""Scenes of any time; `pass_midnight_in_doubt` has one of its own."""
MORE_SCENES: tuple[Callable[[Stage], None], ...] = (
    stop_campaign_without_leader,
    share_and_end,
    move_under_a_sync,
)
"""Scenes of any time that a third of the runs has beside those."""
SCENES_OF_ERRORS: tuple[Callable[[Stage], None], ...] = (
    cancel_beside_an_equal,
    stop_campaign_that_is_put_off,
    pause_behind_a_look_up,
    refuse_unreadably,
)
"""Scenes of any time that two of five runs have beside those: jobs are stopped that wait for their next attempt."""
SCENES_OF_LOSSES: tuple[Callable[[Stage], None], ...] = (
    strike_at_scripts,
    strike_at_scripts,
    forget_whose_approval,
    forget_a_reservation,
    cancel_digests,
    cut_off_in_calls,
)
"""Scenes of any time that two of five runs have beside those: what is known of a job is lost at one of its exchanges."""
BEFORE_MIDNIGHT = 6.0
"""Seconds before midnight at which that one begins."""
