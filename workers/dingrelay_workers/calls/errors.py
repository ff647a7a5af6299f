"""Reasons for which the call of a job is not made, apart from DingTalk and the limits."""

from dingrelay_tasks.sentence import en
from dingrelay_workers.dingtalk.errors import DingTalkError


class Cancelled(Exception):
    """The job was cancelled while it ran, and its next call has not left."""


class Expired(Exception):
    """The job expired while it ran, and its next call has not left."""


class BatchClosed(Exception):
    """The call leaves without this job, which looks for another one."""


class BatchSplit(Exception):
    """DingTalk refused a call for several jobs, perhaps for one of them: each goes alone now."""

    def __init__(self, refusal: DingTalkError) -> None:
        super().__init__(
            en("a call for several jobs was refused ({}): each is tried alone", refusal)
        )
