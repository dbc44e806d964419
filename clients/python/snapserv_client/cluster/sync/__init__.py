"""Clusters, for whoever waits for one thing at a time; see `snapserv_client.cluster`.

``own.py`` is its own; its other modules are generated from `snapserv_client.cluster.aio`.
"""

from . import pickled as pickled  # how they are pickled
from .cluster import Cluster
from .nodes import ClusterBranch, ClusterSnapshot

__all__ = ["Cluster", "ClusterBranch", "ClusterSnapshot"]
