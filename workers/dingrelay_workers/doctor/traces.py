"""Where traces go, if the environment says that they go anywhere."""

from dingrelay_producers.tracing import export
from dingrelay_workers.doctor.check_result import CheckResult

TIMEOUT = 3.0


def check_traces() -> CheckResult | None:
    """Whether the collector takes spans; None if traces are off."""
    if not export.wanted():
        return None
    if problem := export.problem():
        return CheckResult("traces", "warning", problem, "see the page on traces in the guide")
    if "otlp" not in export.exporters():
        return CheckResult("traces", "ok", "are printed")
    from dingrelay_producers.tracing import provider  # noqa: PLC0415 - it loads the SDK

    try:
        taken = provider.takes_spans(TIMEOUT)
    except Exception as error:  # noqa: BLE001 - whatever is wrong with a variable of theirs
        found = f"OTEL_* can't be used ({type(error).__name__})"
        return CheckResult("traces", "warning", found, "correct it")
    if not taken:
        found = "the collector does not take them: they are lost, and jobs go on"
        return CheckResult("traces", "warning", found, "start it, or correct OTEL_EXPORTER_OTLP_*")
    return CheckResult("traces", "ok", "the collector takes them")
