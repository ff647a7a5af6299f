"""Notices for subscribers, written in one step with the change that they are about."""
