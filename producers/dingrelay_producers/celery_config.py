"""Celery's settings, the same for publishers and consumers."""

import ssl
from typing import Any
from urllib.parse import quote, urlsplit

from kombu.entity import Exchange, Queue

from dingrelay_producers.redis_address import HEALTH_CHECK, SOCKET_TIMEOUT, TLS_OPTION, RedisAddress
from dingrelay_producers.settings import Settings
from dingrelay_tasks.contract import QUEUES


def celery_config(settings: Settings, *, timeout: float = SOCKET_TIMEOUT) -> dict[str, Any]:
    """The configuration of a Celery app of dingrelay.

    Args:
        settings: where the broker is.
        timeout: seconds to wait for the broker.
    """
    tls = _broker_tls(settings)
    return {
        "broker_url": _broker_url(settings),
        "broker_use_ssl": tls,
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        "broker_connection_timeout": timeout,
        # Answers of a full, demoted or starting Redis; Celery would end the worker over them.
        "broker_channel_error_retry": True,
        "broker_transport_options": _transport_options(settings, timeout)
        | ({TLS_OPTION: tls} if tls else {}),
        # As Celery itself would make a queue of that name, so that a client without this
        # configuration publishes to the same one.
        "task_queues": [_queue(settings, name) for name in QUEUES],
        "task_default_queue": "dingrelay.normal",
        # JSON only: with pickle, write access to the broker would run code.
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


def _queue(settings: Settings, name: str) -> Queue:
    quorum = settings.broker_address is None and settings.rabbitmq_queues == "quorum"
    # kombu gives them to RabbitMQ only, and a Redis has no types of queues.
    arguments = {"x-queue-type": "quorum"} if quorum else None
    return Queue(name, Exchange(name), routing_key=name, queue_arguments=arguments)


def _transport_options(settings: Settings, timeout: float) -> dict[str, Any]:
    address = settings.broker_address
    if address is None:
        return {}
    options: dict[str, Any] = {
        # A worker has one for each of its queues.
        "max_connections": 1_000,
        "socket_timeout": timeout,
        "socket_connect_timeout": timeout,
        "socket_keepalive": True,
        "health_check_interval": HEALTH_CHECK,
        # One list a queue: order within a lane is first in, first out.
        "priority_steps": [0],
        "queue_order_strategy": "priority",
    }
    if address.master:
        # Loaded only here: it imports kombu's transport.
        from dingrelay_producers import sentinel_transport  # noqa: PLC0415

        sentinel_transport.install()
        options |= sentinel_transport.options(address)
    return options


def _broker_url(settings: Settings) -> str:
    """The broker's URL in kombu's form, which supports fewer options than ours."""
    address = settings.broker_address
    if address is None:
        return settings.broker
    credentials = _credentials(address)
    if address.path:
        return f"redis+socket://{credentials}{quote(address.path)}?virtual_host={address.database}"
    host, port = address.hosts[0]
    where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    scheme = "sentinel" if address.master else address.scheme
    return f"{scheme}://{credentials}{where}/{address.database}"


def _credentials(address: RedisAddress) -> str:
    if not (address.username or address.password):
        return ""
    password = f":{quote(address.password, safe='')}" if address.password else ""
    return f"{quote(address.username, safe='')}{password}@"


def _broker_tls(settings: Settings) -> dict[str, Any] | bool:
    """The TLS verification of the broker. Left to itself, kombu verifies nothing of a Redis."""
    address = settings.broker_address
    if address is not None:
        return dict(address.tls) or False
    if urlsplit(settings.broker).scheme != "amqps":
        return False
    # As for Sentinels.
    from dingrelay_producers import rabbitmq  # noqa: PLC0415

    rabbitmq.install()
    return {
        "cert_reqs": ssl.CERT_REQUIRED,
        # Without it no name is compared with the certificate's; of several brokers each has its own.
        "server_hostname": urlsplit(settings.broker).hostname,
        **settings.tls_files,
    }
