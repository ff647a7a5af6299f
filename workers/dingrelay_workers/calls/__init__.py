"""One straight way to DingTalk: check, batch, slot, intent, HTTP, classify, tell the limiter."""
