"""The pages of approvals: who has to decide, and what can be done."""

from collections.abc import Mapping
from datetime import datetime
from typing import cast, get_args
from urllib.parse import quote

from aiohttp import web

from dingrelay_producers.client.approval_verbs import ApprovalVerbs
from dingrelay_producers.client.approvals import ApprovalStatus
from dingrelay_producers.client.filters import ApprovalFilter, ApprovalStateName
from dingrelay_producers.client.outcomes import Meaning
from dingrelay_producers.client.verbs import Steps
from dingrelay_producers.language import tr
from dingrelay_producers.store.status import JobStatus
from dingrelay_tasks.approval_actions import TerminationRequest, VerdictRequest
from dingrelay_tasks.contract import ContractError
from dingrelay_tasks.sentence import en
from dingrelay_workers.approvals.service import ApprovalService
from dingrelay_workers.console.declared import FormValues, act, at
from dingrelay_workers.console.sentences import meaning
from dingrelay_workers.console.visit import PAGE, BadFilter, Visit, text_of
from dingrelay_workers.history.service import HistoryService
from dingrelay_workers.http import paging

OF_APPROVAL: Mapping[str, Meaning] = {
    "running": Meaning("wait", en("waits for a decision")),
    "approved": Meaning("good", en("approved")),
    "refused": Meaning("bad", en("refused")),
    "terminated": Meaning("doubt", en("withdrawn")),
    "deleted": Meaning("doubt", en("deleted in DingTalk")),
}
OF_TASK: Mapping[str, Meaning] = {
    "running": Meaning("wait", en("has to decide")),
    "agreed": Meaning("good", en("agreed")),
    "refused": Meaning("bad", en("refused")),
    "redirected": Meaning("doubt", en("passed on to another person")),
    "cancelled": Meaning("doubt", en("not asked any more")),
}


@at("/approvals", scope="approvals:read", menu=("people", 30, en("DingTalk approvals")))
async def approvals(visit: Visit) -> web.Response:
    """The latest approvals, and who has to decide."""
    state = visit.choice("state", get_args(ApprovalStateName))
    approval_filter = ApprovalFilter(state=cast("ApprovalStateName | None", state or None))
    page = await visit.service(ApprovalService).list(
        approval_filter, limit=PAGE, after=visit.after(datetime, str, str)
    )
    return visit.page(
        "approvals.html",
        approvals=[(approval, meaning(OF_APPROVAL, approval.state)) for approval in page],
        names=await _names(visit, *page),
        chosen=state,
        states=OF_APPROVAL,
        cursor=paging.behind(page, PAGE, "known_since", "app", "instance") or "",
    )


@at("/approvals/{app}/{id}", scope="approvals:read")
async def approval(visit: Visit) -> web.Response:
    """One approval: its steps, and what can be done."""
    approval = await _approval_of_path(visit)
    covered = visit.covers(approval.app, "normal", scope="approvals:write")
    return visit.page(
        "approval.html",
        approval=approval,
        state=meaning(OF_APPROVAL, approval.state),
        now=_state_of(approval),
        tasks=[(task, meaning(OF_TASK, task.state)) for task in approval.tasks],
        names=await _names(visit, approval),
        may_change=covered and not approval.ended,
        own=_path(approval),
    )


async def _state(visit: Visit) -> Mapping[str, object]:
    return _state_of(await _approval_of_path(visit))


def _state_of(approval: ApprovalStatus) -> Mapping[str, object]:
    waits_for = " ".join(task.user for task in approval.tasks if task.state == "running")
    return {"state": meaning(OF_APPROVAL, approval.state).words, "waits for": waits_for}


@act(
    "/approvals/{app}/{id}/terminate",
    scope="approvals:write",
    state=_state,
    page=approval,
    labels={"reason": en("Reason, which the approvers see")},
)
async def terminate(visit: Visit, form: FormValues) -> web.Response:
    """Withdraw a running approval."""
    approval, reason = await _approval_of_path(visit), text_of(form, "reason")
    if not reason:
        raise ContractError("reason", en("a value is missing"))
    request = TerminationRequest.parse({"app": approval.app, "reason": reason})
    return await _begin(visit, _verbs(visit).terminate(approval.instance, request))


@act(
    "/approvals/{app}/{id}/decide",
    scope="approvals:write",
    state=_state,
    page=approval,
    labels={"remark": en("Remark")},
)
async def decide(visit: Visit, form: FormValues) -> web.Response:
    """Agree or refuse in the name of an approver."""
    approval, user = await _approval_of_path(visit), text_of(form, "user")
    if user not in {task.user for task in approval.tasks if task.state == "running"}:
        raise BadFilter(tr("{user} has nothing to decide here", user=user))
    request = VerdictRequest.parse(
        {"app": approval.app, "user": user, "remark": text_of(form, "reason")}
    )
    verbs = _verbs(visit)
    verdict = verbs.agree if text_of(form, "decision") == "agree" else verbs.refuse
    return await _begin(visit, verdict(approval.instance, request))


def _verbs(visit: Visit) -> ApprovalVerbs:
    return ApprovalVerbs(visit.context.settings)


async def _begin(visit: Visit, steps: Steps[JobStatus]) -> web.Response:
    job = await visit.context.carry_out(steps)
    return visit.redirect(f"/jobs/{job.id}", en("This job asks DingTalk for it now."))


async def _approval_of_path(visit: Visit) -> ApprovalStatus:
    """The approval of the path.

    Raises:
        ApprovalNotFound: it is not followed, or the person may not see it; the answer does not reveal which.
    """
    return await visit.service(ApprovalService).show(visit.part("app"), visit.part("id"))


async def _names(visit: Visit, *approvals: ApprovalStatus) -> Mapping[str, str]:
    users = {approval.originator for approval in approvals} | {
        task.user for approval in approvals for task in approval.tasks
    }
    apps = {approval.app for approval in approvals}
    return await visit.service(HistoryService).names(users, apps=apps)


def _path(approval: ApprovalStatus) -> str:
    return f"/approvals/{quote(approval.app, safe='')}/{quote(approval.instance, safe='')}"
