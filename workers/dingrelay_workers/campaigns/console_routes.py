"""The pages of a broadcast that is ready: approved, sent, watched, and taken back."""

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import cast, get_args

from aiohttp import web

from dingrelay_producers.actor import current_actor, current_reach
from dingrelay_producers.client.campaign_documents import CampaignStatus, CopyRequest
from dingrelay_producers.client.filters import CampaignFilter, CampaignSought
from dingrelay_producers.client.outcomes import Meaning
from dingrelay_producers.client.verbs import verbs_of
from dingrelay_producers.errors import CampaignNotFound, ServiceUnavailable
from dingrelay_producers.language import tr, translated
from dingrelay_producers.settings import SettingsError
from dingrelay_producers.store import clock
from dingrelay_producers.store.states import CampaignStage
from dingrelay_producers.zone import local, zone
from dingrelay_tasks.sentence import en
from dingrelay_workers.campaigns import result_table
from dingrelay_workers.campaigns.calls import FollowUpPlan
from dingrelay_workers.campaigns.draft_console_routes import next_step
from dingrelay_workers.campaigns.drafts import CampaignDraft, Drafts
from dingrelay_workers.campaigns.findings import choices_of, findings_of, unchecked
from dingrelay_workers.campaigns.plan_text import plan_text
from dingrelay_workers.campaigns.reach import APPROVE, READ, WRITE
from dingrelay_workers.campaigns.report import PENDING, CampaignReport
from dingrelay_workers.campaigns.review import CampaignReview
from dingrelay_workers.campaigns.service import CampaignService
from dingrelay_workers.console.declared import FormValues, act, at
from dingrelay_workers.console.job_filter import LONGEST, time_range
from dingrelay_workers.console.jobs import userid_of
from dingrelay_workers.console.moments import spoken
from dingrelay_workers.console.sentences import OUTCOMES, FieldProblem, meaning
from dingrelay_workers.console.verb_forms import VerbForms
from dingrelay_workers.console.visit import PAGE, BadFilter, Visit, text_of
from dingrelay_workers.directory.service import DirectoryService
from dingrelay_workers.http import paging
from dingrelay_workers.nouns import NOUNS

MANY = 500
"""People above which a number is typed before something is sent or taken back."""
ANSWERED_WITHIN = timedelta(minutes=10)
"""Time after a delivery query in which the page of a broadcast renews itself."""

_UNCHECKED = Meaning(
    "doubt",
    en("It was not checked when it was made."),
    en("“Send it” checks it before anything is sent."),
)
_UNDER_WAY = {
    "recall": en("It is being taken back: {:,} of {:,} people so far."),
    "confirm": en("DingTalk is asked who has read it: {:,} of {:,} people so far."),
}
_RENEWS = en("DingTalk answers call by call. This page shows how far it is.")
_UNREAD = Meaning("doubt", en("had not read it when DingTalk was asked"))
_ONE = "/campaigns/{id}"

OF_CAMPAIGN: Mapping[str, Meaning] = {
    "draft": Meaning("wait", en("a draft")),
    "ready": Meaning("wait", en("ready, not sent yet")),
    "scheduled": Meaning("wait", en("scheduled, not sent yet")),
    "running": Meaning("wait", en("is being sent")),
    "paused": Meaning("doubt", en("paused")),
    "done": Meaning("good", en("done")),
    "cancelled": Meaning("bad", en("cancelled")),
}
OF_REVIEW: Mapping[str, Meaning] = {
    "asked": Meaning("wait", en("waits for its approval")),
    "approved": Meaning("good", en("approved, waits for its writer to send it")),
    "rejected": Meaning("bad", en("rejected")),
}


@at("/campaigns", scope=READ, menu=("people", 10, en("Broadcasts")))
async def campaigns(visit: Visit) -> web.Response:
    """The latest broadcasts that fit a filter in the URL, from drafts to those that have ended."""
    services = visit.service(CampaignService)
    chosen, problems = await _filter(visit)
    listed: Sequence[CampaignStatus]
    if visit.query("waiting") and visit.may(APPROVE):
        listed = await services.waiting(current_reach().apps_of(APPROVE), limit=PAGE)
    else:
        listed = await services.list(chosen, limit=PAGE + 1, after=visit.after(datetime, str))
    last = listed[PAGE - 1] if len(listed) > PAGE else None
    cursor = paging.encode(last.created_at, last.id) if last else ""
    ready = [row.id for row in listed[:PAGE] if row.stage == "ready"]
    reviews = await services.reviews(ready) if ready else {}
    sent = [row.id for row in listed[:PAGE] if row.calls]
    follow_ups = await services.follow_ups(sent) if sent else {}
    recalls = [row.id for row in listed[:PAGE] if (row.id, "recall") in follow_ups]
    recalled = await services.recalled(recalls) if recalls else {}
    shown: list[tuple[CampaignStatus, Meaning]] = []
    for row in listed[:PAGE]:
        state = _stage_of(row)
        if row.id in reviews:
            state = meaning(OF_REVIEW, reviews[row.id])
        elif row.id in recalls:
            state = _taken_back(state, *recalled.get(row.id, (0, 0)))
        shown.append((row, state))
    await visit.know(*(row.updated_by for row in listed[:PAGE]))
    waiting = [await noun.load(part)(visit) for noun in NOUNS for part in noun.first_page]
    return visit.page(
        "campaigns.html",
        status=400 if problems else 200,
        campaigns=shown,
        cursor=cursor,
        waiting=filter(None, waiting),
        states=OF_CAMPAIGN,
        asked={name: visit.query(name)[:LONGEST] for name in ("q", "writer", "state", "waiting")},
        since=visit.query("since"),
        since_day=local(chosen.since)[:10] if chosen.since else "",
        until=visit.query("until"),
        problems=problems,
    )


async def _filter(visit: Visit) -> tuple[CampaignFilter, Mapping[str, FieldProblem]]:
    """The filter in the URL, without a writer whose name several people have; and what is wrong with it."""
    (since, until), state = time_range(visit), visit.choice("state", OF_CAMPAIGN)
    writer, problems = visit.query("writer")[:LONGEST], dict[str, FieldProblem]()
    try:
        writer = await userid_of(visit, writer, tr("Written by")) if writer else ""
    except BadFilter as error:
        writer, problems["writer"] = "", FieldProblem("", str(error))
    chosen = CampaignFilter(
        name=visit.query("q")[:LONGEST] or None,
        writer=writer or None,
        stage=CampaignStage(state) if state else None,
        since=since,
        until=until,
    )
    return chosen, problems


@at(_ONE, scope=READ)
async def campaign(visit: Visit) -> web.Response:
    """One broadcast: what it says, whether it may be sent, how far it is, and who did not get it, by reason."""
    services = visit.service(CampaignService)
    status, review = await services.show_reviewed(visit.part("id"))
    if status.stage == "draft" and visit.may(WRITE):
        return await next_step(visit)
    if status.state == "running":
        # Many watch it, and to add up the calls of a million people takes long.
        figures = await visit.context.shared.get(
            ("figures", status.id), lambda: services.figures(status.id)
        )
    else:
        figures = await services.figures(status.id)
    report, arrivals, ends_at = figures
    await visit.know(review.asked_by, review.decided_by)
    outcomes = [
        (outcome, meaning(OUTCOMES, outcome), people)
        for outcome, people in report.outcomes.items()
        if people
    ]
    check, choices = status.preview, list[Meaning]()
    if status.stage == "ready":
        draft = await visit.service(Drafts).get(status.id, READ)
        choices = await _choices(visit, draft, rows=check.file_rows if check else 0)
    submitted = review.state == "asked"
    under_way = await _under_way(visit, status)
    moves = status.state in {"running", "paused"} or submitted or under_way
    return visit.page(
        "campaign.html",
        campaign=status,
        state=_standing(status, report, review),
        moves=moves,
        under_way=under_way,
        ends_at=ends_at,
        settled=report.recipients - report.outcomes[PENDING],
        report=report,
        arrivals=arrivals,
        outcomes=outcomes,
        reasons=[(meaning(OUTCOMES, reason.outcome), reason) for reason in report.reasons[:PAGE]],
        choices=choices,
        check=check,
        review=review,
        seen=_seen(status),
        review_seen=_seen(status, review=review.state),
        obstacle=_obstacle(visit, review),
        decides=review.decidable and visit.may(APPROVE),
        writes=visit.may(WRITE),
        findings=findings_of(check) if check else [_UNCHECKED],
        first=await visit.context.shared.get(
            ("first", status.id, status.version), lambda: services.first_recipients(status.id)
        ),
    )


async def _under_way(visit: Visit, status: CampaignStatus) -> Sequence[tuple[Meaning, int, int]]:
    """Work on a campaign that was sent: words, people who are through, and all."""
    services, lately = visit.service(CampaignService), clock.now() - ANSWERED_WITHIN
    follow_ups = await services.follow_ups([status.id]) if status.calls else {}
    under_way: list[tuple[Meaning, int, int]] = []
    for (_, verb), since in sorted(follow_ups.items()):
        if since < lately:
            continue
        through, people = await services.progress(status.id, verb, since)
        if through < people:
            words = en(_UNDER_WAY[verb], through, people)
            under_way.append((Meaning("wait", words, _RENEWS), through, people))
    return under_way


def _obstacle(visit: Visit, review: CampaignReview) -> Meaning | None:
    """Why a person with the role to approve may not approve this one, and what helps."""
    if not (review.undecidable and visit.may(APPROVE)):
        return None
    remedy = ""
    if current_actor().issuers:
        remedy = en("Sign in with DingTalk, or by a link that another administrator has made.")
    words = en("You can't approve it. It {}.", review.undecidable)
    return Meaning("doubt", words, remedy)


def _stage_of(status: CampaignStatus) -> Meaning:
    """The campaign's state, with its time where it waits for that."""
    if moment := _beginning_of(status):
        return Meaning("wait", en("scheduled for {}", moment))
    return meaning(OF_CAMPAIGN, status.stage)


def _beginning_of(status: CampaignStatus) -> str:
    """When a campaign that is scheduled begins, in words; "" for others."""
    if status.stage == "scheduled" and status.start_at:
        return spoken(status.start_at, clock.now(), zone())
    return ""


def _standing(status: CampaignStatus, report: CampaignReport, review: CampaignReview) -> Meaning:
    """The campaign's state, how its approval stands before it is sent, and how much of it was taken back."""
    if status.stage == "ready" and review.state in OF_REVIEW:
        return meaning(OF_REVIEW, review.state)
    state = _stage_of(status)
    calls = report.recalled.calls
    return _taken_back(state, report.calls, calls) if calls else state


def _taken_back(state: Meaning, calls: int, recalled: int) -> Meaning:
    """The state of a campaign of whose calls so many are taken back; of 0, that was asked for."""
    if not recalled:
        return Meaning("doubt", en("{}, taking back was asked for", state.words))
    if recalled < calls:
        return Meaning("doubt", en("{}, partly taken back", state.words))
    return Meaning("doubt", en("{}, taken back", state.words))


async def _choices(visit: Visit, draft: CampaignDraft, *, rows: int) -> list[Meaning]:
    """Sentences about the people that a draft names."""
    content = draft.content
    ids = [*content.departments, *content.without_departments]
    names = await visit.service(DirectoryService).names_by_department(content.app, ids)
    campaigns: list[str] = []
    for left_out in content.without_campaigns:
        with suppress(CampaignNotFound):
            campaigns.append((await visit.service(CampaignService).status(left_out)).name)
    return choices_of(draft, names, campaigns, rows=rows)


def _seen(status: CampaignStatus, **more: object) -> Mapping[str, object]:
    """State of a broadcast that a form is good for: its version stands for its text, people and time."""
    return {"state": status.state.value, "version": status.version, **more}


async def _state(visit: Visit) -> Mapping[str, object]:
    return _seen(await _status(visit))


async def _review_state(visit: Visit) -> Mapping[str, object]:
    status = await _status(visit)
    review = await visit.service(CampaignService).review(status.id)
    return _seen(status, review=review.state)


@at(f"{_ONE}/start", scope=WRITE)
async def confirm_start(visit: Visit) -> web.Response:
    """The last question before it leaves."""
    status = await _status(visit)
    many = status.recipients > MANY
    try:
        check = await visit.context.checks.soon(
            (status.id, status.version), lambda: visit.service(CampaignService).preview(status.id)
        )
    except (ServiceUnavailable, SettingsError) as error:
        return visit.page("checking.html", campaign=status, findings=[unchecked(error)])
    if check is None:
        return visit.page("checking.html", campaign=status, findings=[])
    return visit.confirmation(
        title=tr("Send “{name}”?", name=status.name),
        button=tr("Send it to {recipients:,} people", recipients=status.recipients),
        lines=[translated(finding.words) for finding in findings_of(check)],
        count=status.recipients if many else None,
        state=_seen(status),
    )


@at(f"{_ONE}/cancel", scope=WRITE)
async def confirm_cancel(visit: Visit) -> web.Response:
    """Ask before it is ended for good."""
    status = await _status(visit)
    unsent = status.recipients - status.accepted - status.left_out - status.failed
    return visit.confirmation(
        title=tr("Cancel “{name}”?", name=status.name),
        button=tr("Cancel it for {left:,} people", left=unsent),
        lines=(tr("Those who have it keep it. It can't be taken up again."),),
        count=unsent if unsent > MANY else None,
        state=_seen(status),
        ends=True,
    )


@at(f"{_ONE}/delete", scope=WRITE)
async def confirm_delete(visit: Visit) -> web.Response:
    """Ask before a draft is thrown away, or a broadcast that has ended with its people and its report."""
    status = await _status(visit)
    lines = [tr("It can't be brought back.")]
    if status.state.ended:
        more = tr(
            "Its people and its report go with it, and what was sent can't be taken back then."
        )
        lines.append(more)
    return visit.confirmation(
        title=tr("Delete “{name}”?", name=status.name),
        button=tr("Delete it for good"),
        lines=lines,
        count=status.recipients if status.recipients > MANY else None,
        state=_seen(status),
        ends=True,
    )


@at(f"{_ONE}/recall", scope=WRITE)
async def confirm_recall(visit: Visit) -> web.Response:
    """Page that asks for confirmation of a recall: what can still be taken back."""
    status = await _status(visit)
    services = visit.service(CampaignService)
    plan = await services.plan_recall(status.id)
    if not plan.jobs:
        reason = tr("Nothing of it can be taken back: DingTalk does so for 24 hours.")
        if not plan.too_old:
            reason = tr("There is nothing to take back, or all of it is taken back already.")
        return _nothing(visit, status, reason)
    return visit.confirmation(
        lines=await _cost_of(visit, plan),
        title=tr("Take “{name}” back?", name=status.name),
        button=tr("Take it back from {people:,} people", people=plan.people),
        count=plan.people if plan.people > MANY else None,
        state={"people": plan.people},
        ends=True,
    )


async def _recall_state(visit: Visit) -> Mapping[str, object]:
    plan = await visit.service(CampaignService).plan_recall(visit.part("id"))
    return {"people": plan.people}


@act(f"{_ONE}/copy", scope=WRITE)
async def copy_campaign(visit: Visit, form: FormValues) -> web.Response:
    """A new draft with the text of this one, and with its people where they are wanted."""
    request = CopyRequest(people=bool(text_of(form, "people")))
    draft = await visit.service(Drafts).copy(visit.part("id"), request)
    return visit.redirect(f"/campaigns/{draft.id}/write")


@at(f"{_ONE}/confirm", scope=WRITE)
async def confirm_unread(visit: Visit) -> web.Response:
    """Page that asks for confirmation of a read query: what it costs."""
    status = await _status(visit)
    services = visit.service(CampaignService)
    plan = await services.plan_confirm(status.id)
    if not plan.jobs:
        reason = tr("DingTalk can be asked about none of it: it answers for 24 hours.")
        return _nothing(visit, status, reason)
    return visit.confirmation(
        lines=await _cost_of(visit, plan),
        title=tr("Ask DingTalk who has read “{name}”?", name=status.name),
        button=tr("Ask about {people:,} people", people=plan.people),
    )


@at(f"{_ONE}/people", scope=READ)
async def people_by_outcome(visit: Visit) -> web.Response:
    """People of a campaign, or those of one outcome."""
    status, outcome = await _status(visit), _outcome(visit)
    people, last = await visit.service(CampaignService).people(
        status.id, outcome, behind=visit.after(int, int), limit=PAGE
    )
    return visit.page(
        "campaign_people.html",
        campaign=status,
        outcome=outcome or "",
        words=_words_of(outcome),
        people=[(person, meaning(OUTCOMES, person.outcome)) for person in people],
        cursor=paging.encode(*last) if last else "",
    )


@at(f"{_ONE}/people.csv", scope=READ)
async def people_csv(visit: Visit) -> web.StreamResponse:
    """All its people with what became of them, or those of one outcome, for a spreadsheet."""
    status, outcome = await _status(visit), _outcome(visit)
    pages = visit.service(CampaignService).export(status.id, outcome)
    words = translated(_words_of(outcome).words) if outcome else ""
    return await visit.send_csv(result_table.people_csv(pages), status.name, words)


def _words_of(outcome: CampaignSought | None) -> Meaning:
    return _UNREAD if outcome == "unread" else meaning(OUTCOMES, outcome or "")


async def _cost_of(visit: Visit, plan: FollowUpPlan) -> Sequence[str]:
    """Sentences on what calls about a broadcast reach and cost."""
    month = await visit.service(CampaignService).month_of(plan)
    return plan_text(plan, month).splitlines()


def _nothing(visit: Visit, status: CampaignStatus, reason: str) -> web.Response:
    back = f"{visit.context.prefix}/campaigns/{status.id}"
    return visit.page("problem.html", status=409, title=status.name, reason=reason, back=back)


def _outcome(visit: Visit) -> CampaignSought | None:
    outcome = visit.query("outcome")
    return cast(CampaignSought, outcome) if outcome in get_args(CampaignSought) else None


async def _status(visit: Visit) -> CampaignStatus:
    """The broadcast that the path names."""
    return await visit.service(CampaignService).status(visit.part("id"), visit.scope)


async def _name_of(visit: Visit) -> str:
    return (await _status(visit)).name


def _words_of_start(status: CampaignStatus) -> str:
    if moment := _beginning_of(status):
        return en("It is scheduled; sending begins {}.", moment)
    return en("It is being sent.")


_STATES = dict.fromkeys(("submit", "approve", "reject"), _review_state)
VerbForms(
    noun=CampaignService,
    page=_ONE,
    state=_state,
    states={**_STATES, "recall": _recall_state, "confirm": None},
    about=_name_of,
    said={"start": _words_of_start},
).declare(by_hand={verb.name for verb in verbs_of(CampaignService) if not verb.done})


async def writers_of(visit: Visit, campaigns: Collection[str]) -> Mapping[str, Sequence[str]]:
    """Writers of those of these broadcasts that exist."""
    return await visit.service(CampaignService).writers(campaigns)


async def scheduled(visit: Visit) -> tuple[str, str] | None:
    """The next broadcast that is sent at a time to come, for the first page."""
    if not visit.may(READ):
        return None
    coming = await visit.context.shared.get(
        ("scheduled", visit.session.digest), visit.service(CampaignService).scheduled
    )
    if not coming:
        return None
    campaign, name, start_at = coming[0]
    moment = spoken(start_at, clock.now(), zone())
    if len(coming) == 1:
        return f"/campaigns/{campaign}", en("“{}” is scheduled for {}.", name, moment)
    words = en(
        "Broadcasts that are scheduled: {:,}; the next is “{}”, {}.", len(coming), name, moment
    )
    return "/campaigns", words


async def names_of(visit: Visit, campaigns: Collection[str]) -> Mapping[str, str]:
    """Names of those of these broadcasts that exist."""
    return await visit.service(CampaignService).names(campaigns)


async def decided_reviews(visit: Visit) -> tuple[str, str] | None:
    """Decisions on the broadcasts of the person that wait for what they do, for the first page."""
    if not visit.may(WRITE):
        return None
    reviews = await visit.context.shared.get(
        ("decided", visit.session.digest), visit.service(CampaignService).decided_reviews
    )
    if not reviews:
        return None
    campaign, name, decision, reason = reviews[0]
    if len(reviews) > 1:
        return "/campaigns", en("Broadcasts of yours that were decided on: {:,}", len(reviews))
    words = en("“{}” is approved: you can send it now.", name)
    if decision == "rejected":
        words = en("“{}” was rejected: {}", name, reason)
    return f"/campaigns/{campaign}", words


async def waiting_reviews(visit: Visit) -> tuple[str, str] | None:
    """The broadcasts that the person may approve now, for the first page."""
    if not visit.may(APPROVE):
        return None
    apps = current_reach().apps_of(APPROVE)
    reviews = await visit.context.shared.get(
        ("reviews", visit.session.digest, apps),
        lambda: visit.service(CampaignService).waiting_reviews(apps),
    )
    if not reviews:
        return None
    page = f"/campaigns/{reviews[0]}" if len(reviews) == 1 else "/campaigns?waiting=1"
    return page, en("Broadcasts that wait for your approval: {:,}", len(reviews))
