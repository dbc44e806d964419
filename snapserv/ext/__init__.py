"""The compiled modules, built from ``ext/`` by ``setup.py``, with their types in ``.pyi`` files.

The rooms above come in. They use nothing of ours.
"""
