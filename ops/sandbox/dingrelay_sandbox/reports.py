"""What really happened, as the admin API reports it."""

import json
from itertools import islice

from dingrelay_sandbox.apis.contacts import department_fields, person_fields
from dingrelay_sandbox.report_types import (
    ApprovalReport,
    AuditReport,
    ContentReport,
    DuplicateReport,
    EntryReport,
    HealthReport,
    InboxesReport,
    InboxReport,
    MediumReport,
    OrganisationReport,
    RecordReport,
    TaskReport,
)
from dingrelay_sandbox.sends import Entry
from dingrelay_sandbox.state import SandboxState

TOKEN_PATHS = ("/gettoken", "/v1.0/oauth2/")


def audit(state: SandboxState) -> AuditReport:
    """The sums since the last reset."""
    inboxes = state.sends.inboxes
    calls = state.audit.verdicts()
    return AuditReport(
        calls=calls,
        accepted=sum(
            verdicts.get("ok", 0)
            for api, verdicts in calls.items()
            if not api.startswith(TOKEN_PATHS)
        ),
        throttled=state.audit.total("throttled"),
        delivered=inboxes.delivered,
        reached=inboxes.reached,
        dropped=dict(inboxes.dropped),
        duplicates=DuplicateReport(
            approvals=state.approvals.duplicates,
            messages_delivered=sum(content.repeated for content in state.sends.contents),
            messages_dropped=inboxes.dropped["143106"],
        ),
        token_fetches=state.tokens.fetches,
        tokens_issued=state.tokens.issued,
        tokens_live=state.tokens.live(state.clock()),
        max_recipients_60s=state.sends.most_recipients(),
        max_calls=state.audit.most_calls(),
        approvals=len(state.approvals.instances),
        quota=dict(state.limiter.used),
        faults=dict(state.audit.faults),
    )


def inbox(state: SandboxState, userid: str) -> InboxReport:
    """Everything that was sent to one person."""
    entries = [_entry(state, entry) for entry in state.sends.inboxes.of(userid)]
    return InboxReport(
        user=userid,
        delivered=[entry for entry in entries if not entry["reason"]],
        dropped=[entry for entry in entries if entry["reason"]],
    )


def inboxes(state: SandboxState, *, limit: int) -> InboxesReport:
    """All inboxes together, with the newest contents."""
    sends = state.sends
    contents = [
        ContentReport(
            message=json.loads(each.message), delivered=each.delivered, repeated=each.repeated
        )
        for each in sends.contents[-limit:]
    ]
    delivered, reached = sends.inboxes.delivered, sends.inboxes.reached
    return InboxesReport(delivered=delivered, reached=reached, contents=contents)


def dropped(state: SandboxState, *, limit: int) -> list[EntryReport]:
    """The first recipients that silently got nothing."""
    return [_entry(state, entry) for entry in islice(state.sends.inboxes.drops(), limit)]


def _entry(state: SandboxState, entry: Entry) -> EntryReport:
    sent = state.sends.sends[entry.send]
    return EntryReport(
        user=entry.user,
        at=sent.at,
        app=sent.app_key,
        channel=sent.channel,
        message=json.loads(state.sends.contents[sent.content].message),
        task_id=sent.task_id,
        call_id=sent.call_id,
        reason=entry.reason,
        recalled=sent.recalled,
    )


def approvals(state: SandboxState) -> list[ApprovalReport]:
    """All approval instances, oldest first."""
    return [
        ApprovalReport(
            id=each.id,
            app=each.app_key,
            call_id=each.call_id,
            process_code=each.request.template.process_code,
            originator=each.request.originator,
            department=each.request.department,
            form=[[name, value] for name, value in each.request.form],
            approvers=[user for step in each.flow.steps for user in step.users],
            cc=list(each.flow.cc),
            status=each.flow.status,
            result=each.flow.result,
            tasks=[
                TaskReport(id=task.id, user=task.user, status=task.status, result=task.result)
                for task in each.flow.tasks
            ],
            records=[
                RecordReport(
                    user=record.user,
                    at=record.at,
                    type=record.type,
                    result=record.result,
                    remark=record.remark or "",
                )
                for record in each.flow.records
            ],
            created_at=each.created_at,
            finished_at=each.flow.finished_at,
        )
        for each in state.approvals.instances.values()
    ]


def media(state: SandboxState) -> list[MediumReport]:
    """Every uploaded file."""
    return [
        MediumReport(id=each.id, app=each.app_key, kind=each.kind, name=each.name, size=each.size)
        for each in state.media.files.values()
    ]


def organisation(state: SandboxState) -> OrganisationReport:
    """The whole directory."""
    known = state.organisation
    return OrganisationReport(
        departments=[department_fields(known, each) for each in known.departments.values()],
        users=[person_fields(known, each) for each in known.people.values()],
    )


def health(state: SandboxState) -> HealthReport:
    """That it runs."""
    users, departments = len(state.organisation.people), len(state.organisation.departments)
    return HealthReport(status="ok", users=users, departments=departments)
