"""``python -m snapserv.cell``: a master, as the server starts it."""

from .starting import main

main()
