"""Detects recipients that an app's messages surely can't reach, before a call."""
