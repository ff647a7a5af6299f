"""Mends, taken out again one by one: chaos must notice each of them.

A mutation replaces a text of one source file in a copy of the source tree. It is kept as text, not
as a patch of objects, so that it can be about Lua, too, and reads like the diff of a bad change.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
"""The top of the source tree."""
PACKAGES = (
    "tasks/dingrelay_tasks",
    "producers/dingrelay_producers",
    "workers/dingrelay_workers",
    "ops/sandbox/dingrelay_sandbox",
    "ops/chaos/dingrelay_chaos",
)
"""What a run needs of the source tree."""


@dataclass(frozen=True, slots=True)
class Mutation:
    """One behaviour taken out.

    Attributes:
        name: for the command line.
        what: what is wrong then, in one sentence.
        file: the source file, from the top of the tree.
        old: a text that is in it once.
        new: what stands there instead.
        only: operations and faults that show it; drawing nothing else saves runs.
    """

    name: str
    what: str
    file: str
    old: str
    new: str
    only: Sequence[str] = ()

    @property
    def applies(self) -> bool:
        """Whether the source still has the text, once."""
        return (ROOT / self.file).read_text("utf-8").count(self.old) == 1

    def apply(self, tree: Path) -> None:
        """Replace the text in a copy of the tree.

        Raises:
            ValueError: the source has changed, and the mutation has to follow it.
        """
        path = tree / self.file
        text = path.read_text("utf-8")
        if text.count(self.old) != 1:
            raise ValueError(f"{self.name}: its text is not in {self.file} exactly once")
        path.write_text(text.replace(self.old, self.new), "utf-8")


_LOST_APPROVALS = ("approval", "equal_approval", "lost_answer", "sick_after_effect")
_WORKERS = "workers/dingrelay_workers"
_LUA = "producers/dingrelay_producers/lua"

MUTATIONS: tuple[Mutation, ...] = (
    Mutation(
        "forms-compared-as-text",
        "an approval that exists is not recognised in the form that DingTalk tells",
        f"{_WORKERS}/dingtalk/approval_form.py",
        "def _compare(sent: str, control: Control) -> Comparison:\n",
        "def _compare(sent: str, control: Control) -> Comparison:\n"
        "    if sent != control.value:\n        return DIFFERENT\n",
        _LOST_APPROVALS,
    ),
    Mutation(
        "clocks-not-compared",
        "approvals are looked up from a moment of our clock on, whatever DingTalk's is",
        f"{_WORKERS}/job_context.py",
        "begin = min(since, self._now()) + offset - LOOK_BACK_MS",
        "begin = min(since, self._now())",
        (*_LOST_APPROVALS, "dingtalk_clock"),
    ),
    Mutation(
        "busy-means-not-done",
        "-1 to a call that creates an approval counts as certainly not carried out",
        f"{_WORKERS}/dingtalk/classify.py",
        'Row(Transient, "-1", "API §5.3, KB:0013, §11.2", max_attempts=3, ambiguous=True)',
        'Row(Transient, "-1", "API §5.3, KB:0013, §11.2", max_attempts=3)',
        ("approval", "sick_after_effect"),
    ),
    Mutation(
        "page-means-not-done",
        "a gateway's HTML page counts as certainly not carried out",
        f"{_WORKERS}/dingtalk/classify.py",
        'PAGE = Row(Transient, "", "API §11.2: a page of what stands before DingTalk", '
        "ambiguous=True)",
        'PAGE = Row(Transient, "", "API §11.2: a page of what stands before DingTalk")',
        ("approval", "sick_after_effect"),
    ),
    Mutation(
        "one-instance-for-two-jobs",
        "jobs with equal forms adopt the same approval",
        f"{_WORKERS}/lua/adopt.lua",
        "if holder ~= job_id then return began end",
        "",
        _LOST_APPROVALS,
    ),
    Mutation(
        "reservation-counts-as-sent",
        "a message that another job only meant to send is called a duplicate",
        f"{_LUA}/reservations.lua",
        "return state == 'running' and 'runs' or 'free'",
        "return 'sent'",
        ("send", "equal_content", "cancel", "throttle", "lost_answer", "outage"),
    ),
    Mutation(
        "cancelled-after-the-effect",
        "a job that is cancelled after a lost answer says that nothing happened",
        f"{_LUA}/cancelled.lua",
        "local open = lost ~= '' and redis.call('HEXISTS', record, 'calling') == 1",
        "local open = false",
        ("send", "approval", "cancel", "lost_answer", "sick_after_effect"),
    ),
    Mutation(
        "expired-after-the-effect",
        "a job whose time ends after a lost answer says that nothing happened",
        f"{_WORKERS}/pipeline.py",
        "outcome.expired(open_call=run.caller.open_call)",
        "outcome.expired(open_call=False)",
        ("expiring", "lost_answer", "sick_after_effect", "kill"),
    ),
    Mutation(
        "expires-by-the-workers-clock",
        "a worker whose clock is fast lets jobs expire before their time",
        f"{_WORKERS}/records.py",
        "self.expires <= self.time.at",
        'self.expires <= __import__("time").time() * 1000',
        ("expiring", "slow"),
    ),
    Mutation(
        "moved-counts-as-left",
        "whoever moves while a walk is under way is marked as left, without asking for them",
        "tasks/dingrelay_tasks/user_sync.py",
        "                member = await ctx.contacts.user(userid)\n            except OutOfScope:\n"
        "                hidden.append(userid)\n",
        "                member = None\n            except OutOfScope:\n"
        "                hidden.append(userid)\n",
        ("sync", "organisation", "slow"),
    ),
    Mutation(
        "full-redis-loses-messages",
        "a bare client's message that Redis can't record is acknowledged and gone",
        f"{_WORKERS}/patience.py",
        "if not passes(error) or over():",
        "if error or over():",
        ("bare", "valkey_full", "valkey_read_only"),
    ),
    Mutation(
        "refused-secret-kills-jobs",
        "a job that meets a refused secret dies of it, instead of waiting until it is mended",
        f"{_WORKERS}/limiter/lua/sick.lua",
        "if what == 'held' then",
        "if what == 'never' then",
        ("send", "approval", "credentials"),
    ),
    Mutation(
        "an-outage-costs-attempts",
        "no breaker opens, and a job dies of an outage of some seconds",
        f"{_WORKERS}/limiter/lua/sick.lua",
        "if sick >= needed and jobs",
        "if false and jobs",
        ("send", "sync", "sick_before_effect", "outage"),
    ),
    Mutation(
        "refusal-clears-an-earlier-call",
        "a throttle after a lost answer counts as if nothing had been sent before",
        f"{_WORKERS}/caller.py",
        "and not isinstance(error, Ambiguous) and not open_before:",
        "and not isinstance(error, Ambiguous):",
        ("send", "cancel", "approval", "lost_answer", "sick_after_effect", "throttle"),
    ),
    Mutation(
        "requeued-leaves-early",
        "a job that is requeued forgets the time before which it must not leave",
        f"{_LUA}/requeue.lua",
        "local due = math.max(now, not_before or 0)",
        "local due = now",
        ("later", "cancel", "requeue"),
    ),
    Mutation(
        "claims-are-not-compared",
        "a worker that was stopped goes on with a job that another one has taken over",
        f"{_WORKERS}/lua/note.lua",
        "if known[1] ~= 'running' or known[2] ~= owner or known[3] ~= fence then return 'lost' end",
        "",
        ("approval", "suspend", "sick_before_effect"),
    ),
    Mutation(
        "lost-wake-ups-stay-lost",
        "a job whose wake-up a restarted Redis or a killed worker took along never runs",
        f"{_WORKERS}/lua/sweep.lua",
        "local function find_lost(queue, room)\n",
        "local function find_lost(queue, room)\n  if queue then return 0 end\n",
        ("send", "later", "kill", "valkey_restart"),
    ),
    Mutation(
        "started-campaign-not-found",
        "a campaign whose start was not heard in Redis never runs",
        f"{_WORKERS}/campaigns/duty.py",
        "ASK = 3.0",
        "ASK = 3600.0",
        ("campaign", "valkey_full", "valkey_read_only"),
    ),
    Mutation(
        "small-recipients-rule",
        "a rule of a hundred recipients or less lets through twice as many",
        f"{_WORKERS}/limiter/rules.py",
        "return max(1, self.limit // 2)",
        "return self.limit",
        ("departments", "campaign", "send_many"),
    ),
    Mutation(
        "late-calls-not-charged",
        "calls that were delayed together break the recipients' minute in silence",
        f"{_WORKERS}/limiter/limiter.py",
        "if rule and self.stale(grant):",
        "if rule and False:",
        ("send", "send_many", "campaign", "slow"),
    ),
)
