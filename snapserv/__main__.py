"""``python -m snapserv`` is ``snapserv``."""

from .cli import main

main()
