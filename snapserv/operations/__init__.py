"""What takes more than one message to a cell: steps in pieces, atomic ones, expansions, replays, verification.

The server's verbs come in. It uses `nodes` and what is below.
"""
