"""Traces as a collector sees them: real processes, and one that is away."""

import json
import time
from collections.abc import Iterator

import pytest
from opentelemetry import trace

from acceptance.fleet import Fleet, wait_for_ends
from conftest import wait_until
from dingrelay_producers import Client, State
from dingrelay_sandbox.admin import SandboxAdmin
from support.jobs import message
from support.traces import PARENT, TRACE, Collector, EndedSpan, collecting, kept, one, words

SEND = "POST /topapi/message/corpconversation/asyncsend_v2"
RUN, PUBLISH = "process dingrelay.message-send", "send dingrelay.message-send"


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collecting() as collector:
        yield collector


def exporting(collector: Collector) -> dict[str, str]:
    """The variables of a process that exports its spans soon."""
    return {
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
        "OTEL_BSP_SCHEDULE_DELAY": "100",
    }


def send(fleet: Fleet, *options: str, **env: str) -> str:
    """Enqueue a message on the command line; the job's id."""
    done = fleet.run("send", "--json", *options, **env)
    assert done.returncode == 0, done.stderr
    return str(json.loads(done.stdout)["id"])


def test_one_trace_from_the_command_line_through_a_worker_that_dies_to_dingtalk(
    fleet: Fleet, client: Client, sandbox: SandboxAdmin, collector: Collector
) -> None:
    sandbox.add_fault("error", api="/topapi/message", code="-1", count=1)
    env = exporting(collector)
    fleet.env |= {"DINGRELAY_LOG_FORMAT": "json"}
    job = send(fleet, "--to", "u1", "--text", "你好", TRACEPARENT=PARENT, **env)
    (first,) = fleet.spawn(**env)
    wait_until(lambda: client.status(job).attempts == 1, what="the first run is over")
    wait_until(lambda: collector.named(RUN), what="its span is at the collector")
    first.kill()
    fleet.spawn(**env)
    (status,) = wait_for_ends(client, [job], timeout=40)
    assert status.state == State.DONE
    wait_until(lambda: len(collector.named(RUN)) == 2, what="both runs are at the collector")
    wait_until(lambda: len(collector.named(SEND)) == 2, what="and both calls")

    publish = one(collector.named(PUBLISH))
    runs, calls = collector.named(RUN), collector.named(SEND)
    assert {span.trace for span in (publish, *runs, *calls)} == {TRACE}
    assert publish.parent == PARENT[36:52]
    assert {run.parent for run in runs} == {publish.id}
    assert [run.attributes["dingrelay.state"] for run in runs] == ["retrying", "done"]
    assert (publish.service, runs[0].service) == ("dingrelay", "dingrelay-worker")
    (made,) = status.result["calls"]
    taken = one(calls, lambda call: not call.failed)
    assert taken.attributes["dingtalk.request_id"] == made["request_id"]
    done = one_line(fleet, job)
    assert (done["trace_id"], done["span_id"]) == runs[1].place
    exported = words(collector.ended)
    assert not [each for each in ("你好", "access_token", *sandbox.tokens()) if each in exported]


def one_line(fleet: Fleet, job: str) -> dict[str, str]:
    """The line of a job that is done."""
    lines = [json.loads(line) for line in fleet.logs().splitlines() if line.startswith("{")]
    (found,) = [line for line in lines if line["event"] == "done" and line.get("id") == job]
    return found


def test_jobs_that_share_a_call_link_it_and_it_links_them(
    fleet: Fleet, client: Client, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = kept(monkeypatch)
    rules = '{"*": {"calls": "5/2s"}, "message.send": {"recipients": ""}}'
    with trace.get_tracer_provider().get_tracer("shop").start_as_current_span("orders"):
        jobs = [client.send(message(f"u{number}")).id for number in range(1, 13)]
    fleet.spawn(DINGRELAY_RULES=rules, **exporting(collector))
    assert {status.state for status in wait_for_ends(client, jobs, timeout=40)} == {State.DONE}
    wait_until(lambda: len(collector.named(RUN)) == 12, what="all runs are at the collector")
    orders = one(mine.named("orders"))
    sent = {span.id for span in mine.named(PUBLISH)}
    runs, calls = collector.named(RUN), collector.named(SEND)
    assert {run.trace for run in runs} == {orders.trace}
    assert {run.parent for run in runs} == sent
    shared = max(calls, key=lambda call: len(call.links))
    members = [run for run in runs if shared.place in run.links]
    assert len(members) > 2
    assert sorted(shared.links) == sorted(run.place for run in members)
    assert len(calls) < 12
    assert every_run_leads_to_a_call(runs, calls)


def every_run_leads_to_a_call(runs: list[EndedSpan], calls: list[EndedSpan]) -> bool:
    makers, places = {call.parent for call in calls}, {call.place for call in calls}
    return all(run.id in makers or places.intersection(run.links) for run in runs)


@pytest.mark.parametrize("behaves", ["silent", "refuses", "gone"])
def test_a_collector_that_is_away_costs_no_job_and_no_time_at_the_end(
    fleet: Fleet, client: Client, collector: Collector, behaves: str
) -> None:
    collector.behaves = behaves
    env = exporting(collector)
    if behaves == "gone":
        env["OTEL_EXPORTER_OTLP_ENDPOINT"] = "http://127.0.0.1:9"
    (worker,) = fleet.spawn(DINGRELAY_SOFT_SHUTDOWN="10", **env)
    jobs = [client.send(message(f"u{number}", text=f"第{number}条")).id for number in range(1, 9)]
    assert {status.state for status in wait_for_ends(client, jobs, timeout=40)} == {State.DONE}
    if behaves != "gone":
        wait_until(lambda: collector.requests, what="the collector was asked")
    began = time.monotonic()
    assert worker.stop() == 0
    # `soft_shutdown` and 5 s, and what a busy machine takes.
    assert time.monotonic() - began < 10 + 5 + 5
    log = worker.log.read_text()
    assert "Traceback" not in log
    assert log.count("traces can't be exported") <= 1
    if behaves == "refuses":
        assert log.count("traces can't be exported") == 1
