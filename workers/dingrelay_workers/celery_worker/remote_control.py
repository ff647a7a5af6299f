"""Commands of Flower and ``celery control``, whose answers by Celery do not fit."""

from typing import Any

from celery.utils.functional import maybe_list
from celery.worker.control import control_command

from dingrelay_workers.celery_worker.event_loop import Runtime

Reply = dict[str, str]


def install(runtime: Runtime) -> None:
    """Answer these commands in place of Celery."""

    @control_command(name="revoke", variadic="task_id", signature="[id1 [id2 [... [idN]]]]")  # type: ignore[untyped-decorator]
    def revoke(state: Any, task_id: Any, **_: Any) -> Reply:
        """Cancel jobs: one that runs is not tried again, and makes no further call."""
        ids = {str(job_id) for job_id in maybe_list(task_id) or []}
        dispatcher = state.consumer.event_dispatcher

        def report(job_id: str) -> None:
            if dispatcher:
                gone = {"terminated": False, "signum": None, "expired": False}
                dispatcher.send("task-revoked", uuid=job_id, **gone)

        runtime.submit(lambda executor: executor.resources.revocations.revoke(ids, report))
        return {"ok": f"cancelling {', '.join(sorted(ids))}"}

    @control_command(
        name="terminate",
        variadic="task_id",
        args=[("signal", str)],
        signature="<signal> [id1 [id2 [... [idN]]]]",
    )  # type: ignore[untyped-decorator]
    def terminate(state: Any, signal: Any, task_id: Any, **_: Any) -> Reply:
        """As revoke: a signal would end all jobs of the process."""
        reply: Reply = revoke(state, task_id)
        return reply

    @control_command(
        name="time_limit",
        args=[("task_name", str), ("soft", float), ("hard", float)],
        signature="<task_name> <soft_secs> [hard_secs]",
    )  # type: ignore[untyped-decorator]
    def time_limit(_: Any, **__: Any) -> Reply:
        """Refused: the time of a job is a setting."""
        return {"error": "set DINGRELAY_JOB_TIMEOUT, the seconds that one run of a job may take"}

    @control_command(
        name="rate_limit",
        args=[("task_name", str), ("rate_limit", str)],
        signature="<task_name> <rate_limit (e.g., 5/s | 5/m | 5/h)>",
    )  # type: ignore[untyped-decorator]
    def rate_limit(_: Any, **__: Any) -> Reply:
        """Refused: this one would count in this worker only, beside the fleet's limits."""
        return {"error": "set [rules]: they hold for all workers together"}

    @control_command(
        name="autoscale",
        args=[("max", int), ("min", int)],
        signature="[max [min]]",
    )  # type: ignore[untyped-decorator]
    def autoscale(_: Any, **__: Any) -> Reply:
        """Refused: a job that waits costs a worker hardly anything."""
        return {"error": "grow the pool, or start another worker"}
