"""The table of reading calls, against all operations of DingTalk's own SDK."""

import re
import sys
from pathlib import Path

import pytest

from dingrelay_tasks.api_call import ApiCall, reads
from fundamentals.documents import GUIDE, text

OPERATION = re.compile(
    r"action='(\w+)',\s+version='[^']*',\s+protocol='[^']*',\s+pathname=f?'([^']*)',\s+method='POST'"
)


def names(text: str) -> set[str]:
    return set(re.findall(r"\w+", text))


READING_WORDS = names(
    """
    Get List Query Search Count Check Find Page Pages Is Describe Fetch Validate Verify Load
    Calculate Preview
    """
)
UNREAD = {
    # Tokens, which no job fetches.
    *names(
        """
        GetAccessToken GetCorpAccessToken GetSsoAccessToken GetSuiteAccessToken GetToken
        GetUserToken GetAuthToken GetWebChannelUserToken
        """
    ),
    # These may leave something behind: an address or a permission that was made for the call.
    *names(
        """
        GetConversationId GetConversationUrl GetInterconnectionUrl GetMediaUrl
        GetStoragePolicy GetAuthUrl GetExecuteUrl GetFileUploadUrl GetProcessStartUrl
        GetSignNoticeUrl GetCorpRealnameUrl GetUserRealnameUrl GetSpaceWithDownloadAuth
        PremiumGetSpaceWithDownloadAuth VerifyEduOrgCertification
        VerifyEduUserCertification EsignUserVerify
        """
    ),
    # And these write, or begin something.
    *names(
        """
        CheckIn BatchBossCheck BatchRemovalByFormInstanceIdList
        ClearEvaluatePerformanceCount HrbrainTalentSearch SmartQuoteQueryService
        """
    ),
}
"""Operations that are named as reads and are not in the table."""
PLAIN_READS = names(
    """
    CategoriesTemplates CategoryTemplates ChatAITextSentimentAnalysis DataMarketIsvService
    DataMarketService DigitalStoreCardRecord DocElements FileStorageCheckConnection
    GroupCapacityInquiry HrbrainEmpPoolUser HrbrainLabelCategoryTree HrbrainLabelTaskMeta
    AISaleEntityDetail IndustryManufactureLabourCost OkrObjectivesBatch OrgInfo
    PreventCheatingCheckRisk ProcessForecast ReportCustomerDetail ReportCustomerStatistics
    RobotMessageFileDownload SeachTaskStage ShareUrl SmartFormulaResultService TeamTemplates
    TemplateCategories UserTemplates OpenGroupRoleQuery OpenGroupUserRoleQuery
    OpenSearchGroupList HrbrainTalentSearchResult
    """
)
"""Reads by their descriptions, whose names have no verb, or have it where no verb stands."""
WRITING_WORDS = names(
    """
    Add Append Approve Bind Cancel Close Collect Create Delete Execute Generate Grant Import
    Insert Invalid Issue Modify Notify Open Push Recall Register Remove Report Reset Revoke
    Save Send Set Start Stop Submit Sync Terminate Update Upload Write
    """
)


def operations() -> list[tuple[str, str]]:
    """Name and path of each POST."""
    found = sorted(
        (Path(sys.prefix) / "sdks").glob("lib/*/site-packages/alibabacloud_dingtalk/*/client.py")
    )
    if not found:
        pytest.skip("sdks: `make test` installs them")
    return sorted({pair for file in found for pair in OPERATION.findall(file.read_text())})


def words(name: str) -> list[str]:
    return re.findall(r"[A-Z]+(?![a-z])|[A-Z][a-z0-9]*", name[0].upper() + name[1:])


def is_named_as_read(name: str) -> bool:
    """Whether a verb of reading stands where verbs do: first, behind `Batch` or a product's name, or last."""
    parts = words(name)
    verbs = {*parts[:1], *parts[-1:]} | (set(parts) & {"Get", "List", "Query", "Find"})
    return bool(verbs & READING_WORDS) and parts[0] not in WRITING_WORDS


def test_the_table_is_that_of_the_sdk() -> None:
    """No write counts as a read, and no read as a write but those that are named above."""
    posts = operations()
    assert len(posts) > 1800
    for name, path in posts:
        named = is_named_as_read(name) and name not in UNREAD
        assert reads("POST", path) is (named or name in PLAIN_READS), (name, path)


@pytest.mark.parametrize(
    ("method", "path", "effect"),
    [
        ("GET", "/v1.0/anything", "none"),
        ("POST", "/topapi/v2/user/getbymobile", "none"),
        ("POST", "/topapi/v2/department/listsub", "none"),
        ("POST", "/topapi/processinstance/listids", "none"),
        ("POST", "/attendance/listRecord", "none"),
        ("POST", "/topapi/message/corpconversation/getsendresult", "none"),
        ("POST", "/topapi/role/simplelist", "none"),
        ("POST", "/v1.0/yida/processes/instances", "none"),
        ("POST", "/v1.0/yida/processes/instances/start", "once"),
        ("POST", "/topapi/v2/user/create", "once"),
        ("POST", "/topapi/im/chat/getorcreate", "once"),
        ("POST", "/v1.0/im/groups/getOrCreate", "once"),
        ("POST", "/v1.0/settings/getaway", "once"),
        ("POST", "/v1.0/robot/oToMessages/batchSend", "once"),
        ("POST", "/v1.0/workflow/processInstances", "once"),
        ("PUT", "/v1.0/x/query", "once"),
        ("DELETE", "/v1.0/x/get", "once"),
    ],
)
def test_only_reading_calls_are_repeated(method: str, path: str, effect: str) -> None:
    assert ApiCall.parse({"method": method, "path": path}).effect == effect


@pytest.mark.parametrize(
    ("path", "effect"),
    [
        ("/user/get", "none"),
        ("/user/getDeptMember", "none"),
        ("/department/list_parent_depts", "none"),
        ("/auth/scopes", "none"),
        ("/checkin/record", "none"),
        ("/v1.0/todo/users/u1", "none"),
        ("/user/delete", "once"),
        ("/call_back/delete_call_back", "once"),
        ("/topapi/v2/user/delete", "once"),
        ("/cspace/add", "once"),
    ],
)
def test_a_get_of_the_old_host_may_change_something(path: str, effect: str) -> None:
    assert ApiCall.parse({"method": "GET", "path": path}).effect == effect


ROW = re.compile(r"^\| (?:new|old|新|旧) \| .+\|$", re.MULTILINE)
EXCEPT = re.compile("but not|and has no|不含|且不含")


@pytest.mark.parametrize("page", GUIDE["jobs.md"])
def test_the_guides_table_is_that_of_the_code(page: str) -> None:
    rows = [line.strip("| ").split(" | ") for line in ROW.findall(text(page))]
    assert len(rows) == 7
    for host, methods, last, example in rows:
        assert reads(*example.strip("`").split())
        taken, *excepted = EXCEPT.split(last)
        root = "/v1.0/x" if host in {"new", "新"} else "/x"
        for method in re.findall("[A-Z]+", methods):
            for word in re.findall("`([^`]+)`", taken):
                assert reads(method, f"{root}/{word.replace('…', 'x')}"), word
            for word in re.findall("`([^`]+)`", "".join(excepted)):
                path = f"{root}/{word}" if root == "/v1.0/x" else f"{root}/get{word}"
                assert not reads(method, path) or method == "GET", word
    assert not reads("GET", "/user/delete")
