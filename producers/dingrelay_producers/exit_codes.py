"""Exit codes of commands."""

DONE = 0
OTHERWISE = 1
"""The job ended otherwise."""
USAGE = 2
"""The job, an option or a setting is wrong."""
UNREACHABLE = 3
"""A service cannot be reached."""
NOT_ENDED = 4
"""Exit code: the job has not ended within the timeout. It goes on."""
INTERRUPTED = 130
"""Ctrl-C, as a shell says it. What was waited for goes on."""
