"""The door for events through a stream: a WebSocket that we open to DingTalk (API §7.4)."""
