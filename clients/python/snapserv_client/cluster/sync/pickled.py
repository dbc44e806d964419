"""Clusters and their nodes in another process of Ray's: joined there by name, once for each of its threads."""

from __future__ import annotations

import copyreg
import os
import threading
import weakref
from typing import Any

from .cluster import Cluster
from .nodes import ClusterBranch, ClusterNode, ClusterSnapshot

_known: weakref.WeakValueDictionary[tuple[str, int, int], Cluster] = weakref.WeakValueDictionary()


def cluster_called(name: str) -> Cluster:
    """Return a cluster, as this thread knows it."""
    key = (name, os.getpid(), threading.get_ident())
    found = _known.get(key)
    if found is None or found._member.closed:
        found = _known[key] = Cluster.join(name)
        found._closes_itself = True
    return found


def _cluster(cluster: Cluster) -> tuple[Any, ...]:
    return cluster_called, (cluster.name,)


def node_called(cluster: Cluster, name: str) -> ClusterNode:
    """Return a node of a cluster, wherever it is by now."""
    return cluster.node(name)


def _node(node: ClusterNode) -> tuple[Any, ...]:
    return node_called, (node.cluster, node.name)


copyreg.pickle(Cluster, _cluster)
copyreg.pickle(ClusterBranch, _node)
copyreg.pickle(ClusterSnapshot, _node)
