"""Accepts jobs on an event loop, for callers that must answer within seconds: the gateway and the stream."""
