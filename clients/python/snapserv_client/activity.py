"""What a server did between two looks at its counters: rates, and how long requests took in that time."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from .protocol import NodeInfo, StatsResult, VerbStats


class VerbActivity(msgspec.Struct):
    """One verb: requests and errors a second, and how long half of them and 99 % of them took at most."""

    verb: str
    per_s: float
    errors_per_s: float
    p50_ms: float
    p99_ms: float


class NodeActivity(msgspec.Struct):
    """One of the nodes that were used last; ``steps_per_s`` is None where it was not among them before."""

    name: str
    kind: str
    state: str
    step: int
    steps_per_s: float | None
    pid: int


class Activity(msgspec.Struct):
    """What happened in ``interval_s``, and what there is now; ``restarted``: another server answers than before."""

    interval_s: float
    restarted: bool
    requests_per_s: float
    errors_per_s: float
    steps_per_s: float
    forks_per_s: float
    verbs: list[VerbActivity]
    nodes: list[NodeActivity]
    stats: StatsResult


def between(before: StatsResult, after: StatsResult, interval_s: float) -> Activity:
    """Return what happened between two looks, the busiest verbs first.

    A server that was restarted counts anew, so all that it has counted is what happened.
    """
    restarted = after.uptime_s < before.uptime_s
    former = {} if restarted else {each.verb: each for each in before.verbs}
    seconds = min(interval_s, after.uptime_s) if restarted else interval_s
    verbs = [_verb(former.get(each.verb), each, after.bounds_s, seconds) for each in after.verbs]
    steps = {} if restarted else {node.id: node.step for node in before.active}

    def rate(counter: str) -> float:
        counted: int = getattr(after, counter) - (0 if restarted else getattr(before, counter))
        return counted / seconds

    return Activity(
        interval_s=interval_s,
        restarted=restarted,
        requests_per_s=rate("requests"),
        errors_per_s=rate("errors"),
        steps_per_s=rate("steps"),
        forks_per_s=rate("forks"),
        verbs=sorted((each for each in verbs if each.per_s), key=lambda each: (-each.per_s, each.verb)),
        nodes=[_node(node, steps.get(node.id), seconds) for node in after.active],
        stats=after,
    )


def _verb(before: VerbStats | None, after: VerbStats, bounds_s: list[float], seconds: float) -> VerbActivity:
    former = before.buckets if before is not None else []
    buckets = [count - (former[index] if index < len(former) else 0) for index, count in enumerate(after.buckets)]
    errors = after.errors - (before.errors if before is not None else 0)
    return VerbActivity(
        verb=after.verb,
        per_s=sum(buckets) / seconds,
        errors_per_s=errors / seconds,
        p50_ms=quantile(bounds_s, buckets, 0.50) * 1000,
        p99_ms=quantile(bounds_s, buckets, 0.99) * 1000,
    )


def _node(node: NodeInfo, before: int | None, seconds: float) -> NodeActivity:
    # One that was restored to an earlier moment has made fewer steps than none.
    steps_per_s = None if before is None else max(0, node.step - before) / seconds
    return NodeActivity(node.name, node.kind, node.state, node.step, steps_per_s, node.pid)


def quantile(bounds: Sequence[float], buckets: Sequence[int], part: float) -> float:
    """Return what the ``part`` of those counted in ``buckets`` stayed below; 0 where nothing was counted.

    Within a bucket all lengths are taken to be equally likely, as Prometheus' ``histogram_quantile`` does it; of
    what is longer than all bounds only that is known.
    """
    wanted = sum(buckets) * part
    below = 0
    for index, count in enumerate(buckets):
        if count and below + count >= wanted:
            if index == len(bounds):
                return bounds[-1]
            least = bounds[index - 1] if index else 0.0
            return least + (bounds[index] - least) * max(0.0, wanted - below) / count
        below += count
    return 0.0
