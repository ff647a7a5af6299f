"""How often what happens: the one table that a schedule is drawn from."""

from collections.abc import Mapping

OPERATIONS: Mapping[str, float] = {
    "send": 20,
    "send_many": 4,
    "same_key": 4,
    "equal_content": 10,
    "bare": 4,
    "http": 8,
    "later": 4,
    "expiring": 4,
    "allow_duplicate": 2,
    "stop_on_unknown": 3,
    "everyone": 1,
    "departments": 3,
    "approval": 10,
    "equal_approval": 8,
    "sync": 3,
    "organisation": 6,
    "reorganisation": 3,
    "campaign": 3,
    "campaign_command": 5,
    "cancel": 8,
    "requeue": 6,
    "discard": 3,
    "resolve": 3,
    "addressed": 8,
    "person_acts": 10,
    "approval_action": 8,
    "subscriber": 3,
    "alert": 5,
    "files": 2,
}
"""Operation → weight. A seed leaves some of them out, so that others come more often."""

FAULTS: Mapping[str, float] = {
    "kill": 5,
    "terminate": 3,
    "suspend": 3,
    "gateway_kill": 3,
    "valkey_restart": 2,
    "valkey_failover": 2,
    "valkey_freeze": 2,
    "valkey_full": 2,
    "valkey_read_only": 2,
    "database_locked": 2,
    "database_away": 2,
    "lost_answer": 6,
    "wrong_answer": 4,
    "sick_after_effect": 5,
    "sick_before_effect": 4,
    "slow": 3,
    "outage": 4,
    "throttle": 4,
    "token": 3,
    "credentials": 2,
    "connections_refused": 3,
    "dingtalk_clock": 2,
    "gateway_suspend": 2,
    "event_swallow": 3,
    "event_duplicate": 3,
    "event_delay": 3,
    "event_reorder": 2,
    "stream": 3,
    "listener_kill": 2,
    "receiver": 4,
    "receiver_away": 2,
}
"""Fault → weight. A seed leaves some of them out, too."""

OPERATION_SECONDS = (0.02, 0.4)
"""Shortest and longest pause between two operations."""
FAULT_SECONDS = (0.5, 4.0)
"""Shortest and longest pause between two faults."""
KEPT_SHARE = (0.4, 1.0)
"""The share of the table that a seed keeps."""
