"""Chaos: clients work at random while all around them is killed, stopped and corrupted; nothing may get lost.

``python -m tests.chaos`` runs a schedule that follows from a seed alone, and checks every reply and, in the end,
every byte against a model that shares no code with the server.
"""
