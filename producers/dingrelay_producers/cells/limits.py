"""The limits of several cells as one document.

No bucket and no worker is in two of them; an organisation may be, and its calls of the month are those in all.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any


def together(parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The limits of the cells, each as ``dingrelay limits --json`` does."""
    if len(parts) == 1:
        return parts[0]
    rules = {
        "workers": sum(each["rules"]["workers"] for each in parts),
        "differences": [one for each in parts for one in each["rules"]["differences"]],
    }
    lists = {name: [one for each in parts for one in each[name]] for name in ("buckets", "outages")}
    used = Counter[str]()
    months: dict[str, dict[str, Any]] = {}
    for month in (one for each in parts for one in each["quota"]):
        used[month["organisation"]] += month["used"]
        months[month["organisation"]] = month
    quota = [{**months[name], "used": used[name]} for name in sorted(months)]
    return {"rules": rules, **lists, "quota": quota}
