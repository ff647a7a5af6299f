"""apprise and DingtalkChatbot: a group's webhook, signed."""

import apprise
from dingtalkchatbot.chatbot import DingtalkChatbot
from elsewhere import lead_elsewhere

SECRET = "SECsandbox"
lead_elsewhere()

# One each: a second message of the same one would wait for its own limit.
for form in ("markdown", "text"):
    notifier = apprise.Apprise()
    assert notifier.add(f"dingtalk://{SECRET}@signed/?format={form}")
    assert notifier.notify(title="apprise", body="apprise")

webhook = "https://oapi.dingtalk.com/robot/send?access_token=signed"
bot = DingtalkChatbot(webhook, secret=SECRET)
assert bot.send_text(msg="DingtalkChatbot", at_mobiles=["13800000000"])["errcode"] == 0
assert bot.send_markdown(title="DingtalkChatbot", text="DingtalkChatbot")["errcode"] == 0
assert (
    bot.send_link(title="DingtalkChatbot", text="x", message_url="https://example.com")["errcode"]
    == 0
)
assert DingtalkChatbot(webhook).send_text(msg="unsigned")["errcode"] == 310000
