"""A DingTalk on localhost."""
