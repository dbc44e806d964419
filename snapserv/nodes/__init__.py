"""Nodes with their processes: names and lineage, who is cloned and ended, turns, and what outlives the server.

The budget and what is above it come in. It uses `cell` for its link, `outside`, `folders` and `machine`.
"""
