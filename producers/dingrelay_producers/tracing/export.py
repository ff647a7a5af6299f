"""Export of our processes' own spans, configured by OpenTelemetry's standard variables.

A client in an application exports nothing by itself: its spans are the application's.
"""

import logging
import os
import threading
from importlib import import_module
from typing import TYPE_CHECKING

from dingrelay_producers.installation import how_to_add
from dingrelay_tasks.sentence import en

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

STOP_SECONDS = 2.0
"""Time for the last spans, at the end of a process. A collector that takes longer does not get them."""
ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
EXPORTERS = "OTEL_TRACES_EXPORTER"
PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
PROTOCOL = "http/protobuf"
KNOWN = ("otlp", "console")
"""Exporters that there are; ``none`` is no exporter."""

log = logging.getLogger("dingrelay")

_provider: "TracerProvider | None" = None


def wanted() -> str:
    """The variable that asks for traces; empty if none does.

    Unlike an SDK that is set up in code, a worker without an endpoint exports nothing.
    """
    if os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return ""
    if exporter_names := os.environ.get(EXPORTERS, "").strip():
        return "" if exporter_names == "none" else EXPORTERS
    return next((name for name in ENDPOINTS if os.environ.get(name, "").strip()), "")


def problem() -> str:
    """Why there will be no traces though the environment asks for them; empty if nothing is wrong."""
    variable = wanted()
    if not variable:
        return ""
    unknown = [name for name in exporters() if name not in KNOWN]
    if unknown:
        return en("{}: there are {} and none", EXPORTERS, ", ".join(KNOWN))
    protocol_variable = next((name for name in PROTOCOLS if os.environ.get(name, "").strip()), "")
    if (
        protocol_variable
        and os.environ[protocol_variable].strip() != PROTOCOL
        and "otlp" in exporters()
    ):
        return en("{} names another protocol than {}", protocol_variable, PROTOCOL)
    try:
        import_module("dingrelay_producers.tracing.provider")  # it loads the SDK
    except ModuleNotFoundError:
        return en(
            "{} is set, and the extra otel is not installed: {}", variable, how_to_add("otel")
        )
    return ""


def exporters() -> list[str]:
    """The exporters that the environment names, or the one that it means."""
    listed = os.environ.get(EXPORTERS, "").strip() or "otlp"
    return [name.strip() for name in listed.split(",") if name.strip()]


def start(service: str) -> None:
    """Export the spans of this process from now on, if its environment says where to.

    What is wrong with that is said in one line, and is no reason not to carry jobs.

    Args:
        service: its name, unless the environment names it.
    """
    global _provider  # noqa: PLW0603 - OpenTelemetry has one for a process, too
    if _provider is not None or not wanted():
        return
    if trouble := problem():
        log.warning("no traces: %s", trouble)
        return
    from dingrelay_producers.tracing import provider  # noqa: PLC0415 - it loads the SDK

    try:
        _provider = provider.install(service, exporters())
    except Exception as error:  # noqa: BLE001 - whatever is wrong with a variable of theirs
        log.warning("no traces: OTEL_* can't be used (%s)", type(error).__name__)


def stop(timeout: float = STOP_SECONDS) -> None:
    """Export what is left, within so many seconds. Nothing is exported afterwards."""
    global _provider  # as `start`
    stopping, _provider = _provider, None
    if stopping is None:
        return
    # The SDK would wait for a silent collector for half a minute.
    thread = threading.Thread(target=stopping.shutdown, name="dingrelay-traces", daemon=True)
    thread.start()
    thread.join(timeout)
