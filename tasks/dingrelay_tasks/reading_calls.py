"""Which of DingTalk's APIs change nothing: `GET`, and the POSTs that read (design §21).

What is not here counts as a change, so that a call is rather made once too seldom than twice. A test compares
the table with all 1,843 POSTs of DingTalk's own SDK.
"""

import re

_VERB = "(?:get|list|query|search|count|find|fetch)"

_OLD = re.compile(
    rf"(?!/v\d+\.\d+/).*/(?:{_VERB}(?!\w*(?:create|add|update|delete|remove|save))\w*"
    r"|simplelist|statistic\w*|info|detail|total|exist)"
)
"""The old host's names are in small letters: ``/topapi/v2/user/getbymobile``, ``/attendance/listRecord``."""

_NEW = re.compile(
    # Only makes a number for a later call, but each call another one.
    r"/v\d+\.\d+/(?!.*/taskId/query)(?:.*/)?(?:"
    rf"(?:batch(?:Get|Query)|paginationQuery|(?:available|pending)Lists?|{_VERB})(?!OrCreate)(?:[A-Z]\w*)?"
    "|check|detail|info|metadata|page|preview|forecast|calculate|judge|validate)"
)
"""The new host's are in camel case, so a verb ends where a capital follows: ``instanceIds/query``, ``queryAll``."""

_NOUNS = re.compile(
    r"/v\d\.0/(?:"
    r"aiot/products/[^/]+/devices/[^/]+/firmware/checkUpdate|attendance/holidays"
    r"|bizfinance/(?:categories|customers|financeAccounts|projects)/batch"
    r"|contract/dingEsign/(?:files/keywordPositions|signFlow/files/downloadUrls)|crm/customerInstances"
    r"|dvi/(?:data/staff|device/audio/download|device/status|sales/insights"
    r"|service-record/location|user/location)"
    r"|edu/cards/tasks/batch|exclusive/groups/openConversationIds|hrbrain/labels/data"
    r"|im/interconnections/group/group(?:Info|Member)By\w+"
    r"|minutes/smartdevice/(?:aiscene(?:/promptTemplate)?|aisummary)|notable/bases/[^/]+/workflows"
    r"|occupationauth/auths/userTasks|project/projects/(?:gray|source)|robot/messageFiles/download"
    r"|salary/calculation|serviceGroup/userDetials|todoEE/apps/users/tasks/executionStatuses"
    r"|village/corps/subCorps|workflow/instances/datas|yida/forms/employeeFields"
    r"|yida/forms/instances/ids/[^/]+/[^/]+|yida/processes/instance(?:Id)?s)"
)
"""The new host's reads that are named by what they give."""


def reads(method: str, path: str) -> bool:
    """Whether a call surely changes nothing at DingTalk.

    Args:
        method: of HTTP.
        path: on one of DingTalk's two hosts.
    """
    if method == "GET":
        return True
    return method == "POST" and any(kind.fullmatch(path) for kind in (_OLD, _NEW, _NOUNS))
