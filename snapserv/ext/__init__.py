"""The compiled modules, built from ``ext/`` by ``setup.py``, with their types in ``.pyi`` files.

The rooms above come in. They use nothing of ours.
"""

import os

LOADER = f"{os.path.dirname(__file__)}/loader"
"""The program that becomes what a script says: ``ext/images/loader.c``."""
