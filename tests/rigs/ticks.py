"""Cancellation at each point where a coroutine waits; published with the conformance suite."""

from pattern_db.testing.ticks import Make, When, cancel_at, count_ticks, each_tick

__all__ = ["Make", "When", "cancel_at", "count_ticks", "each_tick"]
