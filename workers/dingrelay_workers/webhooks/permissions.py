"""What a key may subscribe to: no more than it may read itself."""

from collections.abc import Mapping
from dataclasses import replace
from itertools import chain

from dingrelay_tasks import notice_types
from dingrelay_workers.http import problems
from dingrelay_workers.http.api_keys import ANY, ApiKey
from dingrelay_workers.http.problems import Problem
from dingrelay_workers.outbox.notice import Subscription

NEEDS: Mapping[str, tuple[str, ...]] = {
    "job": ("jobs:read",),
    "campaign": ("campaigns:read",),
    "approval": ("approvals:read",),
    "directory": ("directory:read",),
    # DingTalk's own events hold people, departments and approvals.
    "dingtalk": ("directory:read", "approvals:read"),
}
"""Family of types → the scopes that a key needs for it."""

OF_THE_DIRECTORY = ("dingtalk.user_", "dingtalk.org_")
"""DingTalk's events that hold no more than the directory, which a key with any sender may read. Others
have no sender, so they would show a key the approvals of all."""


def narrowed(wanted: Subscription, key: ApiKey) -> Subscription:
    """What a key asks for, with its own apps and sender where it names none.

    Raises:
        Problem: it asks for more than it holds (403); the field is named.
    """
    if not wanted.apps and ANY not in key.apps:
        wanted = replace(wanted, apps=key.apps)
    if not wanted.senders and key.sender != ANY:
        wanted = replace(wanted, senders=frozenset({key.sender}))
    if excess := _excess(wanted, key):
        field, problem = excess
        raise Problem.at(problems.FORBIDDEN, f"/{field}", problem)
    return wanted


def may_see(key: ApiKey, endpoint: Subscription) -> bool:
    """Whether a key sees and changes an endpoint: one that it could have asked for."""
    return _excess(endpoint, key) is None


def _excess(wanted: Subscription, key: ApiKey) -> tuple[str, str] | None:
    if wanted.url.startswith("celery:") and ANY not in key.scopes:
        return "url", "only a key with the scope * may have tasks published"
    for pattern in wanted.types:
        families = list(NEEDS.values()) if pattern == ANY else [NEEDS[pattern.partition(".")[0]]]
        for scope in chain.from_iterable(families):
            if not key.permits(scope):
                return "types", f"{pattern} needs the scope {scope}"
        of_all = pattern == ANY or pattern.startswith(notice_types.DINGTALK)
        if key.sender != ANY and of_all and not pattern.startswith(OF_THE_DIRECTORY):
            return "types", f"{pattern} needs a key whose sender is *"
    if ANY not in key.apps and not (wanted.apps and wanted.apps <= key.apps):
        return "apps", "the key is not for these apps"
    if key.sender != ANY and wanted.senders != frozenset({key.sender}):
        return "senders", "the key has a sender of its own"
    return None
