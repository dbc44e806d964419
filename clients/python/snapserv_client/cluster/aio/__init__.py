"""Clusters for asyncio: the same names as `snapserv_client.cluster`, awaited.

``own.py`` is its own; its other modules are the source of `snapserv_client.cluster.sync` too.
"""

from .cluster import Cluster
from .nodes import ClusterBranch, ClusterSnapshot

__all__ = ["Cluster", "ClusterBranch", "ClusterSnapshot"]
