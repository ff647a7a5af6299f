"""A job as a row of the outbox, for any library that writes it."""

import json
import time
import uuid
from functools import cache
from typing import Any

from dingrelay_producers import running
from dingrelay_producers.client.arguments import checked_job
from dingrelay_producers.settings import Settings
from dingrelay_producers.store import record
from dingrelay_producers.tracing import spans
from dingrelay_tasks.contract import Contract, ContractError
from dingrelay_tasks.kinds import KINDS
from dingrelay_tasks.sentence import en, not_json

TABLE = "dingrelay_outbox"


def new_row(job: Contract) -> tuple[str, dict[str, Any]]:
    """Check a job as `Client.send` does before it calls Redis; the id that it will have, and the columns of its row.

    The row's id is unique over all databases: it is the job's idempotency key, unless that has one of its own.

    Raises:
        InvalidArgument: it is no job.
        ContractError: it is larger than 1 MB as JSON, or its robot or group can't have such a message.
        SettingsError: a setting is missing or wrong.
    """
    checked_job(job)
    settings = _settings()
    settings.check_target(job)
    id_ = str(uuid.uuid4())
    draft = record.draft(job, key=job.identity or id_, sender=settings.sender)
    # ASCII, which a table of any character set holds.
    row = {
        "id": id_,
        "kind": draft.kind,
        "job": json.dumps(draft.job),
        "written_at": int(time.time() * 1000),
        "trace": spans.current(),
    }
    return draft.id, row


def read_job(kind_name: str, text: str) -> Contract:
    """The job of a row.

    Raises:
        ContractError: this release can't read it: a newer one has written it, or another program.
    """
    kind = KINDS.get(kind_name)
    if kind is None:
        raise ContractError("kind", en("this release has no kind {}", kind_name))
    try:
        fields: Any = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ContractError("job", not_json(error)) from None
    return kind.contract.parse(fields)


@cache
def _settings() -> Settings:
    # Sources are files and the environment: to read them takes longer than to write a row.
    return running.settings()
