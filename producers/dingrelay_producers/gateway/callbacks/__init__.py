"""The door for events that DingTalk pushes over HTTP."""
