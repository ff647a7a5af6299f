"""Webhooks: every endpoint gets the end of each job, under one id, well signed, and nothing untrue."""

import base64
import hashlib
import hmac
from collections.abc import Iterator
from datetime import datetime

from dingrelay_simulation.application import Delivery
from dingrelay_simulation.clock import CLOCK
from dingrelay_simulation.oracle.evidence import Evidence, Violation
from dingrelay_simulation.webhooks import missed

REVIVING = ("requeue", "resolve", "cancel", "discard")
"""Commands after which a job can end in another state."""
OVERLAP, CACHED = 60.0, 30.0
"""Seconds for which an old secret signs, and for which a request may be on its way."""


def check_completeness(evidence: Evidence) -> Iterator[Violation]:
    """Each endpoint got the end of each job."""
    statuses = evidence.statuses.values()
    for endpoint, status in missed(
        evidence.endpoints, evidence.deliveries, statuses, evidence.redis_skew
    ):
        text = f"{endpoint.name} never got that {status.id} is {status.state}"
        yield Violation("untold", text, status.id)


def check_notices(evidence: Evidence) -> Iterator[Violation]:
    """A notice is signed, has one content under its id, and is true."""
    bodies: dict[str, bytes] = {}
    for delivery in evidence.deliveries:
        if bodies.setdefault(delivery.id, delivery.body) != delivery.body:
            yield Violation("changed", f"{delivery.id} has two contents", delivery.id)
        if not _is_signed(evidence, delivery):
            text = f"{delivery.endpoint} got {delivery.id} with a wrong signature"
            yield Violation("signature", text, delivery.id)
        yield from _check_truth(evidence, delivery)


def _is_signed(evidence: Evidence, delivery: Delivery) -> bool:
    endpoint = evidence.endpoints.get(delivery.endpoint)
    if endpoint is None or not endpoint.secrets or endpoint.doubtful:
        return True
    newest = endpoint.secrets[-1][0]
    content = f"{delivery.id}.{delivery.timestamp}.".encode() + delivery.body
    for at, secret in endpoint.secrets:
        key = base64.b64decode(secret.removeprefix("whsec_"))
        signed = "v1," + base64.b64encode(hmac.digest(key, content, hashlib.sha256)).decode()
        if signed in delivery.signatures.split() and (
            at == newest or delivery.at < newest + OVERLAP + CACHED
        ):
            return True
    return False


def _check_truth(evidence: Evidence, delivery: Delivery) -> Iterator[Violation]:
    """A job that is reported to have ended has ended so, or was revived, or Redis forgot its end."""
    document = delivery.document
    kind, _, state = str(document["type"]).partition(".")
    job = str(document["data"].get("id", ""))
    status = evidence.statuses.get(job)
    if kind != "job" or status is None or status.state == state:
        return
    ended = datetime.fromisoformat(document["timestamp"]).timestamp()
    ended -= CLOCK.epoch + evidence.redis_skew
    revived = any(job in evidence.commanded(verb) for verb in REVIVING)
    if not revived and not evidence.forgotten(ended, ended):
        text = f"{job} is reported to be {state}, and is {status.state}"
        yield Violation("untrue", text, job)
