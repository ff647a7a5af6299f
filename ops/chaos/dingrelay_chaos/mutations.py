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
        first: the first seed to try: one that is known to show it.
    """

    name: str
    what: str
    file: str
    old: str
    new: str
    only: Sequence[str] = ()
    first: int = 1

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
_LUA = "producers/dingrelay_producers/store/lua"

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
        f"{_WORKERS}/jobs/job_approvals.py",
        "begin = min(since, self._now()) + offset - LOOK_BACK_MS",
        "begin = min(since, self._now())",
        (*_LOST_APPROVALS, "dingtalk_clock"),
        first=311,
    ),
    Mutation(
        "busy-means-not-done",
        "-1 to a call that creates an approval counts as certainly not carried out",
        f"{_WORKERS}/dingtalk/classify.py",
        'Row(Transient, "-1", "API §5.3, KB:0013, §11.2", ambiguous=True)',
        'Row(Transient, "-1", "API §5.3, KB:0013, §11.2")',
        ("approval", "sick_after_effect"),
        first=4,
    ),
    Mutation(
        "page-means-not-done",
        "a gateway's HTML page counts as certainly not carried out",
        f"{_WORKERS}/dingtalk/classify.py",
        'PAGE = Row(Transient, "", "API §11.2: a page of what stands before DingTalk", '
        "ambiguous=True)",
        'PAGE = Row(Transient, "", "API §11.2: a page of what stands before DingTalk")',
        ("approval", "sick_after_effect"),
        first=2,
    ),
    Mutation(
        "one-instance-for-two-jobs",
        "jobs with equal forms take the same approval",
        f"{_WORKERS}/store/lua/claim_approval.lua",
        "if holder ~= job_id then return began end",
        "",
        _LOST_APPROVALS,
        first=5,
    ),
    Mutation(
        "cancelled-after-the-effect",
        "a job that is cancelled after a lost answer says that nothing happened",
        f"{_LUA}/endings.lua",
        "local open = lost ~= '' and redis.call('HEXISTS', record, 'intent') == 1",
        "local open = false",
        ("send", "approval", "cancel", "lost_answer", "sick_after_effect"),
        first=2,
    ),
    Mutation(
        "expired-after-the-effect",
        "a job whose time ends after a lost answer says that nothing happened",
        f"{_WORKERS}/jobs/executor.py",
        "outcome.expired(open_call=run.intents.open)",
        "outcome.expired(open_call=False)",
        ("expiring", "lost_answer", "sick_after_effect", "kill"),
        first=4,
    ),
    Mutation(
        "expires-by-the-workers-clock",
        "a worker whose clock is fast lets jobs expire before their time",
        f"{_WORKERS}/store/claim.py",
        "self.expires <= self.time.at",
        'self.expires <= __import__("time").time() * 1000',
        ("expiring", "slow"),
        first=5,
    ),
    Mutation(
        "refused-secret-kills-jobs",
        "a job that meets a refused secret dies of it, instead of waiting until it is mended",
        f"{_WORKERS}/dingtalk/errors.py",
        "class Credentials(Held):",
        "class Credentials(DingTalkError):",
        ("send", "approval", "credentials"),
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
        "a-retry-is-another-alert",
        "a program that has lost the answer to its alert posts another one by asking again",
        f"{_LUA}/door.lua",
        "if name and name ~= over and not (answered and passed) then",
        "if false then",
        ("alert", "gateway_kill", "gateway_suspend"),
    ),
)
