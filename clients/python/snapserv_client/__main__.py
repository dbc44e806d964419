"""``python -m snapserv_client`` is ``snapserv-client``."""

from .cli import main

main()
