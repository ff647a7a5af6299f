"""How long one sender's ten messages wait behind another's thousands, in the same lane and app.

``python ops/bench/fairness.py [--jobs N] [--unnamed]``. ``--unnamed``: nobody says who asks, so all
are one sender.
"""

import argparse
import time
from contextlib import suppress

from testbed import PEOPLE, testbed, wait_until

from dingrelay_producers import State
from dingrelay_tasks import MessageSend

LIMIT = 20
FEW = 10


def message(sender: str, number: int) -> MessageSend:
    """One message of a sender, to one person, like no other."""
    return MessageSend.parse(
        {
            "sender": sender,
            "to": {"users": [f"u{number % PEOPLE + 1}"]},
            "message": {"msgtype": "text", "text": {"content": f"{sender} {number}"}},
        }
    )


def main() -> None:
    """Read the options, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=120, help="to wait for the few at most")
    parser.add_argument("--unnamed", action="store_true")
    options = parser.parse_args()
    many, few = ("", "") if options.unnamed else ("many", "few")
    with testbed() as here:
        here.clear(latency=(5, 30), calls=f"{LIMIT}/1s", window="calendar", recipients="")
        rules = here.rules(calls=f"{LIMIT}/1s", recipients="")
        with here.workers(2, env=rules), here.client() as client:
            client.send_many(message(many, number) for number in range(options.jobs))
            began = time.monotonic()
            refs = [client.send(message(few, options.jobs + number)) for number in range(FEW)]
            done: dict[str, float] = {}

            def look() -> bool:
                for ref in refs:
                    if ref.id not in done and ref.status().state is State.DONE:
                        done[ref.id] = time.monotonic() - began
                return len(done) == FEW

            with suppress(TimeoutError):
                wait_until(look, options.seconds)
            passed = time.monotonic() - began
            waits = sorted(done.values())
            taken = sum(
                call["verdict"] == "ok" for call in here.sandbox.calls(api="/topapi/message")
            )
    print(f"{options.jobs} messages of {many or 'nobody'}, then {FEW} of {few or 'nobody'}")
    print(f"done after {passed:.0f} s: {len(waits)} of the {FEW}")
    if waits:
        print(f"first after {waits[0]:.1f} s, last after {waits[-1]:.1f} s")
    print(f"limit used meanwhile: {taken / (LIMIT * passed):.0%}")


if __name__ == "__main__":
    main()
