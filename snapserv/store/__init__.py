"""Writing to a store of durable snapshots: packs, images, heads; collecting, verifying and copying them.

`server`, `operations` and what saves or brings back processes come in, never a cell. It uses the client's `store`.
"""

from snapserv.errors import UnsupportedError

try:
    import zstandard as _zstandard  # noqa: F401
except ModuleNotFoundError as cause:
    raise UnsupportedError(
        f"stores need {cause.name}, which is not installed", hint="pip install 'snapserv[store]'"
    ) from cause
