"""The process that holds a simulation, seen from inside: one thread, few imports, no ZeroMQ.

The server's nodes come in for the link and the scoreboard. It uses everything below, and loads what is rare late.
"""
