"""``python -m dingrelay_chaos.mutations``: fixes, undone one by one; chaos must notice each of them.

A mutation replaces a text of one source file in a copy of the source tree, and seeds are run on the copy
until one fails. The same seed must hold on the source as it is. A mutation is text, not a patch of
objects, so that it can be about Lua, too, and reads like the diff of a bad change.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

SEEDS = 6
SECONDS = 20.0
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
        "an approval that exists is not recognised in the form that DingTalk returns",
        f"{_WORKERS}/dingtalk/approval_form.py",
        "def _compare(sent: str, control: Control) -> Comparison:\n",
        "def _compare(sent: str, control: Control) -> Comparison:\n"
        "    if sent != control.value:\n        return DIFFERENT\n",
        _LOST_APPROVALS,
    ),
    Mutation(
        "clocks-not-compared",
        "approvals are looked up from a moment of our clock on, whatever DingTalk's is",
        f"{_WORKERS}/jobs/context.py",
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


def main() -> int:
    """Try the mutations; 1 if one is not noticed."""
    options = _options()
    by_name = {each.name: each for each in MUTATIONS}
    chosen = [by_name[name] for name in options.names or by_name]
    with ThreadPoolExecutor(options.jobs) as pool:
        noticed = list(pool.map(partial(_noticed, options), chosen))
    print(f"{sum(noticed)} of {len(chosen)} mutations are noticed")
    return 0 if all(noticed) else 1


def _noticed(options: argparse.Namespace, mutation: Mutation) -> bool:
    with tempfile.TemporaryDirectory(prefix="dingrelay-mutant-") as name:
        tree = Path(name)
        for package in (*PACKAGES, "ops/chaos/clock"):
            shutil.copytree(ROOT / package, tree / package)
        mutation.apply(tree)
        first = mutation.first if options.seed is None else options.seed
        for seed in range(first, first + options.seeds):
            began = time.monotonic()
            failure = _failure(tree, seed, options.seconds, mutation.only)
            took = time.monotonic() - began
            if failure is None:
                continue
            clean = _failure(ROOT, seed, options.seconds, mutation.only)
            word = "seed" if clean is None else "BUT the source fails, too, at seed"
            print(
                f"{mutation.name}: noticed by {word} {seed} in {took:.0f} s: {failure}", flush=True
            )
            if clean is None:
                return True
    print(f"{mutation.name}: not noticed in {options.seeds} seeds ({mutation.what})", flush=True)
    return False


def _failure(tree: Path, seed: int, seconds: float, only: Sequence[str]) -> str | None:
    """The first violation of a seed on a tree; None if it holds."""
    folders = [tree / Path(package).parent for package in PACKAGES]
    command = [sys.executable, "-m", "dingrelay_chaos", "--seed", str(seed)]
    ran = subprocess.run(
        [*command, "--seconds", f"{seconds:g}", "--only", *only],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, folders))},
        cwd=tree,
        capture_output=True,
        text=True,
        check=False,
    )
    if ran.returncode == 0:
        return None
    found = [line.strip() for line in ran.stdout.splitlines() if "invariant " in line]
    return found[0] if found else (ran.stdout + ran.stderr)[-300:]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make chaos-mutations", description=__doc__)
    parser.add_argument("names", nargs="*", help="which mutations; all if none is named")
    parser.add_argument("--seed", type=int, help="the first; each one's own if not given")
    parser.add_argument("--seeds", type=int, default=SEEDS, help="how many at most")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of each seed")
    parser.add_argument("--jobs", type=int, default=1, help="mutations at once")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
