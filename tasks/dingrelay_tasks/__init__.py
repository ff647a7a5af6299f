"""The kinds of jobs: their contracts, and what each job does."""

from importlib import import_module
from pkgutil import iter_modules

from dingrelay_tasks.api_call import ApiCall, ApiCallResult
from dingrelay_tasks.approval_create import ApprovalCreate, ApprovalCreateResult
from dingrelay_tasks.contract import Contract, ContractError, Lane
from dingrelay_tasks.message import Message
from dingrelay_tasks.message_result import MessageSendResult
from dingrelay_tasks.message_send import MessageSend, Recipients
from dingrelay_tasks.robot_message import RobotMessage, RobotMessageResult, RobotTarget
from dingrelay_tasks.user_sync import UserSync, UserSyncResult

__all__ = [
    "ApiCall",
    "ApiCallResult",
    "ApprovalCreate",
    "ApprovalCreateResult",
    "Contract",
    "ContractError",
    "Lane",
    "Message",
    "MessageSend",
    "MessageSendResult",
    "Recipients",
    "RobotMessage",
    "RobotMessageResult",
    "RobotTarget",
    "UserSync",
    "UserSyncResult",
]

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")  # each declares its kinds
