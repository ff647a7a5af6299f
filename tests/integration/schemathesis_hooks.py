"""Bodies that schemathesis can't make by itself: JSON lines."""

import json

import schemathesis
from hypothesis import strategies as st

LINES = (
    json.dumps({"to": {"users": ["u1"]}, "message": {"msgtype": "text", "text": {"content": "x"}}}),
    json.dumps({"kind": "user-sync"}),
    json.dumps({"kind": "nope"}),
    json.dumps([1]),
    '{"a": 1, "a": 2}',
    "{",
    "",
    "\ud800".encode("utf-8", "surrogatepass").decode("latin-1"),
)

BODIES = st.lists(st.sampled_from(LINES) | st.text(max_size=20), max_size=8).map(
    lambda lines: "\n".join(lines).encode()
)

for media_type in ("application/x-ndjson", "application/jsonl"):
    schemathesis.openapi.media_type(media_type, BODIES)
