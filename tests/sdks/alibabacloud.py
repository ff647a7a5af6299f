"""alibabacloud-dingtalk, DingTalk's own SDK of the new host."""

import json

from alibabacloud_dingtalk.oauth2_1_0 import models as oauth
from alibabacloud_dingtalk.oauth2_1_0.client import Client as OAuth
from alibabacloud_dingtalk.robot_1_0 import models as robot
from alibabacloud_dingtalk.robot_1_0.client import Client as Robot
from alibabacloud_dingtalk.workflow_1_0 import models as flow
from alibabacloud_dingtalk.workflow_1_0.client import Client as Workflow
from alibabacloud_tea_openapi.models import Config
from alibabacloud_tea_util.models import RuntimeOptions
from elsewhere import KEY, SECRET, lead_elsewhere

lead_elsewhere()
config = Config(protocol="https", region_id="central")
options = RuntimeOptions()
pair = oauth.GetAccessTokenRequest(app_key=KEY, app_secret=SECRET)
token = OAuth(config).get_access_token(pair).body.access_token

workflow = Workflow(config)
schema = workflow.query_schema_by_process_code_with_options(
    flow.QuerySchemaByProcessCodeRequest(process_code="PROC-PURCHASE"),
    flow.QuerySchemaByProcessCodeHeaders(x_acs_dingtalk_access_token=token),
    options,
).body.result
items = {item.props.label: item for item in schema.schema_content.items}
assert items["采购事由"].props.required
assert json.loads(items["采购类型"].props.options[0])["value"] == "办公用品"
assert items["采购明细"].children[0].props.label == "名称"

values = [("采购事由", "换新"), ("采购类型", "设备"), ("负责人", '["u2"]')]
form = [
    flow.StartProcessInstanceRequestFormComponentValues(name=name, value=value)
    for name, value in values
]
approver = flow.StartProcessInstanceRequestApprovers(action_type="NONE", user_ids=["u2"])
made = workflow.start_process_instance_with_options(
    flow.StartProcessInstanceRequest(
        originator_user_id="u1",
        process_code="PROC-PURCHASE",
        dept_id=-1,
        form_component_values=form,
        approvers=[approver],
    ),
    flow.StartProcessInstanceHeaders(x_acs_dingtalk_access_token=token),
    options,
).body.instance_id


def read() -> flow.GetProcessInstanceResponseBodyResult:
    return workflow.get_process_instance_with_options(
        flow.GetProcessInstanceRequest(process_instance_id=made),
        flow.GetProcessInstanceHeaders(x_acs_dingtalk_access_token=token),
        options,
    ).body.result


instance = read()
controls = {control.name: control for control in instance.form_component_values}
assert controls["备注"].value == "null"
assert json.loads(controls["负责人"].ext_value)[0]["emplId"] == "u2"
task = instance.tasks[0]
assert (task.user_id, task.status) == ("u2", "RUNNING")

comment = flow.AddProcessInstanceCommentRequest(
    process_instance_id=made, text="请尽快", comment_user_id="u3"
)
assert workflow.add_process_instance_comment_with_options(
    comment, flow.AddProcessInstanceCommentHeaders(x_acs_dingtalk_access_token=token), options
).body.result
decision = flow.ExecuteProcessInstanceRequest(
    process_instance_id=made, task_id=task.task_id, actioner_user_id="u2", result="agree"
)
assert workflow.execute_process_instance_with_options(
    decision, flow.ExecuteProcessInstanceHeaders(x_acs_dingtalk_access_token=token), options
).body.success
assert (read().status, read().result) == ("COMPLETED", "agree")

sent = (
    Robot(config)
    .batch_send_otowith_options(
        robot.BatchSendOTORequest(
            robot_code="sandbox-key",
            user_ids=["u1"],
            msg_key="sampleText",
            msg_param=json.dumps({"content": "alibabacloud"}),
        ),
        robot.BatchSendOTOHeaders(x_acs_dingtalk_access_token=token),
        options,
    )
    .body
)
assert sent.process_query_key

try:
    workflow.query_schema_by_process_code_with_options(
        flow.QuerySchemaByProcessCodeRequest(process_code="PROC-NONE"),
        flow.QuerySchemaByProcessCodeHeaders(x_acs_dingtalk_access_token=token),
        options,
    )
except Exception as error:  # noqa: BLE001 - the SDK has several bases for its errors
    refused = str(getattr(error, "code", error))
else:
    refused = ""
assert refused == "processCodeError", refused
