"""What DingTalk sends by itself: events, and the two ways on which they travel (API §7)."""
