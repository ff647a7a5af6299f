"""What really happened, as the admin API reports it."""

import json
from typing import Any

from dingrelay_sandbox.apis.contacts import department_fields, person_fields
from dingrelay_sandbox.report_types import (
    ApprovalReport,
    AuditReport,
    CallReport,
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


class Reports:
    """Reports on the state of a sandbox."""

    def __init__(self, state: SandboxState) -> None:
        self._state = state

    def audit(self) -> AuditReport:
        """The sums since the last reset."""
        state = self._state
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

    def calls(self, *, since: float, api: str, limit: int) -> list[CallReport]:
        """Single calls, oldest first."""
        return self._state.audit.calls(since=since, api=api, limit=limit)

    def inbox(self, userid: str) -> InboxReport:
        """Everything that was sent to one person."""
        entries = [self._entry(entry) for entry in self._state.sends.inboxes.of(userid)]
        return InboxReport(
            user=userid,
            delivered=[entry for entry in entries if not entry["reason"]],
            dropped=[entry for entry in entries if entry["reason"]],
        )

    def inboxes(self, *, limit: int) -> InboxesReport:
        """All inboxes together, with the newest contents."""
        sends = self._state.sends
        return InboxesReport(
            delivered=sends.inboxes.delivered,
            reached=sends.inboxes.reached,
            contents=[
                ContentReport(
                    message=json.loads(content.message),
                    delivered=content.delivered,
                    repeated=content.repeated,
                )
                for content in sends.contents[-limit:]
            ],
        )

    def dropped(self, *, limit: int) -> list[EntryReport]:
        """The first recipients that silently got nothing."""
        found: list[EntryReport] = []
        for entry in self._state.sends.inboxes.drops():
            if len(found) >= limit:
                break
            found.append(self._entry(entry))
        return found

    def approvals(self) -> list[ApprovalReport]:
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
            for each in self._state.approvals.instances.values()
        ]

    def robot_posts(self) -> list[dict[str, Any]]:
        """What the webhook robots posted."""
        return self._state.robots.posts

    def media(self) -> list[MediumReport]:
        """Every uploaded file."""
        return [
            MediumReport(
                id=each.id, app=each.app_key, kind=each.kind, name=each.name, size=each.size
            )
            for each in self._state.media.files.values()
        ]

    def organisation(self) -> OrganisationReport:
        """The whole directory."""
        organisation = self._state.organisation
        return OrganisationReport(
            departments=[
                department_fields(organisation, each) for each in organisation.departments.values()
            ],
            users=[person_fields(organisation, each) for each in organisation.people.values()],
        )

    def health(self) -> HealthReport:
        """That it runs."""
        organisation = self._state.organisation
        return HealthReport(
            status="ok",
            users=len(organisation.people),
            departments=len(organisation.departments),
        )

    def _entry(self, entry: Entry) -> EntryReport:
        sends = self._state.sends
        sent = sends.sends[entry.send]
        return EntryReport(
            user=entry.user,
            at=sent.at,
            app=sent.app_key,
            channel=sent.channel,
            message=json.loads(sends.contents[sent.content].message),
            task_id=sent.task_id,
            call_id=sent.call_id,
            reason=entry.reason,
            recalled=sent.recalled,
        )
