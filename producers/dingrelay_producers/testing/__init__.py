"""Helpers for the tests of business applications: a client that enqueues nothing, and a whole system.

`RecordingClient` stands in for `Client` where a test asks what the application would have enqueued.
``pytest_plugins = ["dingrelay_producers.testing.fixtures"]`` brings the fixture ``dingrelay``: workers
and a DingTalk on this machine, for a test of what people get.
"""

from dingrelay_producers.testing.recording import Outcome, RecordingAsyncClient, RecordingClient

__all__ = ["Outcome", "RecordingAsyncClient", "RecordingClient"]
