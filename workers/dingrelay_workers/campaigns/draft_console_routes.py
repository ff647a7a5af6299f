"""The pages on which a broadcast is written, chosen for and checked: steps that are left and taken up again at will."""

import asyncio
import re
from collections.abc import Callable, Coroutine, Hashable, Iterator, Mapping, Sequence
from datetime import datetime
from math import inf
from operator import attrgetter
from typing import Any
from urllib.parse import urlencode

from aiohttp import web

from dingrelay_producers.client.campaign_documents import MessageTemplate, TestRequest
from dingrelay_producers.client.client import Client
from dingrelay_producers.client.filters import CampaignFilter
from dingrelay_producers.client.job_details import details_of
from dingrelay_producers.client.media import Medium
from dingrelay_producers.client.outcomes import Meaning
from dingrelay_producers.enqueuing.connections import asking
from dingrelay_producers.errors import (
    CampaignConflict,
    CampaignNotFound,
    DingrelayError,
    DraftConflict,
    ServiceUnavailable,
)
from dingrelay_producers.language import tr
from dingrelay_producers.settings import Settings, SettingsError
from dingrelay_producers.store import record
from dingrelay_producers.store.scripts import run_async
from dingrelay_producers.store.states import CampaignStage
from dingrelay_producers.zone import local, zone
from dingrelay_tasks.contract import TYPE_FIELD, ContractError
from dingrelay_tasks.media_files import ENDINGS, LARGEST
from dingrelay_tasks.sentence import en
from dingrelay_workers.campaigns import pasted
from dingrelay_workers.campaigns.calls import marked
from dingrelay_workers.campaigns.documents import (
    DraftChange,
    DraftContent,
    DraftVersion,
)
from dingrelay_workers.campaigns.draft_words import LABELS, differences, problem_of, problems_of
from dingrelay_workers.campaigns.drafts import MOST_PARSED, CampaignDraft, Drafts, FileCount
from dingrelay_workers.campaigns.findings import causes_of, findings_of, unchecked
from dingrelay_workers.campaigns.message_templates import MessageTemplates
from dingrelay_workers.campaigns.pictures import Pictures
from dingrelay_workers.campaigns.reach import READ, WRITE
from dingrelay_workers.campaigns.recipients import ADDRESS_WORDS, USERID, FileColumn
from dingrelay_workers.campaigns.report import campaign_of_test
from dingrelay_workers.campaigns.service import CampaignService
from dingrelay_workers.campaigns.sources import LARGEST_FILE
from dingrelay_workers.console.declared import FormValues, act, at
from dingrelay_workers.console.message_form import (
    ALL,
    COLOURS,
    FIELDS,
    TYPES,
    form_of,
    message_of,
    others_of,
)
from dingrelay_workers.console.sentences import FieldProblem, people_by_outcome
from dingrelay_workers.console.visit import Visit, text_of, texts_of
from dingrelay_workers.dingtalk.classify import hint_of
from dingrelay_workers.directory.service import DepartmentNode, DirectoryService
from dingrelay_workers.history.service import HistoryService

Problems = ContractError | Mapping[str, FieldProblem] | None
"""Reasons for which a step was refused."""
STEPS: Mapping[str, str] = {
    "write": en("Write"),
    "choose": en("Choose people"),
    "check": en("Check"),
    "test": en("Test"),
    "review": en("Time and approval"),
    "send": en("Send"),
}
LARGEST_FORM = 4_000_000
"""Bytes of a form: half a million pasted characters of Chinese, twice."""
UPLOADING = 25.0
"""Seconds in which a worker hands a file to DingTalk."""
MOST_OPEN = 40
"""Departments that are open in the tree."""
READ_WITHIN = 1.0
"""Seconds that the page of the people waits until a file is read; a larger one is read by the check."""
PROBLEMS = 20
"""Pasted words of which it is said why they name no person."""
ON_SHELF = 12
"""Pictures that are offered to be taken again."""
EARLIER = 20
"""Broadcasts of which people can be left out by a tick."""
_DRAFT = "/campaigns/{id}"
_UNKNOWN_PICTURE = (
    b'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 48 32"><path fill="#c9d0d9"'
    b' d="M0 0h48v32H0zM4 28h40L30 10 20 22l-5-5zM12 12a4 4 0 1 0 0-8 4 4 0 0 0 0 8"/></svg>'
)
_TIMES = ("start_at", "rate", "quiet_from", "quiet_to", "error_share")
"""Inputs of the step with the time."""
_NUMBER = re.compile("-?[0-9]{1,18}")
"""A number that every database takes."""
_LOCAL = "%Y-%m-%dT%H:%M"
_READ: Mapping[str, Callable[[str], Any]] = {
    "start_at": lambda text: datetime.fromisoformat(text).replace(tzinfo=zone()).isoformat(),
    "rate": int,
    "error_share": lambda text: int(text) / 100,
}
"""Field of a draft → how the text of its input is read."""
_DEFAULTS = {"start_at": None, "rate": None, "error_share": 0.1}


@at("/campaigns/new", scope=WRITE)
async def new_draft(visit: Visit) -> web.Response:
    """First page of a broadcast, which may begin with a template."""
    return await _new_page(visit, await _template(visit, visit.query("template")))


@act("/campaigns/new", scope=WRITE)
async def create_draft(visit: Visit, form: FormValues) -> web.Response:
    """Make a draft with a name."""
    content: dict[str, Any] = {name: text_of(form, name) for name in ("name", "app")}
    template = await _template(visit, text_of(form, "template"))
    if template:
        content["message"] = template.message
    try:
        draft = await visit.service(Drafts).write(DraftContent.parse(content))
    except ContractError as error:
        return await _new_page(visit, template, content, problems_of(error))
    return visit.redirect(_way(draft, "write"))


async def _template(visit: Visit, id_: str) -> MessageTemplate | None:
    return await visit.service(MessageTemplates).get(id_) if id_ else None


async def _new_page(
    visit: Visit,
    template: MessageTemplate | None,
    content: Mapping[str, str] | None = None,
    problems: Mapping[str, FieldProblem] | None = None,
) -> web.Response:
    begun = {"name": template.name, "app": template.app} if template else {"name": "", "app": ""}
    return visit.page(
        "draft_new.html",
        status=422 if problems else 200,
        apps=visit.apps,
        chosen=template,
        templates=await visit.service(MessageTemplates).list(),
        values=content or begun,
        problems=problems or {},
    )


async def next_step(visit: Visit) -> web.Response:
    """Lead to the step of a draft that comes next."""
    draft = await _found(visit)
    step = next((each for each in STEPS if each not in _done(draft)), "check")
    return visit.redirect(_way(draft, step))


@at(f"{_DRAFT}/write", scope=WRITE)
async def write_step(visit: Visit) -> web.Response:
    """The message, as it is written and as a phone shows it."""
    draft = await _found(visit)
    return await write_page(visit, draft, problem_of(draft.content.message))


@act(f"{_DRAFT}/write", scope=WRITE, limit=LARGEST + LARGEST_FORM)
async def save_message(visit: Visit, form: FormValues) -> web.Response:
    """Save the message, and hand the files that were chosen for its fields to DingTalk."""
    draft = await _found(visit)
    values = {name: text_of(form, name) for name in form}
    changes = {name: values.get(name, "") for name in ("name", "app")}
    said, refused = "", None
    for field in filter(attrgetter("takes"), ALL):
        name, content = _file_of(form, f"file.{field.name}")
        if content is None:
            continue
        try:
            medium = await asyncio.to_thread(
                _upload, visit.context.settings, field.takes, name, content, draft.content.app
            )
        except (DingrelayError, ContractError) as error:
            words = error.problem if isinstance(error, ContractError) else str(error)
            refused = {f"file.{field.name}": FieldProblem(field.label, words)}
        else:
            said = en("DingTalk has the file “{}”.", name)
            await visit.service(Pictures).keep(draft.content.app, name, medium.id, content)
            values[field.name] = field.with_medium(values.get(field.name, ""), medium.id, name)
    if media_id := text_of(form, "picture"):
        kind = message_of(values)[TYPE_FIELD]
        for field in (field for field in FIELDS[kind] if field.takes == "image"):
            values[field.name] = field.with_medium(values.get(field.name, ""), media_id, "")
    messages = {"message": message_of(values), "other_messages": others_of(values)}
    if refused:
        return await write_page(visit, _with(draft, changes | messages), refused, status=422)
    return await _save(visit, form, "write", draft, changes | messages, said)


@at("/campaigns/pictures/{media}", scope=READ)
async def show_picture(visit: Visit) -> web.Response:
    """A picture that was uploaded; a drawing of one where it is not kept."""
    kind, content = await visit.service(Pictures).find(visit.part("media")) or (
        "image/svg+xml",
        _UNKNOWN_PICTURE,
    )
    return web.Response(
        body=content, content_type=kind, headers={"Cache-Control": "private, max-age=3600"}
    )


@at(f"{_DRAFT}/choose", scope=WRITE)
async def choose_step(visit: Visit) -> web.Response:
    """Step: choose people, and leave some out."""
    draft = await _found(visit)
    return await _choose_page(visit, draft)


@act(f"{_DRAFT}/choose", scope=WRITE, limit=LARGEST_FILE + LARGEST_FORM)
async def save_people(visit: Visit, form: FormValues) -> web.Response:
    """Save which people get it; a file of them is taken, or taken away."""
    draft = await _found(visit)
    content = draft.content
    column, kind = text_of(form, "column"), text_of(form, "kind")
    changes = {
        "everyone": bool(text_of(form, "everyone")),
        "departments": _chosen(form, "departments", content.departments),
        "without_departments": _chosen(form, "without_departments", content.without_departments),
        "without_campaigns": _chosen(form, "without_campaigns", content.without_campaigns),
        "pasted": _pasted(form, "pasted"),
        "without_pasted": _pasted(form, "without_pasted"),
        "column": f"{kind}={column}" if column and kind else column,
    }
    return await _save(visit, form, "choose", draft, changes)


async def _attach(visit: Visit, form: FormValues, draft: CampaignDraft) -> CampaignDraft:
    """Give a draft the file with people that came with a form, or take its file away."""
    name, content = _file_of(form, "file")
    if content is None and not text_of(form, "remove"):
        return draft
    draft, _ = await visit.service(Drafts).attach(draft.id, draft.version, name, content)
    visit.context.checks.drop(_file_check(visit, draft)[0])
    return draft


def _file_check(
    visit: Visit, draft: CampaignDraft
) -> tuple[Hashable, Callable[[], Coroutine[Any, Any, FileCount]]]:
    """The key and the read of the file of a draft: not one for each change of its other people."""
    drafts, file = visit.service(Drafts), (draft.file_name, draft.file_bytes)
    return ("file", draft.id, draft.content.column, *file), lambda: drafts.count_file(draft.id)


async def _skips_rows(visit: Visit, draft: CampaignDraft) -> bool:
    """Whether the people of a draft are named by words that reach no one."""
    content, drafts = draft.content, visit.service(Drafts)
    for text in (content.pasted, content.without_pasted):
        if (await drafts.parse_pasted(content.app, text)).problems:
            return True
    if not draft.file_name:
        return False
    return bool((await visit.context.checks.get(*_file_check(visit, draft))).causes)


@at(f"{_DRAFT}/check", scope=WRITE)
async def check_step(visit: Visit) -> web.Response:
    """Step: check cost and reach; only reads."""
    draft = await _found(visit)
    problems = _lacks(draft)
    check, findings = None, list[Meaning]()
    if not problems:
        try:
            check = await visit.context.checks.soon(
                ("draft", draft.id, draft.version),
                lambda: visit.service(CampaignService).preview(draft.id),
            )
            findings = findings_of(check) if check else []
        except ContractError as error:
            problems = problems_of(error, draft.id)
        except (ServiceUnavailable, SettingsError) as error:
            findings = [unchecked(error)]
    return visit.page(
        "draft_check.html",
        check=check,
        checking=not (check or problems or findings),
        findings=findings,
        **await _common(visit, draft, "check", problems),
    )


@at(f"{_DRAFT}/test", scope=WRITE)
async def test_step(visit: Visit) -> web.Response:
    """Step: send a test."""
    draft = await _found(visit)
    return await _test_page(visit, draft, visit.session.name or visit.session.user)


@act(f"{_DRAFT}/test", scope=WRITE)
async def send_test(visit: Visit, form: FormValues) -> web.Response:
    """Send the message to oneself, marked as a test."""
    draft, users = await _found(visit), _pasted(form, "users")
    if text_of(form, "meant"):
        return await _test_page(visit, draft, users)
    try:
        # One's own name means oneself, though others may have it.
        named = visit.session.user if users == visit.session.name else users
        people = await visit.service(Drafts).testers(draft, named)
        request = TestRequest.parse({"users": people})
        await _freeze(visit, draft, _version(form))
        job = await visit.service(CampaignService).test(draft.id, request)
    except ContractError as error:
        return await _test_page(visit, draft, users, error, status=422)
    return visit.redirect(_way(draft, "test") + f"?job={job.id}")


@at(f"{_DRAFT}/review", scope=WRITE)
async def review_step(visit: Visit) -> web.Response:
    """When it is sent, and the approval of a second person."""
    return await _review_page(visit, await _found(visit))


@act(f"{_DRAFT}/review", scope=WRITE)
async def save_time(visit: Visit, form: FormValues) -> web.Response:
    """Save when it is sent; and make it ready, and ask for its approval, or go on to send it."""
    draft, texts = await _found(visit), {name: text_of(form, name) for name in _TIMES}
    quiet = [texts["quiet_from"], texts["quiet_to"]]
    changes: dict[str, Any] = {"quiet": "-".join(quiet) if any(quiet) else ""}
    for name, read in _READ.items():
        try:
            changes[name] = read(texts[name]) if texts[name] else _DEFAULTS[name]
        except ValueError:
            error = ContractError(name, en("can't be read"))
            return await _review_page(visit, draft, error, texts, status=422)
    then = text_of(form, "then")
    refused, saved = await _change(visit, form, "review", draft, changes)
    if refused is not None:
        return refused
    if then not in {"ask", "send"}:
        return visit.redirect(_way(saved, "review"))
    # Where nothing had to be saved, another person's change since this page was made still conflicts.
    version = _version(form) if saved.version == draft.version else saved.version
    try:
        await _freeze(visit, saved, version)
    except ContractError as error:
        return await _review_page(visit, saved, error, status=422)
    if then == "send":
        return visit.redirect(f"/campaigns/{draft.id}")
    await visit.service(CampaignService).submit(draft.id)
    return visit.redirect(f"/campaigns/{draft.id}", en("The approval is asked for."))


@at(f"{_DRAFT}/send", scope=WRITE)
async def send_step(visit: Visit) -> web.Response:
    """The last step stands on the page of the broadcast, once it is ready."""
    draft = await _found(visit)
    if draft.stage == CampaignStage.DRAFT:
        return visit.redirect(_way(draft, "review"))
    return visit.redirect(f"/campaigns/{draft.id}")


async def _freeze(visit: Visit, draft: CampaignDraft, version: object) -> None:
    """Make the draft ready in the version that the person saw."""
    await visit.service(Drafts).freeze(draft.id, DraftVersion.parse({"version": version}))


async def _test_page(
    visit: Visit, draft: CampaignDraft, users: str, problems: Problems = None, *, status: int = 200
) -> web.Response:
    found, over = await _test_of(visit, draft)
    return visit.page(
        "draft_test.html",
        status=status,
        users=users,
        job=visit.query("job"),
        became=found,
        over=over,
        message=marked(draft.content.message),
        **await _parsed(visit, draft, users=users),
        **await _common(visit, draft, "test", problems),
    )


async def _test_of(visit: Visit, draft: CampaignDraft) -> tuple[list[Meaning], bool]:
    """Outcome of the test that the page was led to, and whether that is final."""
    id_, app = visit.query("job"), draft.content.app
    async with asking():
        answer = await run_async(visit.context.redis, record.read(id_, payload=True))
    found = details_of(id_, record.fields(answer))
    if found is None or found.status.app != app or campaign_of_test(found.key) != draft.id:
        return [], True
    status = found.status
    if not status.state.ended:
        return [
            Meaning("wait", en("The test is on its way: this page shows what becomes of it."))
        ], False
    names = await visit.service(HistoryService).names(list(found.recipients), apps=[app])
    shown = [
        Meaning(
            each.tone,
            en("{}: {}", ", ".join(names.get(user, user) for user in users), each.words),
            each.remedy,
        )
        for each, users in people_by_outcome(found.recipients)
    ]
    if status.error:
        hint = status.error.hint or hint_of(status.error.code)
        shown.append(Meaning("bad", status.error.message, hint))
    return shown, True


async def _review_page(
    visit: Visit,
    draft: CampaignDraft,
    problems: Problems = None,
    texts: Mapping[str, str] | None = None,
    *,
    status: int = 200,
) -> web.Response:
    """The page with the time as it is stored, or as the inputs have it that were refused."""
    above = visit.context.settings.campaigns.approved_above
    rule = en("The settings ask for none. You can ask for one all the same.")
    if above < 0:
        rule = en("The settings ask for it for every broadcast.")
    elif above < inf:
        rule = en("The settings ask for it for broadcasts to more than {:,} people.", int(above))
    return visit.page(
        "draft_review.html",
        status=status,
        values=texts or _texts_of(draft.content),
        rule=rule,
        may_need=above < inf,
        **await _common(visit, draft, "review", problems),
    )


def _texts_of(content: DraftContent) -> Mapping[str, str]:
    """The inputs of the step with the time, filled in."""
    start_at = content.start_at.astimezone(zone()).strftime(_LOCAL) if content.start_at else ""
    share = str(round(content.error_share * 100))
    return dict(
        zip(
            _TIMES,
            (start_at, str(content.rate or ""), *(content.quiet or "-").split("-"), share),
            strict=True,
        )
    )


def _upload(settings: Settings, kind: str, name: str, content: bytes, app: str) -> Medium:
    if ENDINGS.get(name.rpartition(".")[2].lower()) != kind:
        kinds = {"image": en("must be a picture")}
        raise ContractError("file", kinds.get(kind, en("must be a document or an archive")))
    with Client(settings) as client:
        return client.upload(content, name=name, app=app, lane="urgent", timeout=UPLOADING)


async def _save(
    visit: Visit,
    form: FormValues,
    step: str,
    draft: CampaignDraft,
    changes: dict[str, Any],
    said: str = "",
) -> web.Response:
    """Save what a step has changed, and lead back to it, or to the step that a button names, once this one lacks nothing."""
    before = draft.version
    refused, draft = await _change(visit, form, step, draft, changes)
    if refused is not None:
        return refused
    way = _way(draft, step)
    if text_of(form, "then") in STEPS:
        lacks = {name: lack for name, lack in _lacks(draft).items() if lack.page == way}
        if lacks:
            return await _PAGES[step](visit, draft, lacks, status=422)
        if step == "choose" and draft.version != before and await _skips_rows(visit, draft):
            words = en("Some rows reach no one: see below. Go on, and they are left out.")
            problem = FieldProblem(LABELS["pasted"], words, way)
            return await _PAGES[step](visit, draft, {"pasted": problem}, status=422)
        return visit.redirect(_way(draft, text_of(form, "then")), said)
    return visit.redirect(way + _opened(form), said)


async def _change(
    visit: Visit, form: FormValues, step: str, draft: CampaignDraft, changes: dict[str, Any]
) -> tuple[web.Response | None, CampaignDraft]:
    """Save what a step has changed: the page for what is refused, or where another change was faster; the draft."""
    try:
        change = DraftChange.parse({"version": _version(form), **changes})
        draft = await visit.service(Drafts).save(draft.id, change)
        if step == "choose":
            draft = await _attach(visit, form, draft)
    except DraftConflict:
        draft = await _found(visit)
        mine = DraftContent.parse({**draft.content.model_dump(), **changes})
        sent = [
            (name, form_of(mine.message).get(name, text))
            for name, text in form.items()
            if name not in {"form", "version"} and isinstance(text, str)
        ]
        both = visit.page(
            "draft_conflict.html",
            status=409,
            draft=draft,
            step=step,
            sent=sent,
            differences=differences(draft.content, mine),
        )
        return both, draft
    except ContractError as error:
        if step == "review":
            texts = {name: text_of(form, name) for name in _TIMES}
            page = await _review_page(visit, draft, error, texts, status=422)
        else:
            page = await _PAGES[step](visit, _with(draft, changes), error, status=422)
        return page, draft
    return None, draft


def _with(draft: CampaignDraft, changes: Mapping[str, Any]) -> CampaignDraft:
    """A draft as a form has it that was not saved."""
    return draft.model_copy(update={"content": draft.content.model_copy(update=dict(changes))})


async def write_page(
    visit: Visit,
    draft: CampaignDraft,
    problems: Problems = None,
    *,
    status: int = 200,
    template: str = "",
    conflict: MessageTemplate | None = None,
) -> web.Response:
    """The page with the message; `template` is the name that one was to be kept under, `conflict` the one that has it."""
    content = draft.content
    values = dict.fromkeys((field.name for field in ALL), "")
    for message in (*content.other_messages.values(), content.message):
        values |= form_of(message)
    values |= {"name": content.name, "app": content.app}
    return visit.page(
        "draft_write.html",
        status=status,
        values=values,
        apps=visit.apps,
        types=TYPES,
        fields=FIELDS,
        colours=COLOURS,
        message=content.message,
        template_name=template or content.name,
        conflict=conflict,
        pictures=await visit.service(Pictures).latest(content.app, ON_SHELF),
        **await _common(visit, draft, "write", problems),
    )


async def _choose_page(
    visit: Visit, draft: CampaignDraft, problems: Problems = None, *, status: int = 200
) -> web.Response:
    content, directory = draft.content, visit.service(DirectoryService)
    file = None
    if draft.file_name:
        try:
            file = await visit.context.checks.soon(*_file_check(visit, draft), seconds=READ_WITHIN)
        except ContractError as error:
            problems = problems or error
    closed = visit.query("close")
    opened = [each for each in visit.query("open").split(",") if each and each != closed]
    parents = [int(each) for each in opened[-MOST_OPEN:] if _NUMBER.fullmatch(each)]
    named = visit.query("named")[:50]
    chosen = [*content.departments, *content.without_departments]
    nodes, more = await directory.nodes(content.app, parents=parents, ids=chosen, named=named)
    nodes = [*nodes, *_gone(chosen, nodes)]
    tree: dict[int | None, list[DepartmentNode]] = {None: []}
    shown = {*parents, *(node.id for node in nodes if node.parent is None)}
    for node in nodes:
        if node.parent is None or node.parent in shown:
            tree.setdefault(node.parent, []).append(node)
    visible = {node.id for below in tree.values() for node in below}
    elsewhere = [
        node
        for node in nodes
        if node.id not in visible
        and (node.id in content.departments or (named and named in node.name))
    ]
    return visit.page(
        "draft_choose.html",
        status=status,
        content=content,
        tree=tree,
        open=parents,
        elsewhere=elsewhere,
        named=named,
        found=any(named in node.name for node in nodes),
        minus=[node for node in nodes if node.parent is not None],
        more=more,
        campaigns=await _earlier(visit, content),
        file=file,
        causes=list(causes_of(file.causes)) if file else [],
        kinds={**ADDRESS_WORDS, USERID: en("UserID of DingTalk")},
        column=FileColumn.of(content.column) if content.column else None,
        **await _parsed(visit, draft, pasted=content.pasted, without_pasted=content.without_pasted),
        **await _common(visit, draft, "choose", problems),
    )


_PAGES = {"write": write_page, "choose": _choose_page}


async def _parsed(visit: Visit, draft: CampaignDraft, **texts: str) -> dict[str, Any]:
    """The people that pasted texts name, by input, and what their macro needs beside."""
    drafts, app = visit.service(Drafts), draft.content.app
    return {
        "parsed": {name: await drafts.parse_pasted(app, text) for name, text in texts.items()},
        "problems_shown": PROBLEMS,
        "entry_of": pasted.entry_of,
        "most_parsed": MOST_PARSED,
    }


def _gone(chosen: Sequence[int], nodes: Sequence[DepartmentNode]) -> Iterator[DepartmentNode]:
    """Departments that were chosen and are no more: they can be ticked off."""
    for department in dict.fromkeys(chosen):
        if all(node.id != department for node in nodes):
            name = tr("{id}, which is in the directory no more", id=department)
            yield DepartmentNode(id=department, name=name, parent=0, people=0, leaf=True)


async def _earlier(visit: Visit, content: DraftContent) -> list[tuple[str, str, int, str]]:
    """Broadcasts whose people can be left out, and those that are: id, name, people, day."""
    service, chosen = visit.service(CampaignService), content.without_campaigns
    listed = await service.list(CampaignFilter(app=content.app), limit=EARLIER)
    found = [each for each in listed if each.started_at or each.id in chosen]
    gone: list[tuple[str, str, int, str]] = []
    for id_ in sorted(set(chosen) - {each.id for each in found}):
        try:
            found.append(await service.status(id_))
        except CampaignNotFound:
            gone.append((id_, id_, 0, ""))
    rows = [(each.id, each.name, each.recipients, local(each.created_at)[:10]) for each in found]
    return rows + gone


def _opened(form: FormValues) -> str:
    """The open departments of the tree, as the query of its page."""
    opened = [*texts_of(form, "shown"), text_of(form, "open")]
    kept = [each for each in dict.fromkeys(opened) if each and each != text_of(form, "close")]
    query = {"open": ",".join(kept), "named": text_of(form, "named")}
    return "?" + urlencode({name: value for name, value in query.items() if value})


async def _common(
    visit: Visit, draft: CampaignDraft, step: str, problems: Problems
) -> dict[str, Any]:
    """Variables that all steps share."""
    if isinstance(problems, ContractError):
        problems = problems_of(problems, draft.id)
    done = _done(draft)
    review = await visit.service(CampaignService).review(draft.id)
    await visit.know(review.asked_by, review.decided_by)
    if review.state in {"asked", "approved"} and "test" in done:
        done.add("review")
    common = {"draft": draft, "step": step, "steps": STEPS, "problems": problems or {}}
    return common | {"done": done, "review": review}


def _lacks(draft: CampaignDraft) -> dict[str, FieldProblem]:
    """The lacks of a draft that can not be checked yet, by the fields where they are filled in."""
    lacks, done = dict[str, FieldProblem](), _done(draft)
    if "write" not in done:
        error = problem_of(draft.content.message)
        lacks = problems_of(error, draft.id) if error else {}
        if not draft.content.message:
            lacks[TYPE_FIELD] = FieldProblem(en("Message"), en("is required"), _way(draft, "write"))
        if not draft.content.name:
            lacks["name"] = FieldProblem(LABELS["name"], en("is required"), _way(draft, "write"))
    if "choose" not in done:
        words = en("No recipient is chosen yet.")
        lacks["pasted"] = FieldProblem(LABELS["pasted"], words, _way(draft, "choose"))
    return lacks


def _done(draft: CampaignDraft) -> set[str]:
    """Steps that are complete."""
    content = draft.content
    done = set[str]()
    if content.name and content.message and not problem_of(content.message):
        done.add("write")
    if content.everyone or content.departments or content.pasted or draft.file_name:
        done.add("choose")
    if draft.stage == CampaignStage.READY:
        done |= {"check", "test"}
    return done


async def _found(visit: Visit) -> CampaignDraft:
    """Content of the broadcast that the path names.

    Raises:
        CampaignConflict: it was started, so it can't be written any more.
    """
    found = await visit.service(Drafts).get(visit.part("id"))
    if found.stage not in {CampaignStage.DRAFT, CampaignStage.READY}:
        raise CampaignConflict(found.id, en("is {}: copy it, and change the copy", found.stage))
    await visit.know(found.updated_by)
    return found


def _pasted(form: FormValues, name: str) -> str:
    """A pasted text; blanks and tabs around it may be cells of a table."""
    value = form.get(name)
    if not isinstance(value, str) or not value.strip():
        return ""
    text = value.replace("\0", "").strip("\r\n")
    at, line, person, entry = (text_of(form, "meant").split("|", 3) + [""] * 4)[:4]
    if at == name and line.isdecimal():
        return pasted.meaning(text, int(line), entry, person)
    return text


def _chosen(form: FormValues, name: str, stored: Sequence[int | str]) -> list[int | str]:
    """Values that are ticked on the page, and those that were chosen before and are not on it."""
    shown = text_of(form, f"{name}_shown").split(",")
    ticked = [int(each) if _NUMBER.fullmatch(each) else each for each in texts_of(form, name)]
    return list(dict.fromkeys([*(each for each in stored if str(each) not in shown), *ticked]))


def _file_of(form: FormValues, name: str) -> tuple[str, bytes | None]:
    """Name and content of a file that was chosen; None for none."""
    file = form.get(name)
    if not isinstance(file, web.FileField) or not file.filename:
        return "", None
    return file.filename.rpartition("/")[2], file.file.read()


def _version(form: FormValues) -> int:
    given = text_of(form, "version")
    return int(given) if _NUMBER.fullmatch(given) else 0


def _way(draft: CampaignDraft, step: str) -> str:
    return f"/campaigns/{draft.id}/{step}"
