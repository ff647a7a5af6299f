"""Jobs of any kind from a stream of JSON lines, in constant memory."""

import json
import sys
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import count
from queue import Empty, Queue
from threading import Thread
from typing import BinaryIO, cast

import typer

from dingrelay_producers.cli.media import Uploads, parsed
from dingrelay_producers.cli.output import as_json, console, print_json
from dingrelay_producers.cli.shared import value_of
from dingrelay_producers.cli.waiting import wait_for_all
from dingrelay_producers.client.client import Client
from dingrelay_producers.client.job_ref import JobRef
from dingrelay_producers.errors import (
    IdempotencyConflict,
    InvalidArgument,
    NotPermitted,
    QueueFull,
    UploadFailed,
)
from dingrelay_producers.exit_codes import DONE, NOT_ENDED, OTHERWISE
from dingrelay_producers.language import tr
from dingrelay_producers.publisher import BATCH
from dingrelay_producers.settings import DEFAULT_APP
from dingrelay_producers.store.record import canonical_json
from dingrelay_producers.store.states import State
from dingrelay_tasks.contract import LARGEST_JOB, Contract, ContractError, check_size
from dingrelay_tasks.kinds import DEFAULT_KIND, public_kind
from dingrelay_tasks.sentence import en, not_json

AHEAD = 1_000
"""Lines in memory that are read and not handed out."""
LONGEST = 8_000_000
"""Bytes of a line at most: a job may have 1 MB, and JSON may spell each of its characters in six."""


OPTIONS = {"send_at": "--at", "expires_at": "--expires"}
"""Fields that an option of another name gives."""

JobLine = tuple[int, str]
"""The number of a line, from 1 on, and its text."""


class LineError(ContractError):
    """A line that is wrong.

    Attributes:
        number: the line's, from 1 on.
    """

    def __init__(
        self, number: int, field: str, problem: str, others: Sequence[ContractError] = ()
    ) -> None:
        place = en("line {}: {}", number, field) if field else en("line {}", number)
        super().__init__(place, problem, others=others)
        self.number = number


def send_jobs(
    lines: BinaryIO,
    *,
    first: int,
    defaults: Mapping[str, object],
) -> None:
    """Enqueue each line's job; with ``--json``, print the id of each once it is accepted; with ``--wait``, wait for all.

    A line is enqueued as soon as it is read, together with those that are already there.

    Args:
        lines: one JSON object each.
        first: the number of the first line that counts; those before it are passed over.
        defaults: fields for lines that do not give them.

    Raises:
        LineError: a line is wrong, or its key another job's. All before it are accepted, and it is
            printed how to go on.
        ServiceUnavailable: Redis can't be reached.
        Exit: with ``--wait``, unless all jobs are done.
    """
    progress = _Progress(first, keep=bool(value_of("wait")))
    with Client() as client:
        uploads = Uploads(client)
        try:
            for batch in batches(lines, first, BATCH):
                _send(client, batch, defaults, uploads, progress)
        except BaseException:
            console(stderr=True).print(progress, highlight=False)
            raise
        console(stderr=True).print(tr("{count} jobs accepted", count=progress.count))
        if value_of("wait"):
            states = wait_for_all(progress.refs)
            counts = ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
            console(stderr=True).print(counts or tr("nothing to wait for"))
            if not all(state.ended for state in states):
                raise typer.Exit(NOT_ENDED)
            raise typer.Exit(DONE if set(states) <= {State.DONE} else OTHERWISE)


class _Progress:
    """The number of accepted jobs, and how to go on after an error."""

    def __init__(self, first: int, *, keep: bool) -> None:
        self.count = 0
        self.refs: list[JobRef] = []
        self.next = first
        self.unsure = 0
        self._keep = keep

    def accept(self, refs: Sequence[JobRef], following: int) -> None:
        """These are accepted; `following` is the line after them.

        They are kept only if they will be waited for. They count before they are printed: the reader
        of the ids may be gone.
        """
        self.count += len(refs)
        self.next = following
        self.unsure = 0
        if self._keep:
            self.refs += refs
        if as_json.get():
            for ref in refs:
                print_json({"id": ref.id})

    def __str__(self) -> str:
        line = tr(
            "{count} jobs accepted; to go on, give --from {next}", count=self.count, next=self.next
        )
        if self.unsure:
            line += tr(
                " (lines up to {unsure} may be accepted already; a line with a key makes no second job)",
                unsure=self.unsure,
            )
        return line


def _send(
    client: Client,
    batch: list[JobLine],
    defaults: Mapping[str, object],
    uploads: Uploads,
    progress: _Progress,
) -> None:
    """Enqueue the jobs of one batch, or of those before a line that is wrong."""
    jobs: dict[int, Contract] = {}
    wrong: LineError | None = None
    for number, text in batch:
        try:
            if not text.isspace():
                with _of_line(number):
                    job = _job(text, defaults, uploads)
                    client.check(job)
                    jobs[number] = job
        except LineError as error:
            wrong = error
            break
    sent: list[JobRef] = []
    last = max(jobs, default=0)
    # Whatever ends the request, Ctrl-C as well, ends it before its answer.
    progress.unsure = last
    try:
        client.send_many(jobs.values(), on_sent=sent.append)
    except IdempotencyConflict as error:
        progress.accept(sent, last + 1)
        raise LineError(
            list(jobs)[error.place or 0],
            "idempotency_key",
            en(
                "already used by job {} with another payload; the lines after it, up to {}, "
                "are accepted, but for any whose key is taken as well",
                error.job_id,
                last,
            ),
        ) from None
    except (ContractError, NotPermitted, QueueFull):
        progress.unsure = 0
        raise
    progress.accept(sent, wrong.number if wrong else batch[-1][0] + 1)
    if wrong:
        raise wrong


@contextmanager
def _of_line(number: int) -> Generator[None]:
    """Turns errors of a job into those of its line."""
    try:
        yield
    except ContractError as error:
        raise LineError(number, error.field, error.problem, error.others) from None
    except (InvalidArgument, UploadFailed) as error:
        raise LineError(number, "message", str(error)) from None


def _job(text: str, defaults: Mapping[str, object], uploads: Uploads) -> Contract:
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ContractError("", not_json(error)) from None
    if not isinstance(fields, dict):
        raise ContractError("", "must be a JSON object")
    job = cast("dict[str, object]", fields)
    kind = public_kind(job.pop("kind", DEFAULT_KIND))
    for field, value in defaults.items():
        if field not in kind.contract.model_fields:
            option = OPTIONS.get(field, f"--{field.replace('_', '-')}")
            problem = en("{} has no such field, so {} can't give it", kind.name, option)
            raise ContractError(field, problem)
        if job.get(field) is None:
            job[field] = value
    contract = parsed(job, kind.contract.parse, uploads.of(str(job.get("app") or DEFAULT_APP)))
    if len(text) > LARGEST_JOB // 4:
        check_size(job, canonical_json(job))
    return contract


def batches(lines: BinaryIO, first: int, most: int) -> Iterator[list[JobLine]]:
    """The lines from number `first` on, up to `most` at once.

    Raises:
        LineError: a line is not UTF-8, or too long; those before it have been handed out.
    """
    arriving: Queue[JobLine | Exception | None] = Queue(AHEAD)
    # A pipe may be silent for hours: its reader must not keep the process when Ctrl-C ends it. Nor must it hold the lock
    # of the interpreter's own standard input, which that takes as it ends.
    if sys.__stdin__ and lines is sys.__stdin__.buffer:
        lines = open(lines.fileno(), "rb", closefd=False)  # noqa: SIM115 - the thread has it until the end
    Thread(target=_read, args=(lines, first, arriving), daemon=True).start()
    end: JobLine | Exception | None = (0, "")
    while isinstance(end, tuple):
        batch: list[JobLine] = []
        end = arriving.get()
        while isinstance(end, tuple):
            batch.append(end)
            if len(batch) == most:
                break
            try:
                end = arriving.get_nowait()
            except Empty:
                break
        if batch:
            yield batch
    if end is not None:
        raise end


def _read(lines: BinaryIO, first: int, arriving: Queue[JobLine | Exception | None]) -> None:
    try:
        for line in _numbered(lines, first):
            arriving.put(line)
    except Exception as error:  # noqa: BLE001 - raised where the lines are used
        arriving.put(error)
    else:
        arriving.put(None)


def _numbered(lines: BinaryIO, first: int) -> Iterator[JobLine]:
    for number in count(1):
        line = lines.readline(LONGEST)
        if not line:
            return
        if len(line) == LONGEST:
            raise LineError(number, "", en("is longer than {:,} bytes", LONGEST))
        if number >= first:
            yield number, _text(number, line)


def _text(number: int, line: bytes) -> str:
    try:
        return line.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError:
        raise LineError(number, "", "is not UTF-8") from None
