"""dingtalk-stream (official): listens to events, says what it saw, and replies to messages to its robot.

Arguments: where the sandbox is, client id and secret, and how a handler answers the first event.
"""

import json
import os
import sys

os.environ["DINGTALK_OPENAPI_ENDPOINT"] = sys.argv[1]

import dingtalk_stream
from dingtalk_stream import AckMessage, CallbackMessage, EventMessage

FIRST = int(sys.argv[4])
answers = iter([FIRST])


class Handler(dingtalk_stream.EventHandler):  # type: ignore[misc]
    async def process(self, event: EventMessage) -> tuple[int, str]:
        headers = event.headers
        seen = {
            "id": headers.event_id,
            "type": headers.event_type,
            "corp": headers.event_corp_id,
            "born": headers.event_born_time,
            "data": event.data,
        }
        sys.stdout.write(f"{json.dumps(seen)}\n")
        sys.stdout.flush()
        return next(answers, AckMessage.STATUS_OK), "OK"


class Robot(dingtalk_stream.ChatbotHandler):  # type: ignore[misc]
    async def process(self, callback: CallbackMessage) -> tuple[int, str]:
        message = dingtalk_stream.ChatbotMessage.from_dict(callback.data)
        self.reply_text(f"heard {message.text.content.strip()}", message)
        return AckMessage.STATUS_OK, "OK"


credential = dingtalk_stream.Credential(*sys.argv[2:4])
client = dingtalk_stream.DingTalkStreamClient(credential)
client.register_all_event_handler(Handler())
client.register_callback_handler(dingtalk_stream.ChatbotMessage.TOPIC, Robot())
client.start_forever()
