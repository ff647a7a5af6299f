"""Accepts jobs on an event loop, for who must answer within seconds: the gateway and the stream."""
