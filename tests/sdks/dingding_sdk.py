"""dingding-sdk (kfx2007): contacts as forms, messages as JSON, robots on the new host."""

from dingtalk.dingtalk import DingTalk
from elsewhere import KEY, SECRET, lead_elsewhere

lead_elsewhere()
client = DingTalk(KEY, SECRET, agentid="1000001")

assert client.department.get()[0]["dept_id"] == 2
assert client.department.get_info(2)["parent_id"] == 1
assert client.department.get_children(1)
people = client.user.get_userids_by_department(2)
assert client.user.get(people[0])["userid"] == people[0]
assert client.user.get_users_count() == 200

task = client.workmessage.send_notification({"text": {"content": "dingding-sdk"}}, userid_list="u1")
assert client.workmessage.get_notification_result(task)["unread_user_id_list"] == ["u1"]
client.robot.code = "sandbox-key"
sent = client.robot.push_text_group_message("dingding-sdk", conver_id="cidSandboxGroup==")
assert sent["processQueryKey"], sent
