"""Every Redis key of dingrelay, with the time it lives. Nothing is kept for ever: each has a TTL.

Where people stand in each key is declared below: `PEOPLE` or `IMPERSONAL` names it.
"""

from collections.abc import Mapping
from typing import NamedTuple

PREFIX = "dingrelay:"

JOB_MARGIN_MS = 30 * 86_400_000
"""An open job's record and its place outlive the time at which it is due by this much: for so long
no worker need run at all. While one does, it prolongs them."""
TOMBSTONE_TTL_MS = 7 * 86_400_000
"""A broker redelivers an unacknowledged message an hour after a worker has started again, and it then
waits in its queue again: this covers the downtime and the queue together. As long as an ended record
lives by default, so that only what is discarded, or kept more briefly, costs memory."""
PRESENCE_TTL_MS = 3_600_000
"""Workers renew it every second or so."""
SERVED_TTL_MS = 7 * 86_400_000
"""Workers may be away for so long without a job for them being refused."""
RECENT_JOBS = 10_000
"""How many of the newest jobs `job list` can show."""
RECENT_TTL_MS = 7 * 86_400_000
UNPUBLISHED_TTL_MS = 3_600_000
"""An hour later the schedule itself has found these wake-ups lost."""
PROGRESS_TTL_MS = 86_400_000
"""A queue's progress is of no use a day later."""
PROGRESS_SLOTS = 8
"""Slots of a queue's progress: six are a grace, so the one that is overwritten is older."""
BUCKET_TTL_MS = 3_600_000
"""A bucket that is unused for an hour is full again and starts with the configured rate."""
REVOKED_TTL_MS = 86_400_000
"""A day for the message of a bare client to reach a worker."""
BREAKER_TTL_MS = 7 * 86_400_000
"""An open breaker that is not probed for so long closes; the next call probes again."""
ENDED_OUTAGES_TTL_MS = 86_400_000
"""A day: as far back as the console's first page looks."""
SICK_TTL_MS = 600_000
"""Sick answers that are further apart are not in a row."""
OUTAGE_TTL_MS = 8 * 86_400_000
"""Jobs that have waited longer are woken all the same, by the schedule."""
PAUSE_TTL_MS = 8 * 86_400_000
"""Longer than a pause of a lane may last, a week."""
WAITING_TTL_MS = 86_400_000
"""Jobs that have waited longer run all the same, by their own wake-ups."""
QUOTA_TTL_MS = 40 * 86_400_000
"""A month and some days."""
QUOTA_REPORTS_TTL_MS = 2 * 86_400_000
"""A process that has counted on a day reports until the next one at least."""
DAY_TTL_MS = 36 * 3_600_000
"""A Beijing day and some hours."""
FORM_SCHEMA_TTL_MS = 600_000
"""A template is edited now and then; a form that contradicts it has it read again sooner."""
FORM_SCHEMA_READER_TTL_MS = 20_000
"""Longer than a call takes."""
PROBE_TTL_MS = 10_000
DOOR_TOKEN_TTL_MS = 7_200_000
"""Lifetime of a token of DingTalk's (API §1)."""
DOOR_REQUEST_TTL_MS = 600_000
"""Time within which a program that got no answer may repeat its request."""
DOOR_TASK_TTL_MS = 7 * 86_400_000
"""Lifetime of the record of the task's job."""
ROBOT_TTL_MS = 7 * 86_400_000
"""Renewed by each message; no job to a robot waits longer."""
ROBOT_UNKNOWN_TTL_MS = 600_000
"""A robot may be made after its first message, though few are."""
UPLOAD_TTL_MS = 900_000
"""A file takes up to 20 MB: its program gets an answer within seconds, and may repeat for ten minutes."""
MEDIA_TTL_MS = 30 * 86_400_000
"""How long an uploaded file is not uploaded again. No expiry of DingTalk's ids is stated (API §11.5), so this
bounds what a wrong guess of that costs."""
ROBOT_SESSION_TTL_MS = 30 * 86_400_000
"""Lifetime of a session: its address is good for 90 minutes, and a later reply goes to the conversation."""
DIGEST_TTL_MS = 3 * 86_400_000
"""Robots may be out for as long as jobs wait for the end of an outage, a day."""
ROBOT_POSTS_TTL_MS = 60_000
"""The window of a robot's limit (API §2.8)."""
ENDINGS_TTL_MS = 7 * 86_400_000
"""Default lifetime of an ended record: the job's record is gone then."""
MOST_ENDINGS = 200_000
"""Ends that are kept for readers which are away: about 25 MB, and an hour of 55 jobs a second."""
REFUSED_TTL_MS = 7 * 86_400_000
"""Time to look at what an application publishes by mistake."""
REFUSED_TEXTS = 100
REFUSED_BYTES = 65_536
"""Bytes of a refused text that are kept: with its others 6.5 MB at most."""
SIGNAL_TTL_MS = 3_600_000
"""The leader renews it; where it is lost, the database is queried a few seconds later."""
SYNC_MARGIN_MS = 86_400_000
"""After a period plus this without a known sync, the next one is due at once."""
MEMBER_COUNT_TTL_MS = 3_600_000
DINGTALK_CLOCK_TTL_MS = 600_000
"""Clocks that are not set drift by less than a second in this time; a second around midnight is left out."""
RULES_TTL_MS = 60_000
"""How long a worker's rules are shown without renewal."""
MINUTE_TTL_MS = 1_200_000
"""Longer than the minutes that are shown."""
SYNCED_TTL_MS = 30 * 86_400_000
VISIBLE_RANGE_TTL_MS = 86_400_000
"""Users are left out only after a newer range was read; users removed from the range since are
sent to as before, and DingTalk drops that."""
MEMBER_COUNTS = 5_000
"""Departments of an app whose sizes are kept; further ones are queried each time."""

SCHEDULE = PREFIX + "schedule"
"""Sorted set: waiting job → when it is due (ms). TTL: that of the record that lives longest, and a day more at most."""
RUNNING = PREFIX + "running"
"""Sorted set: running job → when its lease ends (ms). TTL: JOB_MARGIN_MS, renewed by each claim."""
QUEUES = PREFIX + "queues"
"""Set: queues that hold wake-ups. TTL: JOB_MARGIN_MS after each wake-up, and a day more at most."""
PRESENCE = PREFIX + "presence"
"""Hash: worker → its last sign of life. TTL: PRESENCE_TTL_MS."""
SERVED = PREFIX + "served"
"""Hash: an app, robot or group, such as ``app:hr`` → when a worker that serves it published it last (ms).

TTL: SERVED_TTL_MS; so long after its last publication a name is deleted, too."""
SCHEDULER = PREFIX + "scheduler"
"""String: the worker that is the scheduler. Its lease is its TTL."""
UNPUBLISHED = PREFIX + "unpublished"
"""Hash: the batch of wake-ups that the scheduler has not published yet. TTL: UNPUBLISHED_TTL_MS."""
RECENT = PREFIX + "recent"
"""Sorted set: the newest job ids by creation (ms), trimmed to RECENT_JOBS once a second."""
DEAD = PREFIX + "dead"
"""Sorted set: dead job ids by the time (ms) they died."""
BREAKERS = PREFIX + "breakers"
"""Sorted set: keys of open breakers → since when (µs). TTL: BREAKER_TTL_MS."""
OUTAGES = PREFIX + "outages"
"""Hash: where jobs wait for the end of an outage → when the last one came (ms). TTL: OUTAGE_TTL_MS."""
ENDED_OUTAGES = PREFIX + "ended-outages"
"""Sorted set: an outage that is over, as its breaker's key, since when (µs) and why in lines → its end (µs).

TTL: ENDED_OUTAGES_TTL_MS; so long after its end one is taken out, too."""
PAUSES = PREFIX + "pauses"
"""Hash: a lane that is paused, or a sender in it → its end, since when (ms), the person and the reason. TTL: PAUSE_TTL_MS."""
HELD = PREFIX + "held"
"""Set: pauses for whose end jobs are held. TTL: PAUSE_TTL_MS."""
BUCKETS = PREFIX + "buckets"
"""Sorted set: keys of buckets in use → when that was last noted (ms). TTL: 2 x BUCKET_TTL_MS."""
LANES = PREFIX + "lanes"
"""Sorted set: lanes in which jobs are parked → when the last one was (ms). TTL: WAITING_TTL_MS."""
KEY_BUCKETS = PREFIX + "key_buckets"
"""Sorted set: the same for the buckets of API keys. TTL: 2 x BUCKET_TTL_MS."""


ENDINGS = PREFIX + "endings"
"""Stream: jobs that ended, at most about MOST_ENDINGS that some reader has not read. TTL:
ENDINGS_TTL_MS, renewed by each."""
ENDINGS_READ = PREFIX + "endings-read"
"""Hash: reader → up to where it has read ENDINGS. TTL: ENDINGS_TTL_MS, renewed by each reading."""
DINGTALK_CLOCK = PREFIX + "dingtalk-clock"
"""Hash: how far DingTalk's clock is ahead of this server's (ms), between two bounds, and when that was read. TTL:
DINGTALK_CLOCK_TTL_MS, renewed by each reading."""
CAMPAIGNS = PREFIX + "campaigns"
"""String: another value whenever a campaign was started, paused, resumed, cancelled or deleted, so that
the database is asked at once. TTL: SIGNAL_TTL_MS."""
BACKLOG = PREFIX + "backlog"
"""String: what waits, and the month's calls, as the metrics show it (JSON). TTL: a minute; longer where
counting takes long."""
BACKLOG_READER = PREFIX + "backlog-reader"
"""String: a process counts, or has counted just now. TTL: 15 s; longer where counting takes long."""
DOCTOR = PREFIX + "doctor"
"""String: what the doctor writes to try Redis. TTL: 10 s."""
PROBE = PREFIX + "gateway-probe"
"""String: written by readiness probes, to see that Redis takes writes. TTL: PROBE_TTL_MS."""
TAKEN = PREFIX + "taken"
"""At the broker. Sorted set: marks and lists of taken messages → until when their workers have them (ms). As the messages, it has no TTL."""
REFUSED = PREFIX + "refused"
"""At the broker. List: texts in our queues that are no message for us, the newest first: a line with the moment (s)
and the queue, then the text. TTL: REFUSED_TTL_MS after the latest."""
DISPATCHER = PREFIX + "dispatcher"
"""String: the worker that carries campaigns on, writes the history, enqueues syncs on a schedule and deletes people
who left. Its lease is its TTL. Named as in 0.2.0, whose workers carry campaigns on by it."""


WEBHOOKS = PREFIX + "webhooks"
"""String: another value whenever an endpoint was added or changed, so that the database is asked at
once. TTL: SIGNAL_TTL_MS."""
WEBHOOK_LEADER = PREFIX + "webhook-leader"
"""String: the worker that passes notices on to endpoints. Its lease is its TTL."""
CAMPAIGNS_SETTLED = PREFIX + "campaigns-settled"
"""String: when the dispatcher last deleted records of chunks that SQL has settled (ms). TTL: ENDINGS_TTL_MS."""
HISTORY_WRITTEN = PREFIX + "history-written"
"""String: when the last job ended that the history has (ms). TTL: ENDINGS_TTL_MS."""


def job(job_id: str) -> str:
    """Hash: one job's record. TTL: due time + JOB_MARGIN_MS; ended 7 days, dead 30 days."""
    return f"{PREFIX}job:{job_id}"


def tombstone(job_id: str) -> str:
    """String: this job is over, though its record may be gone. TTL: TOMBSTONE_TTL_MS.

    For what was discarded, and for jobs whose message of another client could make them once more
    when their record, which lives more briefly than that, is gone.
    """
    return f"{PREFIX}tombstone:{job_id}"


def taken_marks(owner: str) -> str:
    """At the broker. Hash: number and queue → message of another client that a connection of a worker has taken.

    As in their queue, they have no TTL: they are acknowledged, or go back.
    """
    return f"{TAKEN}:{owner}"


def taken(owner: str, queue_name: str) -> str:
    """At the broker. List: the message for which one connection of a worker has waited, until it is marked.

    As in its queue, it has no TTL.
    """
    return f"{TAKEN}:{owner}:{queue_name}"


def woken(queue_name: str) -> str:
    """Sorted set: job → when its wake-up was published (ms), until it is started.

    TTL: JOB_MARGIN_MS after each wake-up, and a day more at most.
    """
    return f"{PREFIX}woken:{queue_name}"


def progress(queue_name: str) -> str:
    """Hash: how far a queue has been started, for detecting lost wake-ups. TTL: PROGRESS_TTL_MS."""
    return f"{PREFIX}progress:{queue_name}"


def alive(queue_name: str) -> str:
    """String: some worker serves this queue; `NEW` if none has had time to start what waits in it.

    TTL: seconds, renewed by the workers' heartbeat.
    """
    return f"{PREFIX}alive:{queue_name}"


NEW = 0
"""Value of `alive` while only new workers serve the queue."""


def bucket(scope: str, api: str, unit: str) -> str:
    """Hash: one rule's token bucket. TTL: BUCKET_TTL_MS and ten minutes at most, or the penalty if that is longer.

    `scope` is ``app:NAME``, ``egress:NAME`` or ``key:ID`` of an API key.
    """
    return f"{PREFIX}bucket:{scope}:{api}:{unit}"


def breaker(scope: str, name: str) -> str:
    """Hash: a circuit breaker, absent while all is well. TTL: SICK_TTL_MS; open BREAKER_TTL_MS.

    `scope` is ``app:NAME`` for one of its APIs, ``egress:NAME`` for a host as seen from there.
    """
    return f"{PREFIX}breaker:{scope}:{name}"


def hold(app: str, credentials: str) -> str:
    """Hash: why an app is held, as a breaker. TTL: BREAKER_TTL_MS.

    A key of its own for each pair of credentials (a digest): who corrects them need not wait.
    """
    return f"{PREFIX}hold:{app}:{credentials}"


def outage(name: str) -> str:
    """Sorted set: jobs that wait for the end of an outage, by lane and time. TTL: OUTAGE_TTL_MS.

    `name` is the app, the API and its host.
    """
    return f"{PREFIX}outage:{name}"


def held_jobs(pause: str) -> str:
    """Sorted set: jobs that are held for the end of a pause → when they were accepted. TTL: PAUSE_TTL_MS."""
    return f"{PREFIX}held:{pause}"


def turns(lane: str) -> str:
    """Sorted set: sender → what it has had while others waited, in seconds of the limit.

    It holds senders with parked jobs, and those that have had more than these. `lane` is the app, the
    API and the lane. TTL: WAITING_TTL_MS.
    """
    return f"{PREFIX}turns:{lane}"


def parked(lane: str, sender: str) -> str:
    """Sorted set: a sender's parked jobs → since when they wait (ms). TTL: WAITING_TTL_MS."""
    return f"{PREFIX}parked:{lane}:{sender}"


def waiting(app: str, content: str) -> str:
    """Sorted set: jobs that one call could carry and that do not run → their creation (ms).

    `content` is the digest that they share. TTL: WAITING_TTL_MS.
    """
    return f"{PREFIX}waiting:{app}:{content}"


def revoked(job_id: str) -> str:
    """String: the worker that was first to revoke this job, which is cancelled once it has a record; then empty.

    TTL: REVOKED_TTL_MS; a minute once it is empty.
    """
    return f"{PREFIX}revoked:{job_id}"


def in_turn(lane: str) -> str:
    """Sorted set: jobs that were woken for their turn, until they have their call → when (ms).

    TTL: a minute.
    """
    return f"{PREFIX}in_turn:{lane}"


def parked_content(app: str, content: str) -> str:
    """Hash: lane and sender → recipients of its last parked jobs of this content that share a call.

    TTL: BUCKET_TTL_MS.
    """
    return f"{PREFIX}parked-content:{app}:{content}"


def quota(organisation: str, month: str) -> str:
    """Hash: what is counted of a Beijing month (``2026-11``): calls, messages. TTL: QUOTA_TTL_MS."""
    return f"{PREFIX}quota:{organisation}:{month}"


def quota_reports(organisation: str, day: str) -> str:
    """Hash: process and counter → what it has reported of a Beijing day. TTL: QUOTA_REPORTS_TTL_MS."""
    return f"{PREFIX}quota-reports:{organisation}:{day}"


def token(app: str) -> str:
    """Hash: an app's access token. TTL: its validity."""
    return f"{PREFIX}token:{app}"


def token_failure(app: str, credentials: str) -> str:
    """String: how the last fetch with these credentials (a digest) failed. TTL: a minute at most.

    A key of its own for each pair of credentials: who corrects them need not wait.
    """
    return f"{PREFIX}token-failure:{app}:{credentials}"


def content(app: str, day: str, digest: str) -> str:
    """Hash: userid → job whose call brings this content to them on this Beijing day. TTL: DAY_TTL_MS.

    Once the call was answered, `received` has it.
    """
    return f"{PREFIX}content:{app}:{day}:{digest}"


def received(app: str, day: str) -> str:
    """Prefix of the counts of messages that people got on this Beijing day (`reservations.lua`). TTL: DAY_TTL_MS.

    ``…:{shard}`` is a hash: digest of a userid → work notifications, ``…:had:{shard}`` a set: digests of a
    content and a userid.
    """
    return f"{PREFIX}received:{app}:{day}"


def content_departments(app: str, day: str, digest: str) -> str:
    """Hash: department → job that sends this content to it on this Beijing day. TTL: DAY_TTL_MS."""
    return f"{PREFIX}content-departments:{app}:{day}:{digest}"


def everyone(app: str, day: str) -> str:
    """Hash: job that sends to everyone on this Beijing day → its content. TTL: DAY_TTL_MS."""
    return f"{PREFIX}everyone:{app}:{day}"


def form_schema(app: str, process_code: str) -> str:
    """String: the controls of an approval template, and when they were read (JSON).

    TTL: FORM_SCHEMA_TTL_MS, a minute if they could not be read for a passing reason.
    """
    return f"{PREFIX}form-schema:{app}:{process_code}"


def form_schema_reader(app: str, process_code: str) -> str:
    """String: a worker reads a template's controls now. TTL: FORM_SCHEMA_READER_TTL_MS."""
    return f"{PREFIX}form-schema-reader:{app}:{process_code}"


def approval_owner(instance_id: str) -> str:
    """String: since when (ms) the job that has this approval looked for it, and the job's id.

    Named as in 0.2.0, whose workers claim approvals beside ours. TTL: `record.longest_life_ms`, from the
    last look on.
    """
    return f"{PREFIX}adopted-instance:{instance_id}"


APPROVAL_MISSED_TTL_MS = 600_000
"""How long DingTalk may take to answer the creation of an approval after it sent an event of it."""


def approval_missed(app: str, instance_id: str) -> str:
    """String: an event named this approval before it was known to be followed."""
    return f"{PREFIX}approval-missed:{app}:{instance_id}"


def approval_sought(instance_id: str) -> str:
    """String: the job that has this approval looked for its own, and what its own call made may still appear.

    TTL: `settle_delay`.
    """
    return f"{PREFIX}approval-sought:{instance_id}"


def job_approval(job_id: str) -> str:
    """String: the approval instance that a job has; named as `approval_owner`. TTL: JOB_MARGIN_MS."""
    return f"{PREFIX}adopted-job:{job_id}"


def rules(worker: str) -> str:
    """String: the limits that a worker keeps, its lanes and its version (JSON). TTL: RULES_TTL_MS, renewed by it."""
    return f"{PREFIX}rules:{worker}"


def minute(number: int) -> str:
    """Hash: bucket, worker or endpoint → what it did in this minute since 1970. TTL: MINUTE_TTL_MS."""
    return f"{PREFIX}minute:{number}"


def scheduled_sync(app: str) -> str:
    """Hash: the app's latest sync by the schedule, and when it was enqueued (ms).

    TTL: the length of a period and SYNC_MARGIN_MS.
    """
    return f"{PREFIX}scheduled-sync:{app}"


def synced(app: str) -> str:
    """String: a user-sync has read the app's whole directory. TTL: SYNCED_TTL_MS."""
    return f"{PREFIX}synced:{app}"


def visible_range(app: str) -> str:
    """String: who sees an app, and when that was read (JSON). TTL: VISIBLE_RANGE_TTL_MS.

    An hour where DingTalk refuses to tell, a minute where it could not be asked.
    """
    return f"{PREFIX}visible-range:{app}"


def visible_range_readings(app: str) -> str:
    """String: how often the app's visible range was read since the first time in a day. TTL: a day."""
    return f"{PREFIX}visible-range-readings:{app}"


def member_count(app: str) -> str:
    """Hash: department → how many people it and all below hold. TTL: MEMBER_COUNT_TTL_MS."""
    return f"{PREFIX}members:{app}"


def idempotency(key_id: str, digest: str) -> str:
    """Hash: a request with an ``Idempotency-Key`` (its digest), the name of what it makes, and its answer.

    TTL: 24 hours, ``DINGRELAY_RECORD_TTL`` at most, from its first attempt on.
    """
    return f"{PREFIX}idempotency:{key_id}:{digest}"


def door_token(digest: str) -> str:
    """String: the API key that a token of the drop-in door was given to, a digest of its secret.

    TTL: DOOR_TOKEN_TTL_MS.
    """
    return f"{PREFIX}door-token:{digest}"


def door_nonce(key_id: str) -> str:
    """String: the random part of an API key's present token. TTL: DOOR_TOKEN_TTL_MS."""
    return f"{PREFIX}door-nonce:{key_id}"


def door_request(digest: str) -> str:
    """String: what makes the job of a change at the drop-in door, marked once that was answered.

    TTL: seconds once it was answered; until then DOOR_REQUEST_TTL_MS, and as long as the job may wait.
    """
    return f"{PREFIX}door-request:{digest}"


def door_latest(caller: str, app: str) -> str:
    """String: a digest of what a caller of the drop-in door changed last in an app. TTL: DOOR_REQUEST_TTL_MS."""
    return f"{PREFIX}door-latest:{caller}:{app}"


def door_task(key_id: str, task_id: str) -> str:
    """String: the job that a task id of the drop-in door stands for. TTL: DOOR_TASK_TTL_MS."""
    return f"{PREFIX}door-task:{key_id}:{task_id}"


def robot(digest: str) -> str:
    """String: a robot's token, which no record holds; empty if DingTalk does not know it.

    TTL: ROBOT_TTL_MS; ROBOT_UNKNOWN_TTL_MS if DingTalk does not know it.
    """
    return f"{PREFIX}robot:{digest}"


def robot_strangers(address: str) -> str:
    """String: tokens of robots never seen before that came from an address in this minute.

    TTL: ROBOT_POSTS_TTL_MS.
    """
    return f"{PREFIX}robot-strangers:{address}"


def robot_posts(digest: str) -> str:
    """String: messages to a robot that were taken in this window. TTL: ROBOT_POSTS_TTL_MS."""
    return f"{PREFIX}robot-posts:{digest}"


def media(app: str, digest: str) -> str:
    """String: DingTalk's id of a file that was uploaded for an app. TTL: MEDIA_TTL_MS.

    The digest is that of its type, name and content.
    """
    return f"{PREFIX}media:{app}:{digest}"


UPLOADS = f"{PREFIX}uploads"
"""Hash: files that wait at the drop-in door → their size, and until when each is stored. TTL: UPLOAD_TTL_MS."""


def upload(digest: str) -> str:
    """String: a form with a file that is to be uploaded. TTL: UPLOAD_TTL_MS, or until it is."""
    return f"{PREFIX}upload:{digest}"


def digests(target: str) -> str:
    """Hash: of a robot or group the digest that is open, that is being posted and since when, and when the last one was.

    TTL: DIGEST_TTL_MS.
    """
    return f"{PREFIX}digests:{target}"


def digest(name: str) -> str:
    """List: the messages of a digest, as JSON, until it is over. TTL: DIGEST_TTL_MS."""
    return f"{PREFIX}digest:{name}"


def digest_of(job: str) -> str:
    """String: the digest that carries a job's message. TTL: DIGEST_TTL_MS."""
    return f"{PREFIX}digest-of:{job}"


def digest_result(name: str) -> str:
    """String: what became of a digest, as JSON. TTL: DIGEST_TTL_MS."""
    return f"{PREFIX}digest-result:{name}"


def robot_query(query_key: str) -> str:
    """String: the job whose call DingTalk has given this key, for the events of it. TTL: ROBOT_TTL_MS."""
    return f"{PREFIX}robot-query:{query_key}"


def robot_session(name: str) -> str:
    """String: where a message to a robot can be replied to, as JSON. TTL: ROBOT_SESSION_TTL_MS."""
    return f"{PREFIX}robot-session:{name}"


def outbox_round(relay: str) -> str:
    """String: a relay of an application's outbox, for a round of it. Its lease is its TTL."""
    return f"{PREFIX}outbox-round:{relay}"


class PersonKey(NamedTuple):
    """The place of people in a key.

    Attributes:
        where: in which part of its value.
        kept: how long it is there at most, as the guide says it.
    """

    where: str
    kept: str


PEOPLE: Mapping[str, PersonKey] = {
    "job": PersonKey("what the types of its contract, its result and its steps say", "7 days"),
    "digest": PersonKey("mentions of its messages, whose jobs wait until it is over", "3 days"),
    "content": PersonKey("names of fields", "36 hours"),
    "received": PersonKey("names of fields: digests of userids", "36 hours"),
    "idempotency": PersonKey("`people`, as the types of its answer say", "24 hours"),
    "visible_range": PersonKey("`range.users`", "1 day"),
    "robot_session": PersonKey("`senderStaffId`", "30 days"),
    "upload": PersonKey("the file itself, which nothing searches", "15 minutes"),
    "PAUSES": PersonKey("who paused it, behind the moments", "7 days"),
    "REFUSED": PersonKey("texts that no worker can read, and nothing searches", "7 days"),
}
"""Name of a key here → where people stand in it."""
IMPERSONAL = frozenset(
    {
        "BACKLOG",
        "BACKLOG_READER",
        "BREAKERS",
        "BUCKETS",
        "CAMPAIGNS",
        "CAMPAIGNS_SETTLED",
        "DEAD",
        "DINGTALK_CLOCK",
        "DISPATCHER",
        "DOCTOR",
        "ENDED_OUTAGES",
        "ENDINGS",
        "ENDINGS_READ",
        "HELD",
        "HISTORY_WRITTEN",
        "KEY_BUCKETS",
        "LANES",
        "OUTAGES",
        "PRESENCE",
        "PROBE",
        "QUEUES",
        "RECENT",
        "RUNNING",
        "SCHEDULE",
        "SCHEDULER",
        "SERVED",
        "TAKEN",
        "UNPUBLISHED",
        "UPLOADS",
        "WEBHOOKS",
        "WEBHOOK_LEADER",
        "alive",
        "approval_missed",
        "approval_owner",
        "approval_sought",
        "breaker",
        "bucket",
        "content_departments",
        "digest_of",
        "digest_result",
        "digests",
        "door_latest",
        "door_nonce",
        "door_request",
        "door_task",
        "door_token",
        "everyone",
        "form_schema",
        "form_schema_reader",
        "held_jobs",
        "hold",
        "in_turn",
        "job_approval",
        "media",
        "member_count",
        "minute",
        "outage",
        "outbox_round",
        "parked",
        "parked_content",
        "progress",
        "quota",
        "quota_reports",
        "revoked",
        "robot",
        "robot_posts",
        "robot_query",
        "robot_strangers",
        "rules",
        "scheduled_sync",
        "synced",
        "taken",
        "taken_marks",
        "token",
        "token_failure",
        "tombstone",
        "turns",
        "visible_range_readings",
        "waiting",
        "woken",
    }
)
"""Keys that name no person: they hold numbers, digests, ids of jobs, and names of ours."""
