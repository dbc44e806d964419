"""What clients ask for: each request with how its reply is understood, a module for each subject of the protocol.

Clients come in here, as ``requests.step(...)``. No sockets and no waiting: it uses the protocol, errors and wire.
"""

from .keep import *
from .look import *
from .message import *
from .run import *
from .server import *
from .store import *
from .tree import *  # last of all binds `tree`, the request, in the place of the module of that name
