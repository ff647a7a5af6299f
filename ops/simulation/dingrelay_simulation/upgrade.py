"""An upgrade: what a client and a worker of 0.2.0 left in Redis lies there when the fleet starts.

The file was written by that release: jobs that wait, that a worker which is gone was running, with a call open and
without, that were put off, and one that has ended. A number in angle brackets is so many ms after the beginning.
"""

import json
import re
from importlib import resources
from typing import Any

from dingrelay_producers.store import keys
from dingrelay_simulation.operations import Request
from dingrelay_simulation.valkey import VirtualValkey

LEFT: dict[str, Any] = json.loads(
    resources.files("dingrelay_simulation").joinpath("records_0_2_0.json").read_text("utf-8")
)
OPEN = frozenset({"intent", "history"})
"""Fields of a record that may have a call open: one that is in it, or one that its Redis, which was another, may have forgotten."""
_MOMENT = re.compile(r"<(seconds:)?(-?\d+)>")


def leave_records(valkey: VirtualValkey) -> None:
    """Write what 0.2.0 had written."""
    now = valkey.micros // 1_000

    def moment(match: re.Match[str]) -> str:
        return str(now // 1_000 + int(match[2]) if match[1] else now + int(match[2]))

    for name, key in LEFT["keys"].items():
        value = json.loads(_MOMENT.sub(moment, json.dumps(key["value"])))
        match key["type"]:
            case "hash":
                valkey.call("HSET", name, *(part for pair in value.items() for part in pair))
            case "zset":
                valkey.call(
                    "ZADD", name, *(part for one, score in value.items() for part in (score, one))
                )
            case "list":
                valkey.call("RPUSH", name, *value)
            case "set":
                valkey.call("SADD", name, *value)
            case other:
                raise ValueError(f"{name} is a {other}")
        if key["ttl"] > 0:
            valkey.call("PEXPIRE", name, key["ttl"])


def requests() -> list[Request]:
    """Its jobs, as if they were requested at the beginning."""
    return [
        Request(
            -1 - number,
            0.0,
            job["name"],
            {"users": job["users"]},
            job["tag"],
            job["job"],
            "yes",
            open_call=not OPEN.isdisjoint(LEFT["keys"][keys.job(job["job"])]["value"]),
        )
        for number, job in enumerate(LEFT["jobs"])
    ]
