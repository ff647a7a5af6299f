"""Templates of messages: kept, found by those of their app and sender, begun from and deleted."""

import asyncio
import re
from collections.abc import Sequence
from typing import Any

import pytest
from sqlalchemy import select

from dingrelay_producers.client.campaign_documents import TemplateRequest
from dingrelay_producers.settings import Settings
from dingrelay_tasks.contract import ContractError
from dingrelay_workers.audit.models import AuditRow
from dingrelay_workers.campaigns import message_templates
from dingrelay_workers.campaigns.drafts import Drafts
from dingrelay_workers.campaigns.message_templates import MessageTemplates
from dingrelay_workers.database.database import Database
from dingrelay_workers.directory.models import UserRow
from dingrelay_workers.http.api_keys import Grant
from support import rows
from support.consoles import Browser
from support.databases import rows as rows_of
from support.gateways import Ask

HOSTILE = "<script>alert(1)</script>"
TEXT = {"msgtype": "text", "text": {"content": "{name}, come!"}}


@pytest.fixture
def grants() -> Sequence[Grant]:
    return [
        Grant(name="all", scopes=frozenset({"*"})),
        Grant(name="other", scopes=frozenset({"*"}), apps=frozenset({"it"})),
        Grant(name="shop", scopes=frozenset({"*"}), sender="shop"),
        Grant(name="writes", scopes=frozenset({"campaigns:write"})),
    ]


def test_a_template_is_there_for_its_app_and_sender(
    settings: Settings, callers: dict[str, Ask]
) -> None:
    ask = callers["all"]
    request: dict[str, Any] = {"name": "n", "app": "hr", "sender": "crm", "message": TEXT}
    kept = ask("POST", "/v1/templates", request)
    assert kept.status == 201, kept.content
    path = f"/v1/templates/{kept.json['id']}"
    assert kept.headers["Location"] == path
    again = {"message": {"msgtype": "text"}, "replaces": kept.json["revision"]}
    replaced = ask("POST", "/v1/templates", request | again).json
    assert ask("GET", path).json == replaced
    written = (replaced["id"], replaced["message"], replaced["kept_by"] == kept.json["kept_by"])
    assert written == (kept.json["id"], {"msgtype": "text"}, True)
    for key in ("other", "shop"):
        assert callers[key]("GET", "/v1/templates").json["templates"] == []
        for method in ("GET", "DELETE"):
            assert callers[key](method, path).status == 404
    assert callers["shop"]("POST", "/v1/templates", {"name": "n", "message": TEXT}).status == 201
    assert [
        each["sender"] for each in callers["shop"]("GET", "/v1/templates").json["templates"]
    ] == ["shop"]
    assert ask("DELETE", path).status == 204
    assert ask("GET", path).status == 404
    audited = "select action, kind, app, lane from audit where object = '{}' order by number"
    found = rows_of(settings.database, audited.format(kept.json["id"]))
    actions = [tuple(row.values()) for row in found]
    assert actions == [(action, "template", "hr", "bulk") for action in ("keep", "keep", "delete")]


def test_a_template_is_replaced_by_who_has_read_it(
    settings: Settings, callers: dict[str, Ask]
) -> None:
    ask = callers["all"]
    first = ask("POST", "/v1/templates", {"name": "n", "message": TEXT}).json
    other = {"name": "n", "message": {"msgtype": "text"}}
    refused = ask("POST", "/v1/templates", other)
    assert (refused.status, first["revision"] in refused.json["detail"]) == (409, True)
    theirs = ask("POST", "/v1/templates", other | {"replaces": first["revision"]}).json
    mine = {"name": "n", "message": {"text": {}}, "replaces": first["revision"]}
    path = f"/v1/templates/{first['id']}"
    assert ask("POST", "/v1/templates", mine).status == 409
    assert ask("GET", path).json == theirs
    # A repetition of what is kept is none.
    assert ask("POST", "/v1/templates", other | {"replaces": first["revision"]}).json == theirs
    assert ask("DELETE", path).status == 204
    gone = ask("POST", "/v1/templates", mine | {"replaces": theirs["revision"]})
    assert (gone.status, gone.json["errors"][0]["pointer"]) == (422, "/replaces")


def test_a_key_that_only_writes_keeps_a_template(
    settings: Settings, callers: dict[str, Ask]
) -> None:
    request = {"name": "n", "message": TEXT}
    for _ in range(2):
        kept = callers["writes"]("POST", "/v1/templates", request)
        assert (kept.status, kept.json.get("message")) == (201, TEXT)
    assert callers["writes"]("DELETE", f"/v1/templates/{kept.json['id']}").status == 204


async def test_templates_have_bounds(
    settings: Settings, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(message_templates, "MOST", 1)
    templates = MessageTemplates(settings, database)
    await templates.keep(TemplateRequest.parse({"name": "a", "message": TEXT}))
    for request, field in (
        ({"name": "b", "message": TEXT}, "name"),
        ({"name": "a", "message": {"text": "x" * 60_000}}, "message"),
        ({"name": "", "message": TEXT}, "name"),
        ({"name": "a\n", "message": TEXT}, "name"),
    ):
        with pytest.raises(ContractError) as refused:
            await templates.keep(TemplateRequest.parse(request))
        assert refused.value.field == field


async def test_a_template_is_deleted_once(settings: Settings, database: Database) -> None:
    templates = MessageTemplates(settings, database)
    kept = await templates.keep(TemplateRequest.parse({"name": "a", "message": TEXT}))
    deletions = [templates.delete(kept.id) for _ in range(3)]
    answers = await asyncio.gather(*deletions, return_exceptions=True)
    assert sorted(type(answer).__name__ for answer in answers if answer) == ["TemplateNotFound"] * 2
    audited = [row["action"] for row in await rows.all_of(database, AuditRow)]
    assert audited.count("delete") == 1


async def test_a_broadcast_begins_with_a_template(browser: Browser, settings: Settings) -> None:
    await browser.sign_in("wang", "write")
    assert "There is no template yet" in await browser.text("/campaigns/templates")
    assert await browser.submit("/campaigns/new", name="party", app="default") == 303
    write = browser.location
    assert "as a template" not in await browser.text(write)
    text = {"name": "party", "app": "default", "msgtype": "text", "text.content": "{name}, come!"}
    assert await browser.submit(write, **text) == 303
    keep = f"{write.removesuffix('/write')}/template"
    assert await browser.submit(write, keep, template_name=HOSTILE) == 303
    assert "It is kept as the template" in await browser.text(browser.location)
    page = await browser.text("/campaigns/templates")
    assert HOSTILE not in page
    (begin,) = re.findall(r"/campaigns/new\?template=([0-9a-f-]{36})", page)
    new = f"/campaigns/new?template={begin}"
    assert f'value="{begin}" selected' in await browser.text(new)
    status = await browser.submit(new, "/campaigns/new", name="x", app="default", template=begin)
    assert status == 303
    draft = await Drafts(settings).get(browser.location.split("/")[2])
    assert (draft.content.name, draft.content.message) == ("x", TEXT)
    # What was refused is begun with the same one.
    form = (await browser.forms(new))["/campaigns/new"]
    long = {"name": "n" * 201, "app": "default", "template": begin}
    status, page = await browser.send("/campaigns/new", form | long)
    assert (status, f'value="{begin}" selected' in page) == (422, True)
    # It is not there for those of another app.
    async with browser.another("chen", "view") as viewer:
        page = await viewer.text("/campaigns/templates")
        assert ("/new" in page, "alert(1)" in page) == (False, True)
        page = await viewer.text(f"/campaigns/templates/{begin}")
        assert ("/delete" in page, "come!" in page, HOSTILE in page) == (False, True, False)
    await rows.put(browser.database, UserRow, {"userid": "clerk", "name": "clerk"})
    await browser.give("clerk", "write", apps=["hr"])
    await browser.come_in("clerk")
    assert "There is no template yet" in await browser.text("/campaigns/templates")
    assert await browser.status(new) == 404
    await browser.sign_in("wang", "write")
    delete = f"/campaigns/templates/{begin}/delete"
    assert await browser.submit(delete) == 303
    assert browser.location.partition("?")[0] == "/campaigns/templates"
    assert "The template is deleted." in await browser.text(browser.location)
    actions = select(AuditRow.action).where(AuditRow.object == begin).order_by(AuditRow.number)
    assert await browser.rows(actions) == [("keep",), ("delete",)]


async def test_a_template_is_replaced_by_who_was_shown_it(browser: Browser) -> None:
    await browser.sign_in("wang", "write")
    assert await browser.submit("/campaigns/new", name="party", app="default") == 303
    write = browser.location
    keep = f"{write.removesuffix('/write')}/template"
    text = {"name": "party", "app": "default", "msgtype": "text", "text.content": "come!"}
    replaces: dict[str, str] = {}
    for content in ("come!", "stay!", "go!"):
        assert await browser.submit(write, **text | {"text.content": content}) == 303
        if content != "come!":
            # The revision before is refused as none is.
            form = (await browser.forms(write))[keep] | {"template_name": "party"} | replaces
            status, page = await browser.send(keep, form)
            assert (status, "by wang" in page, "Open it" in page) == (409, True, True)
            ((revision),) = re.findall(r'name="replaces" value="([0-9a-f]+)"', page)
            replaces = {"replaces": revision}
        assert await browser.submit(write, keep, template_name="party", **replaces) == 303
    (template,) = re.findall(
        r"/campaigns/templates/[0-9a-f-]{36}", await browser.text("/campaigns/templates")
    )
    page = await browser.text(template)
    assert ("go!" in page, "by wang" in page) == (True, True)
