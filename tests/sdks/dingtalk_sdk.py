"""dingtalk-sdk (007gzs): contacts by path, messages and approvals through the TOP gateway."""

import io
import time

from dingtalk import AppKeyClient
from dingtalk.model.message import TextBody
from elsewhere import KEY, SECRET, lead_elsewhere

lead_elsewhere()
client = AppKeyClient("sandbox-corp", KEY, SECRET)

departments = client.department.list(fetch_child=True)
assert departments[0]["id"] == 1, departments
assert client.department.list_ids(1)
assert client.department.get(2)["parentid"] == 1
people = client.user.listbypage(2)["userlist"]
assert client.user.get(people[0]["userid"])["name"] == people[0]["name"]
assert client.user.get_userid_by_unionid(people[0]["unionid"])["userid"] == people[0]["userid"]
assert client.user.simple_list(2)["userlist"][0]["name"] == people[0]["name"]
assert client.user.get_dept_member(2)[0] == people[0]["userid"]
assert client.user.auth_scopes()["auth_org_scopes"]["authed_dept"] == [1]

task = client.message.asyncsend_v2(TextBody("dingtalk-sdk"), 1000001, ["u1"])
assert client.message.getsendprogress(1000001, task)["status"] == 2
assert client.message.getsendresult(1000001, task)["unread_user_id_list"] == ["u1"]
client.message.recall(1000001, task)
picture = io.BytesIO(b"picture")
picture.name = "a.png"
assert client.message.media_upload("image", picture)["media_id"].startswith("@")

began = int(time.time() * 1000) - 1_000
made = client.bpms.processinstance_create(
    "PROC-ANY", "u1", -1, approvers=["u2"], form_component_values={"a": "1"}
)
listed = client.bpms.processinstance_listids("PROC-ANY", began, began + 60_000)
assert made in listed["list"], listed
instance = client.bpms.processinstance_get(made)
assert instance["tasks"][0]["userid"] == "u2", instance
assert instance["form_component_values"][0]["value"] == "1", instance
