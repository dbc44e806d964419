"""``python -m snapserv.cell``: a master, as the server starts it."""

from .loop import main

main()
