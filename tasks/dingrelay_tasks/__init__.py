"""The kinds of jobs: their contracts, and what each job does.

Each name is loaded when it is first used: to build all contracts takes a third of a second, and a command needs one.
"""

from typing import TYPE_CHECKING

from dingrelay_tasks.lazy_names import lazy_names

if TYPE_CHECKING:
    from dingrelay_tasks.api_call import ApiCall, ApiCallResult
    from dingrelay_tasks.approval_create import ApprovalCreate, ApprovalCreateResult
    from dingrelay_tasks.context import Context, Intent
    from dingrelay_tasks.contract import Contract, ContractError, Deliverable, Lane, Part, UserId
    from dingrelay_tasks.kinds import kind
    from dingrelay_tasks.message import Message
    from dingrelay_tasks.message_result import MessageSendResult
    from dingrelay_tasks.message_send import MessageSend, Recipients
    from dingrelay_tasks.outcomes import CallRefused, Refused, Unknown, Wait
    from dingrelay_tasks.packaged_kinds import KindError
    from dingrelay_tasks.robot_message import RobotMessage, RobotMessageResult, RobotTarget
    from dingrelay_tasks.sentence import en
    from dingrelay_tasks.user_sync import UserSync, UserSyncResult

__all__ = [
    "ApiCall",
    "ApiCallResult",
    "ApprovalCreate",
    "ApprovalCreateResult",
    "CallRefused",
    "Context",
    "Contract",
    "ContractError",
    "Deliverable",
    "Intent",
    "KindError",
    "Lane",
    "Message",
    "MessageSend",
    "MessageSendResult",
    "Part",
    "Recipients",
    "Refused",
    "RobotMessage",
    "RobotMessageResult",
    "RobotTarget",
    "Unknown",
    "UserId",
    "UserSync",
    "UserSyncResult",
    "Wait",
    "en",
    "kind",
]

_MODULES = {
    "api_call": ("ApiCall", "ApiCallResult"),
    "approval_create": ("ApprovalCreate", "ApprovalCreateResult"),
    "context": ("Context", "Intent"),
    "contract": ("Contract", "ContractError", "Deliverable", "Lane", "Part", "UserId"),
    "kinds": ("kind",),
    "packaged_kinds": ("KindError",),
    "message": ("Message",),
    "message_result": ("MessageSendResult",),
    "message_send": ("MessageSend", "Recipients"),
    "outcomes": ("CallRefused", "Refused", "Unknown", "Wait"),
    "robot_message": ("RobotMessage", "RobotMessageResult", "RobotTarget"),
    "sentence": ("en",),
    "user_sync": ("UserSync", "UserSyncResult"),
}
__getattr__ = lazy_names(__name__, _MODULES)


def __dir__() -> list[str]:
    return __all__
