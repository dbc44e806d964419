"""What can go wrong, with stable codes: the classes are the client's, so that both sides raise the same."""

from snapserv_client.errors import *  # noqa: F403
from snapserv_client.errors import __all__ as __all__
