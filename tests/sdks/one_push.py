"""onepush: a group's webhook, signed."""

from elsewhere import lead_elsewhere
from onepush import get_notifier

lead_elsewhere()
robot = get_notifier("dingtalk")
for markdown in (False, True):
    # It puts an address before a token that is none itself.
    answer = robot.notify(
        token="signed", secret="SECsandbox", title="onepush", content="onepush", markdown=markdown
    )
    assert answer.json()["errcode"] == 0, answer.text
