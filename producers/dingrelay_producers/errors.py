"""Errors that the client raises.

* DingrelayError
  x ServiceUnavailable     Redis cannot be reached; nothing was accepted
  x InvalidArgument        an argument is of a wrong type or value; it is named
  x ObjectNotFound         nothing has this id: `JobNotFound`, `CampaignNotFound`, ...
  x Conflict               the present state does not allow what was asked: `CampaignConflict`, ...
    + IdempotencyConflict  the key was used for another job
    + JobConflict          the job is in another state
  x QueueFull              too many jobs wait, and a gateway takes no more
  x NotPermitted           the actor may not do that; the field is named
  x UnreadableRecord       a field of the record is not what this release writes; it is named
  x UploadFailed           DingTalk did not take a file
  x CannotResolve          what was said of an unknown job can't be so
  x WaitTimeout            the job has not ended in the given time
  x NotInstalled           an extra of the package is needed for this

A job that is not what its contract says raises `dingrelay_tasks.ContractError`, a wrong setting
`dingrelay_producers.settings.SettingsError`.
"""

from typing import TYPE_CHECKING, ClassVar

from dingrelay_tasks.sentence import Sentence, en

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime


class DingrelayError(Exception):
    """Base of all."""


class ServiceUnavailable(DingrelayError):
    """Redis cannot be reached. The job was not accepted, unless the answer alone was lost."""


class InvalidArgument(DingrelayError, ValueError):
    """An argument is of a wrong type, or has a value that means nothing.

    Args:
        name: of the argument.
        wanted: what it must be.
        given: what it is.
    """

    def __init__(self, name: str, wanted: str, given: object) -> None:
        super().__init__(en("{}: must be {}, not {!r:.60}", name, wanted, given))
        self.name = name


class ObjectNotFound(DingrelayError):
    """Nothing has this id.

    Attributes:
        problem: with the id in its place.
        withheld: without it, for a caller who may not even see it.
        id: that nothing has.
    """

    problem: ClassVar[Sentence]
    withheld: ClassVar[Sentence]

    def __init__(self, id_: str) -> None:
        super().__init__(Sentence(self.problem, id_))
        self.id = id_


class Conflict(DingrelayError):
    """The present state of something does not allow what was asked of it."""


class IdempotencyConflict(Conflict):
    """The idempotency key belongs to a job with another payload.

    Attributes:
        job_id: the id of the job that has the key.
        place: number of the refused job among those given to `Client.send_many`, from 0 on; elsewhere None.
    """

    place: int | None = None

    def __init__(self, job_id: str) -> None:
        super().__init__(
            en(
                "idempotency_key: already used by job {} with another payload; use another "
                "key, or send the same payload again",
                job_id,
            )
        )
        self.job_id = job_id


class JobNotFound(ObjectNotFound):
    """There is no record of this job: a wrong id, or its record has expired."""

    problem = en("no job {}: a wrong id, or its record has expired")
    withheld = en("no such job: a wrong id, or its record has expired")

    @property
    def job_id(self) -> str:
        """The job's id."""
        return self.id


class JobConflict(Conflict):
    """The job is in a state in which it can't be changed so.

    Args:
        job_id: its id.
        change: the verb, such as `cancel`.
        state: its state.
    """

    _PROBLEMS: ClassVar["Mapping[str, Sentence]"] = {
        "cancel": en("the job has ended: it is {}"),
        "postpone": en("the job is {}, and does not wait"),
        "requeue": en("the job is {}; a dead, unknown, cancelled or expired one can be"),
        "discard": en("the job is {}; a dead or unknown one can be discarded"),
        "resolve": en("the job is {}, and not unknown"),
    }

    def __init__(self, job_id: str, change: str, state: str) -> None:
        super().__init__(Sentence(self._PROBLEMS[change], state))
        self.job_id = job_id
        self.state = state


class QueueFull(DingrelayError):
    """Too many jobs wait in a queue for a gateway to take another one.

    Args:
        queue: its name.
        limit: how many may wait.
    """

    def __init__(self, queue: str, limit: int) -> None:
        super().__init__(en("{:,} jobs wait in {} already", limit, queue))


class NotPermitted(DingrelayError):
    """The actor may not do this.

    Args:
        field: of the request, or of what it is about, such as ``lane``; "" for none.
        problem: what is missing.
    """

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(problem)
        self.field = field


class UnreadableRecord(DingrelayError):
    """A field of a job's record is not what this release writes there.

    A newer release may have written it, or something that is not dingrelay.

    Attributes:
        job_id: the job's id.
        field: of its record, such as ``state``.
    """

    def __init__(self, job_id: str, field: str, problem: str) -> None:
        super().__init__(
            en(
                "job {}: {} in its record {}; was it written by a newer release?",
                job_id,
                field,
                problem,
            )
        )
        self.job_id = job_id
        self.field = field


class CannotResolve(DingrelayError):
    """An unknown job can't be resolved like that; nothing was changed.

    Attributes:
        job_id: the job's id.
        problem: what is wrong with it.
    """

    def __init__(self, job_id: str, problem: str) -> None:
        super().__init__(en("job {} {}", job_id, problem))
        self.job_id = job_id
        self.problem = problem


class UploadFailed(DingrelayError):
    """DingTalk did not take a file.

    Attributes:
        job_id: the id of the job that was to upload it.
        problem: how that ended, and why.
    """

    def __init__(self, job_id: str, problem: str) -> None:
        super().__init__(en("the file was not uploaded: job {} is {}", job_id, problem))
        self.job_id = job_id
        self.problem = problem


class WaitTimeout(DingrelayError, TimeoutError):
    """The job has not ended in the given time; it goes on all the same."""


class ApprovalNotFound(ObjectNotFound):
    """No approval with this id is followed."""

    problem, withheld = en("no approval {} is followed"), en("no such approval is followed")


class CampaignNotFound(ObjectNotFound):
    """There is no campaign with this id."""

    problem = en("no campaign {}; `dingrelay campaign list` shows their ids")
    withheld = en("no such campaign")

    @property
    def campaign(self) -> str:
        """The campaign's id."""
        return self.id


class TemplateNotFound(ObjectNotFound):
    """There is no template of a message with this id."""

    problem = en("no template {}")
    withheld = en("no such template")


class TemplateConflict(Conflict):
    """The template of this name is not the one that was read.

    Attributes:
        template: its id.
        revision: of its present message.
    """

    def __init__(self, template: str, revision: str) -> None:
        super().__init__(
            en(
                "template {} has this name: read it and replace its revision {}, or choose another name",
                template,
                revision,
            )
        )
        self.template = template
        self.revision = revision


class CampaignConflict(Conflict):
    """The campaign's state does not allow what was asked of it.

    Args:
        campaign: its id.
        problem: what stands against it, such as "is done, only a draft can be started".
    """

    def __init__(self, campaign: str, problem: str) -> None:
        super().__init__(en("campaign {} {}", campaign, problem))
        self.campaign = campaign
        self.problem = problem


class DraftConflict(Conflict):
    """The draft of a campaign is not what it was when it was read.

    Attributes:
        draft: its id.
        by: who changed it last.
        at: when.
    """

    def __init__(self, draft: str, by: str, at: "datetime") -> None:
        moment = at.astimezone().isoformat(" ", "seconds")
        super().__init__(en("draft {}: {} saved it at {}, so read it again", draft, by, moment))
        self.draft = draft
        self.by = by
        self.at = at


class KeyNotFound(ObjectNotFound):
    """There is no API key with this id."""

    problem, withheld = en("no API key {:.40}"), en("no such key")


class KeyConflict(Conflict):
    """The API key's state does not allow what was asked of it.

    Args:
        key_id: its id.
        problem: what stands against it, such as "is revoked; create another".
    """

    def __init__(self, key_id: str, problem: str) -> None:
        super().__init__(en("API key {} {}", key_id, problem))
        self.key_id = key_id


class EndpointNotFound(ObjectNotFound):
    """There is no webhook endpoint with this id."""

    problem, withheld = en("no webhook endpoint {:.40}"), en("no such webhook endpoint")


class EndpointConflict(Conflict):
    """The state of the webhook endpoint does not allow what was asked of it.

    Args:
        endpoint: its id.
        problem: what stands against it, such as "is disabled: it answered 410; resume it".
    """

    def __init__(self, endpoint: str, problem: str) -> None:
        super().__init__(en("webhook endpoint {} {}", endpoint, problem))
        self.endpoint = endpoint


class LaneConflict(Conflict):
    """The lane is not in a state for what was asked of it.

    Args:
        lane: its name, such as ``hr:bulk``.
        problem: what stands against it, such as "is not paused".
    """

    def __init__(self, lane: str, problem: str) -> None:
        super().__init__(en("lane {} {}", lane, problem))
        self.lane = lane


class NotInstalled(DingrelayError):
    """A part of dingrelay that is needed for this is not installed."""

    def __init__(self, extra: str) -> None:
        from dingrelay_producers.installation import how_to_add  # noqa: PLC0415  # it reads files

        super().__init__(en("this needs more packages: {}", how_to_add(extra)))
        self.extra = extra
