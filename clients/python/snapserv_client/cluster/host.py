"""A host: the actor that has one server on its machine. Ray places it, watches it and restarts it."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from ..errors import NotFoundError, SnapservError
from ..sync import Connection, Server
from .child import Child
from .engine import NAMESPACE, ray_module, registry_name
from .facts import Admission, Adopted, HostInfo, LostBranch, Settings
from .keyring import client_keys

T = TypeVar("T")
RESTARTS_AT_MOST = 3
ANSWERS_WITHIN_S = 30.0
FOLLOWS_EVERY_S = 0.2


class Host:
    """A host of a cluster; an actor of Ray's, several of whose methods run at a time.

    Args:
        settings: The cluster's.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._ended = threading.Event()
        self._ending = threading.Lock()
        self._failed: SnapservError | None = None
        self._child: Child | None = None
        ray = ray_module()
        self._ray = ray
        self._registry = ray.get_actor(registry_name(settings.cluster), namespace=NAMESPACE)
        try:
            self._begin(ray.get(self._registry.admit.remote(ray.get_runtime_context().get_node_id())))
        except SnapservError as error:
            print(f"this host does not begin: {error.code}: {error}", flush=True)  # to Ray's log of this actor
            self._failed = error
            return
        threading.Thread(target=self._look_after, daemon=True).start()
        threading.Thread(target=self._follow, daemon=True).start()

    def _begin(self, admission: Admission) -> None:
        """Start the server, have the tree's root last, and join."""
        ray = self._ray
        context = ray.get_runtime_context()
        address = ray.util.get_node_ip_address()
        child = self._child = Child(self._settings, admission, address)
        root = admission.root or self._with_server(lambda server: server.snapshot("root").save().saved[0].uid)
        self.info = HostInfo(
            number=admission.number,
            endpoint=child.endpoint,
            machine=socket.gethostname(),
            node=context.get_node_id(),
            cores=len(os.sched_getaffinity(0)),
            root=root,
            pid=child.pid,
            actor=os.getpid(),
        )
        ray.get(self._registry.join.remote(self.info, context.current_actor, self.names()))

    # --------------------------------------------------------------------------------------- what the registry asks

    def ready(self) -> tuple[HostInfo | None, dict[str, Any] | None]:
        """Return what it is; or what its start has met, as an error goes over the wire."""
        if self._failed is not None:
            return None, self._failed.to_wire()
        return self.info, None

    def lasting(self) -> None:
        """Return when the host ends; Ray raises an error where its process does."""
        self._ended.wait()

    def names(self) -> list[str]:
        """Return what the nodes of its server are called, tags included."""
        nodes = self._with_server(lambda server: server.tree().nodes)
        return [name for node in nodes for name in (node.name, *node.tags)]

    def has(self, name: str) -> bool:
        """Return whether its server has a node of that name."""
        try:
            self._with_server(lambda server: server.node(name))
        except NotFoundError:
            return False
        return True

    def load(self, stored: str) -> None:
        """Have its server take up a snapshot that lasts."""
        self._with_server(lambda server: server.load(stored))

    def adopt(self, lost: Sequence[LostBranch]) -> list[Adopted]:
        """Have branches of a server that is gone go on here; each of them for itself."""

        def adopt_all(server: Server) -> list[Adopted]:
            return [self._adopt(server, each) for each in lost]

        return self._with_server(adopt_all)

    def end(self) -> None:
        """Have the server save what it has, and end."""
        with self._ending:
            self._ended.set()
            if self._child is not None:
                self._child.end()
                self._child = None

    @staticmethod
    def _adopt(server: Server, lost: LostBranch) -> Adopted:
        try:
            with contextlib.suppress(NotFoundError):
                there = server.branch(lost.name)
                return Adopted(lost.name, there.last.step)  # by a registry that has ended since
            if not lost.snapshot:
                return Adopted(lost.name, error=NotFoundError("no snapshot of it lasts").to_wire())
            branch = server.load(lost.snapshot).branch(name=lost.name)
            for tag in lost.tags:
                branch.tag(tag)
        except SnapservError as error:
            return Adopted(lost.name, error=error.to_wire())
        return Adopted(lost.name, branch.last.step)

    # ------------------------------------------------------------------------------------------------- its own life

    def _with_server(self, ask: Callable[[Server], T]) -> T:
        child = self._child
        if child is None:
            raise NotFoundError("the host has ended")
        connection = Connection(child.endpoint, ANSWERS_WITHIN_S, client_keys(self._settings.keys))
        with Server(connection) as server:
            server.greet(ANSWERS_WITHIN_S)
            return ask(server)

    def _look_after(self) -> None:
        """Start the server again where it ends by itself; the next one takes in the nodes that it has left."""
        for _ in range(RESTARTS_AT_MOST):
            child = self._child
            if child is None:
                return
            child.process.wait()
            with self._ending:
                if self._ended.is_set():
                    return
                try:
                    child.start()
                except SnapservError:
                    break
        os._exit(1)  # Ray has another host begin here, and the registry has others go on with what this one had

    def _follow(self) -> None:
        """End when the registry has ended for good: there is no cluster any more."""
        name = registry_name(self._settings.cluster)
        while not self._ended.wait(FOLLOWS_EVERY_S):
            with contextlib.suppress(Exception):  # of whatever kind: it has ended, and may begin again
                self._ray.get(self._registry.lasting.remote(self._settings.uid))
                break  # this is another one
            try:
                self._registry = self._ray.get_actor(name, namespace=NAMESPACE)
            except Exception:  # noqa: BLE001 - it does not, or Ray itself has ended
                break
        self.end()
        if self._settings.own_store:
            shutil.rmtree(self._settings.store, ignore_errors=True)
        os._exit(0)


def options_of(settings: Settings, node: str) -> Mapping[str, Any]:
    """Return how Ray is to run a host: on that machine, again where it dies, for as long as the registry lives."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    return {
        "namespace": NAMESPACE,
        "lifetime": "detached",
        "max_restarts": -1,
        "max_task_retries": 0,
        "max_concurrency": 16,
        "num_cpus": settings.num_cpus,
        "resources": dict(settings.resources) or None,
        "runtime_env": None if settings.runtime_env is None else dict(settings.runtime_env),
        "scheduling_strategy": NodeAffinitySchedulingStrategy(node, soft=False),
    }
