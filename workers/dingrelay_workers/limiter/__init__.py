"""Limits that hold across the fleet."""

from dingrelay_workers.limiter.grant import Draining, Grant, Parked

__all__ = ["Draining", "Grant", "Parked"]
