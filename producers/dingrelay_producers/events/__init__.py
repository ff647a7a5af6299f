"""Events as DingTalk sends them: what both doors share."""
