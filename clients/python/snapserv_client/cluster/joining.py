"""A cluster as one process knows it: its registry, its keys, and which hosts there are, as soon as that changes."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import tempfile
import threading
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import BadRequestError, NameTakenError, NotFoundError, SnapservError, UnreachableError
from ..keys import ClientKeys
from ..private import _named as name_of_class
from .engine import NAMESPACE, connect_to_ray, one_machine, ray_module, registry_name, registry_of
from .facts import Durable, HostInfo, Hosts, Settings
from .keyring import client_keys, make_keys

ENDS_WITHIN_S = 60.0


class Membership:
    """What this process knows of a cluster that it has joined. A thread waits for news of the registry.

    Args:
        name: The cluster's name.
        owner: Whether the cluster ends when this does.
        ends_ray: Whether this process is a driver of Ray's for this alone.
        held: What lasts for as long as this does.
    """

    def __init__(self, name: str, *, owner: bool, ends_ray: bool, held: Any = None) -> None:
        self._held = held
        self._ray = ray_module()
        self.name = name
        self.registry = registry_of(name)
        self.settings: Settings = self.ask("settings")
        self.keys: ClientKeys = client_keys(self.settings.keys)
        self._owner = owner
        self._ends_ray = ends_ray
        self._pid = os.getpid()
        self._hosts: Hosts = self.ask("ready")
        self._listeners: weakref.WeakSet[Any] = weakref.WeakSet()
        self._lock = threading.Lock()
        self._seeds: tuple[int, int] = (0, 0)
        self.closed = False
        threading.Thread(target=_listen, args=(weakref.ref(self), self.registry), daemon=True).start()

    @property
    def hosts(self) -> Mapping[int, HostInfo]:
        """The hosts, by their numbers."""
        return self._hosts.there

    def ask(self, what: str, *args: Any) -> Any:
        """Ask the registry something, and return its answer; wait where it begins again.

        Raises:
            UnreachableError: There is none any more.
            SnapservError: What it has met.
        """
        exceptions = self._ray.exceptions
        while True:
            try:
                return self._ray.get(getattr(self.registry, what).remote(*args))
            except exceptions.RayActorError as cause:
                threading.Event().wait(0.2)
                try:
                    self.registry = registry_of(self.name)
                except NotFoundError:
                    raise UnreachableError(f"the cluster {self.name} has ended") from cause
            except exceptions.RayTaskError as error:
                met: Any = error.cause
                if isinstance(met, SnapservError):
                    raise type(met)(met.message, hint=met.hint, details=met.details) from None
                raise

    def host(self, number: int) -> HostInfo:
        """Return a host.

        Raises:
            UnreachableError: It has ended.
        """
        found = self.hosts.get(number)
        if found is None:
            self.renew()
            found = self.hosts.get(number)
        if found is None:
            raise UnreachableError(f"host h{number} of the cluster {self.name} has ended")
        return found

    def renew(self) -> None:
        """Ask which hosts there are."""
        self.take(self.ask("hosts"))

    def take(self, hosts: Hosts) -> None:
        """Take note of which hosts there are, and tell who listens."""
        with self._lock:
            if hosts.version >= self._hosts.version or self._hosts.there.keys() != hosts.there.keys():
                self._hosts = hosts
            listeners = list(self._listeners)
        for each in listeners:
            each.hosts_changed()

    def tell(self, listener: Any) -> None:
        """Have ``listener.hosts_changed()`` be called, in another thread, whenever hosts have come or gone."""
        with self._lock:
            self._listeners.add(listener)

    def seeds(self, count: int) -> list[int]:
        """Return seeds that nobody else is given: the same ones in the next run of the same program."""
        from .registry import SEEDS_AT_ONCE

        with self._lock:
            first, end = self._seeds
            if end - first < count:
                first = self.ask("seeds")
                end = first + max(SEEDS_AT_ONCE, count)
            self._seeds = first + count, end
        return [mixed(number) for number in range(first, first + count)]

    def close(self) -> None:
        """Leave the cluster; where it is this one's own, it ends."""
        if self.closed or self._pid != os.getpid():
            return
        self.closed = True
        try:
            if self._owner:
                end_cluster(self.registry, self.settings)
        finally:
            if self._ends_ray:
                self._ray.shutdown()


def mixed(number: int) -> int:
    """Return a seed for a number; those of neighbours have nothing in common (splitmix64, as servers do)."""
    mask = (1 << 64) - 1
    value = ((number + 1) * 0x9E3779B97F4A7C15) & mask
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & mask
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & mask
    return (value ^ (value >> 31)) >> 1


def _listen(which: weakref.ref[Membership], registry: Any) -> None:
    ray, version = ray_module(), -1
    while (member := which()) is not None and not member.closed and ray.is_initialized():
        registry, name = member.registry, member.name
        del member
        try:
            hosts = ray.get(registry.changed.remote(version))
        except Exception:  # noqa: BLE001 - it begins again, or has ended
            threading.Event().wait(0.3)
            if (member := which()) is None or member.closed or not ray.is_initialized():
                return  # or Ray would connect anew
            with contextlib.suppress(Exception):
                member.registry, version = registry_of(name), -1
            del member
            continue
        version = hosts.version
        if (member := which()) is not None:
            member.take(hosts)


def end_cluster(registry: Any, settings: Settings) -> None:
    """End a cluster: its servers save what they have, and its actors end."""
    ray = ray_module()
    with contextlib.suppress(Exception):  # where it has ended, so have its hosts
        ray.get(registry.end.remote(), timeout=ENDS_WITHIN_S)
    with contextlib.suppress(Exception):
        ray.kill(registry, no_restart=True)
    if settings.own_store:
        shutil.rmtree(settings.store, ignore_errors=True)


def start(
    target: str | type,
    *,
    name: str | None,
    hosts: int | None,
    store: str | None,
    address: str | None,
    durable: Durable,
    params: Mapping[str, Any],
    num_cpus: float,
    resources: Mapping[str, float] | None,
    runtime_env: Mapping[str, Any] | None,
    serve: Sequence[str],
    detached: bool,
    start_within_s: float,
) -> Membership:
    """Start a cluster, and return what this process knows of it; see `Cluster`."""
    from .registry import Registry

    ends_ray = connect_to_ray(address)
    ray = ray_module()
    chosen = name or f"c{secrets.token_hex(4)}"
    own_store = store is None
    if store is None:
        if not one_machine():
            raise BadRequestError(
                "a cluster of several machines needs a store",
                hint="a folder that they share, or s3://bucket/prefix",
            )
        store = tempfile.mkdtemp(prefix="snapserv-store-")
        os.rmdir(store)  # who writes to it first makes it
    elif "://" not in store:
        store = str(Path(store).absolute())
    named, pickled = _target(target)
    settings = Settings(
        cluster=chosen,
        uid=secrets.token_hex(16),
        target=named,
        params=json.loads(json.dumps(dict(params))),
        store=store,
        own_store=own_store,
        keys=make_keys(),
        hosts=hosts,
        durable=durable,
        num_cpus=num_cpus,
        resources=dict(resources or {}),
        runtime_env=runtime_env,
        serve=tuple(serve),
        pickled=pickled,
        detached=detached,
        search_path=(os.getcwd(),),
        start_within_s=start_within_s,
    )
    options: dict[str, Any] = {"lifetime": "detached"} if detached else {}
    made = ray.remote(Registry).options(
        name=registry_name(chosen),
        namespace=NAMESPACE,
        num_cpus=0,
        max_restarts=-1,
        max_concurrency=1000,
        **options,
    )
    try:
        registry = made.remote(settings)
    except ValueError as cause:
        raise NameTakenError(f"there is a cluster {chosen!r}", hint="join it, or choose another name") from cause
    try:
        return Membership(chosen, owner=not detached, ends_ray=ends_ray, held=registry)
    except BaseException:
        end_cluster(registry, settings)
        if ends_ray:
            ray.shutdown()
        raise


def join(name: str, address: str | None) -> Membership:
    """Return what this process knows of a cluster that runs.

    Raises:
        NotFoundError: There is none of that name.
    """
    ends_ray = connect_to_ray(address or "auto")
    try:
        return Membership(name, owner=False, ends_ray=ends_ray)
    except BaseException:
        if ends_ray:
            ray_module().shutdown()
        raise


def _target(target: str | type) -> tuple[str, bytes | None]:
    """Return what to serve by its name; or the class by value, where it has none that others can import."""
    if isinstance(target, str):
        path, colon, what = target.rpartition(":")
        return (f"{Path(path).absolute()}:{what}" if colon and path.endswith(".py") else target), None
    with tempfile.TemporaryDirectory() as folder:
        named = name_of_class(target, Path(folder))
        if named.startswith("pickle:"):
            return named, Path(named.removeprefix("pickle:")).read_bytes()
    return named, None
