"""The calls of DingTalk's beginner's guide, made as it makes them: with requests and nothing else."""

import requests
from elsewhere import KEY, SECRET, lead_elsewhere

OAPI = "https://oapi.dingtalk.com"
lead_elsewhere()

pair = {"appkey": KEY, "appsecret": SECRET}
token = {"access_token": requests.get(f"{OAPI}/gettoken", params=pair).json()["access_token"]}
headers = {"Content-Type": "application/json"}

message = {"msgtype": "text", "text": {"content": "guide"}}
sent = requests.post(
    f"{OAPI}/topapi/message/corpconversation/asyncsend_v2",
    headers=headers,
    json={"agent_id": "1000001", "userid_list": "u1,u2", "msg": message},
    params=token,
).json()
assert sent["errcode"] == 0, sent
assert sent["task_id"], sent

departments = requests.get(f"{OAPI}/department/list", params=token).json()["department"]
assert departments[0]["id"] == 1, departments
page = {"department_id": departments[1]["id"], "offset": 0, "size": 100}
people = requests.get(f"{OAPI}/user/listbypage", params={**token, **page}).json()
assert people["userlist"][0]["userid"], people

approval = {
    "process_code": "PROC-ANY",
    "originator_user_id": "u1",
    "dept_id": -1,
    "form_component_values": [{"name": "field1", "value": "value1"}],
}
created = requests.post(
    f"{OAPI}/topapi/processinstance/create", headers=headers, json=approval, params=token
).json()
assert created["process_instance_id"], created
