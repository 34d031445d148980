"""Probes: a pure state machine, and the asking."""
