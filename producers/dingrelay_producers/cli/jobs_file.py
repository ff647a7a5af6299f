"""Jobs of any kind from a stream of JSON lines, in constant memory."""

import json
from collections.abc import Iterator
from typing import TextIO, cast

import typer

from dingrelay_producers.cli.exits import DONE, OTHERWISE
from dingrelay_producers.cli.output import console, print_json
from dingrelay_producers.cli.waiting import wait_for_all
from dingrelay_producers.client.client import Client, JobRef
from dingrelay_producers.store.record import canonical_json
from dingrelay_producers.store.states import State
from dingrelay_tasks.contract import LARGEST_JOB, Contract, ContractError, check_size
from dingrelay_tasks.kinds import KINDS

DEFAULT_KIND = "message-send"


def send_jobs(lines: TextIO, *, wait: bool, timeout: float, as_json: bool) -> None:
    """Enqueue each line's job; as JSON, print the id of each once it is accepted.

    Raises:
        ContractError: a line is wrong; how many jobs before it were accepted is printed.
        Exit: with `wait`, unless all jobs are done.
    """
    accepted = _Accepted(keep=wait, as_json=as_json)
    with Client() as client:
        try:
            client.send_many(_jobs(lines), on_sent=accepted.add)
        finally:
            console(stderr=True).print(f"{accepted.count} jobs accepted")
        if wait:
            states = wait_for_all(accepted.refs, timeout)
            told = ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
            console(stderr=True).print(told or "nothing to wait for")
            raise typer.Exit(DONE if set(states) <= {State.DONE} else OTHERWISE)


class _Accepted:
    """Counts the accepted jobs, and keeps them only if they will be waited for."""

    def __init__(self, *, keep: bool, as_json: bool) -> None:
        self.count = 0
        self.refs: list[JobRef] = []
        self._keep = keep
        self._as_json = as_json

    def add(self, ref: JobRef) -> None:
        self.count += 1
        if self._keep:
            self.refs.append(ref)
        if self._as_json:
            print_json({"id": ref.id})


def _jobs(lines: TextIO) -> Iterator[Contract]:
    number = 0
    try:
        for number, line in enumerate(lines, 1):
            if not line.isspace():
                yield _job(number, line)
    except UnicodeDecodeError:
        raise ContractError(f"line {number + 1}", "is not UTF-8") from None


def _job(number: int, line: str) -> Contract:
    try:
        fields = json.loads(line)
    except ValueError as error:
        raise ContractError(f"line {number}", f"is not JSON: {error}") from None
    if not isinstance(fields, dict):
        raise ContractError(f"line {number}", "must be a JSON object")
    job = cast("dict[str, object]", fields)
    name = job.pop("kind", DEFAULT_KIND)
    kind = KINDS.get(name) if isinstance(name, str) else None
    if kind is None or kind.internal:
        known = ", ".join(sorted(kind.name for kind in KINDS.values() if not kind.internal))
        raise ContractError(f"line {number}: kind", f"must be one of {known}")
    try:
        contract = kind.contract.parse(job)
        if len(line) > LARGEST_JOB // 4:
            check_size(job, canonical_json(job))
    except ContractError as error:
        raise ContractError(f"line {number}: {error.field}", error.problem) from None
    return contract
