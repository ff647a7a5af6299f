"""One of everything that the console shows, with HTML in each text that comes from elsewhere."""

from datetime import UTC, datetime

from redis.asyncio import Redis

import campaigns
import rows
from dingrelay_producers.actor import ACTOR, Actor
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
    waits = a_draft(text="waits")
    await enqueue(redis, waits)
    sent = a_draft(text="sent", sender="crm")
    await enqueue(redis, sent)
    result = {"accepted": 1, "calls": [{"task_id": 1, "recipients": 1}]}
    claim = await claimed(records, sent)
    await records.settle(claim, State.DONE, usage=Usage(), result=result)
    await KeyService(database).issue(Grant(name=HTML, scopes=frozenset({"jobs:read"})))
    campaign = await campaigns.put(database, name=HTML)
    draft = await campaigns.put(database, name=HTML, state="draft")
    before = ACTOR.set(Actor("console", HTML, person=HTML))
    await CampaignService(settings, database).request_review(draft)
    ACTOR.reset(before)
    done = await campaigns.put(database, people=2, name=HTML, state="done", calls=1)
    taken = ChunkEnding(Release(0, 1), task_id=1, called_at=NOW, accepted=2)
    await campaigns.end(database, done, taken)
    content = {"name": HTML, "app": "default", "message": TEXT, "pasted": "u1"}
    await Drafts(settings).create(content, "admin")
    await subscribe(database, name=HTML)
    await subscribe(database, id="drw_paused", name=HTML, state="paused", reason=HTML)
    job = {"job": "11111111-1111-4111-8111-111111111111"}
    summary = f"message-send app=default lane=normal {HTML}"
    ended = {"kind": "message-send", "sender": "crm", "lane": "normal", "state": "done"}
    await rows.put(database, JobRow, {**job, **ended, "ids": [HTML], "summary": summary})
    await rows.put(database, RecipientRow, {**job, "user": "u1", "outcome": "duplicate"})
    texts = ("sender", "template", "originator", "title", "business_id", "link")
    approval = {**dict.fromkeys(texts, HTML), "instance": "i1", "job": failed.id}
    followed = {"state": "running", "source": "event", "created_at": NOW}
    await rows.put(database, ApprovalRow, approval | followed)
    people = [{"userid": user, "name": HTML} for user in ("u1", "u2")]
    await rows.put(database, UserRow, *people)
    notice = Notice(type="job.dead", app="default", at=NOW, data={"id": HTML})
    async with database.write("tests") as connection:
        await outbox.write(connection, [notice])
    role = RoleRequest.parse({"subject": "u1", "role": "view"})
    await RoleService(database).grant(role)
    key = KeyRequest.parse({"name": HTML, "scopes": ["jobs:read"]})
    await KeyService(database).create(key)
    jobs = " ".join(f"/jobs/{each}" for each in (unclear.id, failed.id, waits.id, sent.id))
    return f"{jobs} /jobs/{job['job']} /campaigns/{campaign} /webhooks/drw_test"
