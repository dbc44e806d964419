"""A store in an object store, such as S3, through obstore. Whoever may write to the bucket is trusted.

An object store writes an object whole or not at all, and has it for good when it says so.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any, BinaryIO

from ..errors import BadRequestError, NotFoundError, SnapservError, StoreUnavailableError, UnsupportedError
from .blobs import TIMEOUT_S, Buffer, Entry
from .folder import REASONS

try:
    import obstore
    from obstore import exceptions
    from obstore.store import from_url
except ModuleNotFoundError as cause:
    raise UnsupportedError(
        f"object stores need {cause.name}, which is not installed",
        hint="pip install 'snapserv-client[store]'",
    ) from cause

PART_BYTES = 8 << 20
AT_ONCE = 8
CONNECT_WITHIN_S = 5.0
RETRIES = 4


class ObjectBlobs:
    """Objects in a bucket, under a prefix; see `Blobs`.

    Args:
        url: Such as ``s3://bucket/prefix``. Credentials, region and endpoint are those of the environment.
        timeout_s: How long a request may take, and for how long those that failed are tried again.

    Raises:
        BadRequestError: Nothing is known of such a URL.
    """

    gap = 1 << 20

    def __init__(self, url: str, *, timeout_s: float = TIMEOUT_S) -> None:
        self.url = url
        client: dict[str, Any] = {
            "timeout": timedelta(seconds=timeout_s),
            "connect_timeout": timedelta(seconds=min(CONNECT_WITHIN_S, timeout_s)),
        }
        if os.environ.get("AWS_ENDPOINT_URL", os.environ.get("AWS_ENDPOINT", "")).startswith("http://"):
            client["allow_http"] = True  # whoever names such an endpoint means it
        try:
            self._store = from_url(
                url,
                client_options=client,  # type: ignore[call-overload]
                retry_config={"max_retries": RETRIES, "retry_timeout": timedelta(seconds=timeout_s)},
            )
        except (exceptions.BaseError, ValueError) as cause:
            raise BadRequestError(
                f"{url} is no store: {_short(cause)}",
                hint="s3://, gs:// or az://, with bucket and prefix",
            ) from cause

    def get(self, key: str) -> bytes:
        """See `Blobs.get`."""
        with _typed(key):
            return bytes(obstore.get(self._store, key).bytes())

    def get_ranges(self, key: str, ranges: Sequence[tuple[int, int]]) -> list[Buffer]:
        """See `Blobs.get_ranges`."""
        starts, sizes = [start for start, _ in ranges], [size for _, size in ranges]
        try:
            with _typed(key):
                found = obstore.get_ranges(self._store, key, starts=starts, lengths=sizes)
        except StoreUnavailableError:
            entry = self.head(key)
            if entry is None or all(start + size <= entry.size for start, size in ranges):
                raise
            whole = self.get(key)  # it is shorter than it should be, which is an error to an object store
            return [whole[start : start + size] for start, size in ranges]
        return [memoryview(each) for each in found]

    def get_all(self, keys: Iterable[str]) -> Iterator[tuple[str, bytes | None]]:
        """See `Blobs.get_all`."""
        asked = list(keys)
        with ThreadPoolExecutor(AT_ONCE) as pool:
            yield from zip(asked, pool.map(self._get_if_there, asked), strict=True)

    def put(self, key: str, data: Buffer) -> None:
        """See `Blobs.put`."""
        with _typed(key, bucket=True):
            obstore.put(self._store, key, data, chunk_size=PART_BYTES)

    def put_new(self, key: str, data: Buffer) -> bool:
        """See `Blobs.put_new`."""
        try:
            with _typed(key, bucket=True):
                obstore.put(self._store, key, data, mode="create")
        except FileExistsError:
            return False
        return True

    def spool(self) -> ObjectSpool:
        """See `Blobs.spool`."""
        return ObjectSpool(self)

    def entries(self, prefix: str) -> list[Entry]:
        """See `Blobs.entries`."""
        with _typed(self.url, bucket=True):
            found = obstore.list(self._store, prefix or None, chunk_size=1000)
            return sorted(
                Entry(str(each["path"]), int(each["size"]), each["last_modified"].timestamp())
                for chunk in found
                for each in chunk
            )

    def head(self, key: str) -> Entry | None:
        """See `Blobs.head`."""
        try:
            with _typed(key):
                found = obstore.head(self._store, key)
        except NotFoundError:
            return None
        return Entry(key, int(found["size"]), found["last_modified"].timestamp())

    def absent(self, keys: Iterable[str]) -> list[str]:
        """See `Blobs.absent`."""
        asked = list(keys)
        with ThreadPoolExecutor(AT_ONCE) as pool:
            return [key for key, entry in zip(asked, pool.map(self.head, asked), strict=True) if entry is None]

    def delete(self, key: str) -> None:
        """See `Blobs.delete`."""
        with contextlib.suppress(NotFoundError), _typed(key):
            obstore.delete(self._store, key)

    def upload(self, key: str, file: BinaryIO) -> None:
        """Write an object from a file."""
        with _typed(key, bucket=True):
            obstore.put(self._store, key, file, chunk_size=PART_BYTES, max_concurrency=4)

    def _get_if_there(self, key: str) -> bytes | None:
        try:
            return self.get(key)
        except NotFoundError:
            return None


class ObjectSpool:
    """A temporary file of this machine, which is uploaded; see `Spool`."""

    def __init__(self, blobs: ObjectBlobs) -> None:
        self._blobs = blobs
        with _typed(tempfile.gettempdir()):
            self._file: BinaryIO = tempfile.TemporaryFile(prefix="snapserv-")  # noqa: SIM115

    def write(self, data: Buffer) -> None:
        """See `Spool.write`."""
        with _typed(tempfile.gettempdir()):
            self._file.write(data)

    def keep(self, key: str) -> None:
        """See `Spool.keep`."""
        with _typed(key):
            self._file.flush()
            self._file.seek(0)
        self._blobs.upload(key, self._file)
        self._file.close()

    def discard(self) -> None:
        """See `Spool.discard`."""
        with contextlib.suppress(OSError):
            self._file.close()


@contextlib.contextmanager
def _typed(what: str, *, bucket: bool = False) -> Iterator[None]:
    """Raise what obstore raises as a typed error; what is not there is the bucket, where ``bucket``."""
    try:
        yield
    except (SnapservError, FileExistsError):
        raise
    except (exceptions.NotFoundError, FileNotFoundError) as cause:
        if bucket:
            raise _unavailable(what, cause, "refused") from cause
        raise NotFoundError(f"there is no {what} in the store", details={"key": what}) from cause
    except exceptions.AlreadyExistsError as cause:
        raise FileExistsError(what) from cause
    except (exceptions.PermissionDeniedError, exceptions.UnauthenticatedError) as cause:
        raise _unavailable(what, cause, "refused") from cause
    except exceptions.BaseError as cause:
        said_no = "non-2xx status code: 4" in str(cause)
        raise _unavailable(what, cause, "refused" if said_no else "network") from cause
    except OSError as cause:
        raise _unavailable(what, cause, REASONS.get(cause.errno or 0, "input_output")) from cause


def _unavailable(what: str, cause: Exception, reason: str) -> StoreUnavailableError:
    return StoreUnavailableError(f"{what}: {_short(cause)}", details={"key": what, "reason": reason})


def _short(cause: Exception) -> str:
    """Return the first lines of what obstore says, which goes on with what is only of use to its authors."""
    said = str(cause).partition("\n\nDebug source:")[0].strip()
    return said if len(said) < 400 else said[:400] + "…"
