"""One straight way to DingTalk: check, batch, slot, intent, HTTP, classify, report."""
