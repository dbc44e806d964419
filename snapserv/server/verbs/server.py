"""Verbs about the server itself."""

from __future__ import annotations

import os

from snapserv_client import protocol
from snapserv_client.protocol import PROTOCOL_VERSION

import snapserv

from ...errors import VersionMismatchError
from ...machine import descriptors
from ...nodes import states
from ...nodes.histograms import BOUNDS_S
from ...operations.unsaved import refuse_to_lose
from ...outside import accounting
from ..service import Call
from .registry import handles


@handles("hello")
async def hello(call: Call, args: protocol.HelloArgs) -> protocol.HelloResult:
    if args.protocol != PROTOCOL_VERSION:
        raise VersionMismatchError(
            f"the client speaks version {args.protocol} of the protocol, and this server {PROTOCOL_VERSION}",
            hint=f"install snapserv-client {snapserv.__version__}",
            details={"protocol": PROTOCOL_VERSION},
        )
    service = call.service
    return protocol.HelloResult(
        server=snapserv.__version__,
        protocol=PROTOCOL_VERSION,
        name=service.name,
        pid=os.getpid(),
        trees=list(service.nodes.forest.trees),
        events=service.events.endpoint,
        atomic=service.options.atomic,
        channel=service.channel is not None,
    )


@handles("ping")
async def ping(call: Call, args: protocol.Empty) -> protocol.Empty:
    return protocol.Empty()


@handles("spec")
async def spec(call: Call, args: protocol.SpecArgs) -> protocol.SpecResult:
    await call.service.planted()
    nodes = call.service.nodes
    return nodes.spec(nodes.tree(args.tree))


@handles("stats")
async def stats(call: Call, args: protocol.Empty) -> protocol.StatsResult:
    service, kinds = call.service, call.service.nodes.forest.kinds
    counters = service.nodes.counters
    times = sorted(counters.fork_us)
    return protocol.StatsResult(
        uptime_s=service.uptime_s,
        nodes=kinds.total(),
        snapshots=kinds["snapshot"],
        branches=kinds["branch"],
        dead=service.nodes.dead,
        clients=service.connected(),
        requests=service.counts.requests,
        errors=service.counts.errors,
        steps=counters.steps,
        forks=counters.forks,
        fork_us_p50=times[len(times) // 2] if times else 0.0,
        fork_us_p99=times[len(times) * 99 // 100] if times else 0.0,
        in_flight=len(service.calls),
        descriptors=descriptors.count_open(),
        threads=len(os.listdir("/proc/self/task")),
        resident_bytes=accounting.resident_bytes(os.getpid()),
        memory=service.budget.statistics(),
        longest_lane=service.nodes.traffic.longest,
        states=states.states(service.nodes),
        deaths=dict(counters.deaths),
        verbs=service.counts.by_verb(),
        bounds_s=list(BOUNDS_S),
        active=[service.nodes.info(node) for node in states.in_use(service.nodes)],
    )


@handles("watch")
async def watch(call: Call, args: protocol.Empty) -> protocol.WatchResult:
    events = call.service.events
    return protocol.WatchResult(events.endpoint, events.sequence)


@handles("shutdown")
async def shutdown(call: Call, args: protocol.ShutdownArgs) -> protocol.Empty:
    if not args.force:
        await refuse_to_lose(call.service.nodes, call.service.keeper)
    call.service.stop("a client asked for it")
    return protocol.Empty()
