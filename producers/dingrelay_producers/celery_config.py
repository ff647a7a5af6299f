"""Celery's settings, the same for whoever publishes and whoever consumes."""

from typing import Any

from kombu.entity import Exchange, Queue

from dingrelay_producers.settings import Settings

QUEUES = ("dingrelay.urgent", "dingrelay.normal", "dingrelay.bulk", "dingrelay.directory")
"""One queue a lane, and one for user-sync, so that each can have workers of its own."""

SOCKET_TIMEOUT = 5
"""Seconds. Without it a worker hangs for ever on a connection that is silent but not closed."""
PRODUCER_TIMEOUT = 2
"""Seconds that whoever sends a job may wait for the broker: the job is accepted already."""
HEALTH_CHECK = 5
"""Seconds between PINGs on a connection that waits for messages: how a silent one is noticed."""


def celery_config(settings: Settings, *, timeout: float = SOCKET_TIMEOUT) -> dict[str, Any]:
    """The configuration of a Celery app of dingrelay.

    Args:
        settings: where the broker is.
        timeout: seconds to wait for the broker.
    """
    return {
        "broker_url": settings.broker,
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        "broker_connection_timeout": timeout,
        # What a full, demoted or starting Redis answers; Celery would end the worker over it.
        "broker_channel_error_retry": True,
        "broker_transport_options": _transport_options(settings, timeout),
        # As Celery itself would make a queue of that name, so that a client without this
        # configuration publishes to the same one.
        "task_queues": [Queue(name, Exchange(name), routing_key=name) for name in QUEUES],
        "task_default_queue": "dingrelay.normal",
        # JSON only: a pickle from whoever can write to the broker would run code.
        "task_serializer": "json",
        "accept_content": ["json"],
        "result_accept_content": ["json"],
        # The record is the result; Celery's own backend would be a second truth.
        "task_ignore_result": True,
        "result_backend": None,
        # The message outlives the worker that took it.
        "task_acks_late": True,
        "task_reject_on_worker_lost": True,
        "worker_prefetch_multiplier": 1,
        # Flower shows what happens from these events.
        "worker_send_task_events": True,
        "task_send_sent_event": True,
        "worker_soft_shutdown_timeout": settings.soft_shutdown,
        "worker_enable_remote_control": True,
        "worker_hijack_root_logger": False,
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        "enable_utc": True,
        "timezone": "UTC",
    }


def _transport_options(settings: Settings, timeout: float) -> dict[str, Any]:
    if not settings.broker.startswith(("redis", "sentinel")):
        return {}
    return {
        # Leases bring back a dead worker's jobs; this only clears what Celery still holds.
        "visibility_timeout": 3600,
        "unacked_restore_interval": 5,
        "unacked_restore_throttle": 1,
        "socket_timeout": timeout,
        "socket_connect_timeout": timeout,
        "socket_keepalive": True,
        "health_check_interval": HEALTH_CHECK,
        # One list a queue: order within a lane is first in, first out.
        "priority_steps": [0],
        "queue_order_strategy": "priority",
    }
