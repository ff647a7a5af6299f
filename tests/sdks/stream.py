"""dingtalk-stream (official): listens to events until it has seen ``last``, and says what it saw.

Arguments: where the sandbox is, client id and secret, and how a handler answers the first event.
"""

import json
import os
import sys

os.environ["DINGTALK_OPENAPI_ENDPOINT"] = sys.argv[1]

import dingtalk_stream
from dingtalk_stream import AckMessage, EventMessage

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


credential = dingtalk_stream.Credential(*sys.argv[2:4])
client = dingtalk_stream.DingTalkStreamClient(credential)
client.register_all_event_handler(Handler())
client.start_forever()
