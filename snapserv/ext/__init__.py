"""Compiled modules, built from ``ext/`` by ``setup.py``: fork, memory and the simulation kernels."""
