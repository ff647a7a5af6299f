"""Traces: which one a job belongs to, and spans of OpenTelemetry where a process has that."""
