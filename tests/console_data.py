"""One of everything that the console shows, with HTML in each text that comes from elsewhere."""

from datetime import UTC, datetime
from typing import Any

from redis.asyncio import Redis
from sqlalchemy import insert

import campaigns
from dingrelay_producers.settings import Settings
from dingrelay_producers.store.states import State
from dingrelay_workers.approvals.models import ApprovalRow
from dingrelay_workers.campaigns.chunks import ChunkEnding, Release
from dingrelay_workers.campaigns.drafts import Drafts
from dingrelay_workers.campaigns.service import CampaignService
from dingrelay_workers.database.database import Database
from dingrelay_workers.directory.models import UserRow
from dingrelay_workers.history.models import JobRow, RecipientRow
from dingrelay_workers.http.api_keys import Grant
from dingrelay_workers.keys.documents import KeyRequest
from dingrelay_workers.keys.service import KeyService
from dingrelay_workers.outbox import outbox
from dingrelay_workers.outbox.notice import Notice
from dingrelay_workers.roles.service import RoleRequest, RoleService
from dingrelay_workers.store.records import Records, Usage
from jobs import a_draft, claimed, enqueue
from subscriptions import subscribe

HTML = "<script>alert(1)</script><img src=x onerror=alert(2)>"
TEXT = {"msgtype": "text", "text": {"content": HTML}}
NOW = datetime.now(UTC)


async def fill(database: Database, redis: Redis, settings: Settings) -> str:
    """One of everything, with HTML in each text; the id of a job."""
    records = Records(redis, settings)
    failed = a_draft(sender="crm")
    await enqueue(redis, failed)
    error = {"class": "not_found", "code": "60121", "message": HTML, "hint": HTML}
    await records.settle(await claimed(records, failed), State.DEAD, usage=Usage(), error=error)
    unclear = a_draft(sender="crm")
    await enqueue(redis, unclear)
    await records.settle(await claimed(records, unclear), State.UNKNOWN, usage=Usage(), error=error)
    await enqueue(redis, a_draft(text="waits"))
    await KeyService(database).create(Grant(name=HTML, scopes=frozenset({"jobs:read"})))
    campaign = await campaigns.put(database, name=HTML)
    draft = await campaigns.put(database, name=HTML, state="draft")
    await CampaignService(settings, database).ask_review(draft, HTML)
    done = await campaigns.put(database, people=2, name=HTML, state="done", calls=1)
    taken = ChunkEnding(Release(0, 1), task_id=1, called_at=NOW, accepted=2)
    await campaigns.end(database, done, taken)
    content = {"name": HTML, "app": "default", "message": TEXT, "pasted": "u1"}
    await Drafts(settings).create(content, "admin")
    await subscribe(database, name=HTML)
    await subscribe(database, id="drw_paused", name=HTML, state="paused", reason=HTML)
    job: dict[str, Any] = {
        "job": "11111111-1111-4111-8111-111111111111",
        "kind": "message-send",
        "app": "default",
        "sender": "crm",
        "key": "",
        "lane": "normal",
        "state": "done",
        "created_at": NOW,
        "started_at": NOW,
        "ended_at": NOW,
        "attempts": 1,
        "throttles": 0,
        "error_class": "",
        "error_code": "",
        "ids": [HTML],
        "summary": f"message-send app=default lane=normal {HTML}",
        "content": None,
    }
    texts = ("sender", "template", "originator", "title", "business_id", "link")
    approval: dict[str, Any] = {
        **dict.fromkeys(texts, HTML),
        **dict.fromkeys(("known_at", "changed_at", "created_at"), NOW),
        "app": "default",
        "instance": "i1",
        "job": failed.id,
        "state": "running",
        "source": "event",
        "looks": 0,
    }
    person = {"app": "default", "userid": "u1", "name": HTML, "fields": {}, "met_in": 1}
    moments = dict.fromkeys(("read_at", "detailed_at", "placed_at"), 1)
    got = {"job": job["job"], "user": "u1", "outcome": "duplicate", "at": NOW}
    notice = Notice(type="job.dead", app="default", at=NOW, data={"id": HTML})
    async with database.write("tests") as connection:
        await outbox.write(connection, [notice])
        await connection.execute(insert(ApprovalRow).values(**approval))
        await connection.execute(insert(JobRow).values(**job))
        await connection.execute(insert(RecipientRow).values(**got))
        for user in ("u1", "u2"):
            row = person | {"userid": user} | moments
            await connection.execute(insert(UserRow).values(**row))
    role = RoleRequest.parse({"subject": "u1", "role": "view"})
    await RoleService(database).give(role)
    key = KeyRequest.parse({"name": HTML, "scopes": ["jobs:read"]})
    await KeyService(database).create(key.grant())
    return f"/jobs/{unclear.id} /jobs/{failed.id} /jobs/{job['job']} /campaigns/{campaign} /webhooks/drw_test"
