"""DingTalk's own APIs, one file a family."""
