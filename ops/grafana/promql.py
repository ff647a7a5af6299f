"""Expressions of Prometheus that panels have in common.

`$__rate_interval` is Grafana's: as long as it takes to see a rate at the chosen zoom.
"""

APP = 'app=~"$app"'
SCOPE = 'scope=~"(app|hold):($app)|egress:.*"'
"""Of limits and outages: those of a host and of an address concern all apps."""


def rate(metric: str, by: str, labels: str = "") -> str:
    """A counter's growth a second."""
    return f"sum by ({by}) (rate({metric}{_of(labels)}[$__rate_interval]))"


def hourly(metric: str, by: str, labels: str = "") -> str:
    """A counter's growth in the last hour."""
    return f"sum by ({by}) (increase({metric}{_of(labels)}[1h]))"


def highest(metric: str, by: str, labels: str = "") -> str:
    """A gauge that several processes tell alike."""
    return f"max by ({by}) ({metric}{_of(labels)})"


def quantile(metric: str, by: str, labels: str = "") -> str:
    """The seconds within which 95 % are."""
    rates = f"rate({metric}_bucket{_of(labels)}[5m])"
    return f"histogram_quantile(0.95, sum by ({by}, le) ({rates}))"


def _of(labels: str) -> str:
    return f"{{{labels}}}" if labels else ""
