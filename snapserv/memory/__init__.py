"""Simulation memory: the arena, what it stands on, and what keeps it cheap to clone.

Everybody comes in who holds or reads fields. It uses `machine` and compiled modules.
"""
