"""Reports of the truth for the admin API. All times are Unix seconds of the sandbox's clock."""

import json
from dataclasses import asdict
from itertools import islice
from typing import Any

from dingrelay_sandbox.apis.contacts import department_fields, person_fields
from dingrelay_sandbox.sends import Entry
from dingrelay_sandbox.state import SandboxState

TOKEN_PATHS = ("/gettoken", "/v1.0/oauth2/")
Row = dict[str, Any]


def audit(state: SandboxState) -> Row:
    """The sums over everything since the last reset.

    Its fields:
        calls: API path → verdict → number of calls.
        accepted: calls that were carried out, token calls aside.
        throttled: calls that were answered with a throttle.
        delivered: messages that arrived in an inbox.
        reached: people with anything in their inbox.
        dropped: reason → recipients that silently got nothing.
        duplicates: instances beyond the first of an equal template, originator and form; deliveries of a
            content to a person who had it that day already; recipients that the same-content rule kept
            from a second delivery.
        token_fetches, tokens_issued, tokens_live: tokens handed out, the new ones among them, and
            those that are good now.
        max_recipients_60s: the most recipients of one app's accepted calls in any 60 s.
        max_calls: API path → the most calls of one app in any interval as long as the limit's
            window, throttled ones included.
        approvals: approval instances.
        quota: ``organisation month`` → counted calls.
        faults: kind → calls that a scripted fault met.
    """
    sends = state.sends
    calls = state.audit.verdicts()
    fetched = [api for api in calls if api.startswith(TOKEN_PATHS)]
    return {
        "calls": calls,
        "accepted": sum(calls[api].get("ok", 0) for api in calls if api not in fetched),
        "throttled": state.audit.total("throttled"),
        "delivered": sends.delivered,
        "reached": len(sends.reached),
        "dropped": dict(sends.dropped),
        "duplicates": {
            "approvals": state.approvals.duplicates,
            "messages_delivered": sum(content.repeated for content in sends.contents.values()),
            "messages_dropped": sends.dropped["143106"],
        },
        "token_fetches": state.tokens.fetches,
        "tokens_issued": state.tokens.issued,
        "tokens_live": state.tokens.live(state.clock()),
        "max_recipients_60s": sends.most_recipients(),
        "max_calls": state.audit.most_calls(),
        "approvals": len(state.approvals.instances),
        "quota": dict(state.limiter.used),
        "faults": dict(state.audit.faults),
    }


def inbox(state: SandboxState, userid: str) -> Row:
    """Everything that was sent to one person."""
    entries = [_entry(each) for each in state.sends.inboxes.get(userid, ())]
    delivered = [entry for entry in entries if not entry["reason"]]
    dropped = [entry for entry in entries if entry["reason"]]
    return {"user": userid, "delivered": delivered, "dropped": dropped}


def inboxes(state: SandboxState, limit: int = 10_000) -> Row:
    """All inboxes together, with the newest contents; `repeated` counts second copies of a day."""
    sends = state.sends
    contents = [
        {**asdict(each), "message": json.loads(each.message)}
        for each in [*sends.contents.values()][-limit:]
    ]
    return {"delivered": sends.delivered, "reached": len(sends.reached), "contents": contents}


def dropped(state: SandboxState, limit: int = 100_000) -> list[Row]:
    """The first recipients that silently got nothing."""
    return [_entry(each) for each in islice(state.sends.drops(), limit)]


def _entry(entry: Entry) -> Row:
    """One recipient of one message. `reason` is empty where it arrived."""
    sent = entry.send
    return {
        "user": entry.user,
        "at": sent.at,
        "app": sent.app_key,
        "channel": sent.channel,
        "message": json.loads(sent.content.message),
        "task_id": sent.task_id,
        "call_id": sent.call_id,
        "reason": entry.reason,
        "recalled": sent.recalled,
    }


def approvals(state: SandboxState) -> list[Row]:
    """All approval instances, oldest first.

    Their fields:
        form: name and value as they were submitted, whatever the APIs return.
        status: RUNNING, COMPLETED or TERMINATED.
        result: agree or refuse once it is COMPLETED; empty before.
        tasks: as `approvals.Task`. records: as `approvals.Record`, oldest first.
        finished_at: None while it is running.
    """
    return [
        {
            "id": each.id,
            "app": each.app_key,
            "call_id": each.call_id,
            "process_code": each.request.template.process_code,
            "originator": each.request.originator,
            "department": each.request.department,
            "form": [[name, value] for name, value in each.request.form],
            "approvers": [user for step in each.request.steps for user in step.users],
            "cc": list(each.request.cc),
            "status": each.status,
            "result": each.result,
            "tasks": [asdict(task) for task in each.tasks],
            "records": [
                {**asdict(record), "remark": record.remark or ""} for record in each.records
            ],
            "created_at": each.created_at,
            "finished_at": each.finished_at,
        }
        for each in state.approvals.instances.values()
    ]


def organisation(state: SandboxState) -> Row:
    """The whole directory; people with all fields, nothing hidden."""
    known = state.organisation
    return {
        "departments": [department_fields(known, each) for each in known.departments.values()],
        "users": [person_fields(known, each) for each in known.people.values()],
    }


def health(state: SandboxState) -> Row:
    """Health of the sandbox."""
    known = state.organisation
    return {"status": "ok", "users": len(known.people), "departments": len(known.departments)}
