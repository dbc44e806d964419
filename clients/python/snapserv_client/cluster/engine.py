"""Ray, as far as a cluster needs it: it is an extra, and loaded when somebody has a cluster.

Ray places actors, watches and restarts them, and moves bytes between machines: nothing of that is ours.
"""

from __future__ import annotations

import os
from typing import Any

from ..errors import BadRequestError, NotFoundError, UnsupportedError

NAMESPACE = "snapserv"
"""Ray's namespace of our actors, so that whoever joins finds them by name."""
START_WITHIN_S = 600.0


def ray_module() -> Any:
    """Return Ray.

    Raises:
        UnsupportedError: It is not installed.
    """
    os.environ.setdefault("RAY_raylet_start_wait_time_s", "120")
    try:
        import ray  # an extra
    except ModuleNotFoundError as cause:
        raise UnsupportedError(
            "clusters need Ray, which is not installed", hint="pip install 'snapserv[ray]'"
        ) from cause
    return ray


def connect_to_ray(address: str | None, **options: Any) -> bool:
    """Have this process be a driver of Ray; return whether it was none before.

    Args:
        address: Ray's, as `ray.init` takes it: ``"auto"`` for the cluster that this machine is of, HOST:PORT of
            another one's head; None for whichever this process is connected to, or else one of its own.
        **options: More of what `ray.init` takes.

    Raises:
        NotFoundError: No cluster of Ray runs there.
    """
    ray = ray_module()
    if ray.is_initialized():
        return False
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    told: dict[str, Any] = {"namespace": NAMESPACE, "log_to_driver": False, "logging_level": "warning", **options}
    if address is None:
        told.setdefault("include_dashboard", False)
    try:
        ray.init(address=address or "local", **told)
    except (ConnectionError, RuntimeError) as cause:
        raise NotFoundError(f"no cluster of Ray at {address}: {cause}", hint="ray start --head") from cause
    return True


def registry_name(cluster: str) -> str:
    """Return what the registry of a cluster is called."""
    return f"{cluster}/registry"


def host_prefix(cluster: str) -> str:
    """Return how the names of a cluster's hosts begin."""
    return f"{cluster}/host-"


def registry_of(cluster: str) -> Any:
    """Return the registry of a cluster.

    Raises:
        NotFoundError: There is no such cluster.
    """
    ray = ray_module()
    try:
        return ray.get_actor(registry_name(cluster), namespace=NAMESPACE)
    except ValueError as cause:
        raise NotFoundError(
            f"there is no cluster {cluster!r} here",
            hint=f"snapserv cluster up, or one of: {', '.join(clusters()) or 'none'}",
        ) from cause


def clusters() -> list[str]:
    """Return the names of the clusters of snapserv that there are here."""
    found = ray_module().util.list_named_actors(all_namespaces=True)
    names = [each["name"] for each in found if each["namespace"] == NAMESPACE]
    return sorted(name.removesuffix("/registry") for name in names if name.endswith("/registry"))


def one_machine() -> bool:
    """Return whether all of Ray's nodes are on this machine."""
    nodes = [each for each in ray_module().nodes() if each["Alive"]]
    return len({each["NodeManagerHostname"] for each in nodes}) <= 1


def address_of(endpoint: str) -> tuple[str, str]:
    """Return Ray's address and the cluster's name in ``ray://[ADDRESS]/[NAME]``.

    Raises:
        BadRequestError: It is none.
    """
    scheme, _, rest = endpoint.partition("://")
    if scheme != "ray":
        raise BadRequestError(f"{endpoint!r} is no cluster", hint="write ray://ADDRESS/NAME, or ray:///NAME")
    address, _, name = rest.partition("/")
    return address or "auto", name or "default"
