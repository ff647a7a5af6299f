"""The limits of several cells as one document: no bucket, and no worker, is in two of them."""

from collections.abc import Sequence
from typing import Any


def together(told: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What the cells tell, each as ``dingrelay limits --json`` does."""
    if len(told) == 1:
        return told[0]
    rules = {
        "workers": sum(each["rules"]["workers"] for each in told),
        "differences": [one for each in told for one in each["rules"]["differences"]],
    }
    lists = {
        name: [one for each in told for one in each[name]]
        for name in ("buckets", "outages", "quota")
    }
    return {"rules": rules, **lists}
