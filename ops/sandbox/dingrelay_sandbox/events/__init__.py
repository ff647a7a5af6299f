"""Pushes of DingTalk: events, and the two ways on which they travel (API §7)."""
