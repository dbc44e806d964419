"""Searching over branches: two programs against the client alone, to be read in a sitting."""
