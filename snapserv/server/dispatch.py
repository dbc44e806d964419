"""Messages in and replies out: each request is checked, becomes a task, and is answered once.

What a request changes and what it is answered are written down together before anybody is told.
"""

from __future__ import annotations

import asyncio
import difflib
import time
from typing import Any

import msgspec
import structlog
import zmq
from snapserv_client.protocol import (
    MAX_IN_FLIGHT,
    PROTOCOL_VERSION,
    VERBS,
    Progress,
    RequestHeader,
    StepArgs,
)
from snapserv_client.transport import has_input, receive_frames
from snapserv_client.wire import MAGIC, MAX_BUFFERS, Frames, convert, leading_id, pack, readable_id, unpack

from ..cell.holdings import notice_of
from ..cell.ticks import SAID
from ..errors import (
    BadRequestError,
    BusyError,
    InternalError,
    SnapservError,
    StepInterruptedError,
    TooLargeError,
    VersionMismatchError,
)
from ..nodes.faults import note_fault
from ..nodes.ledger import Ledger
from . import logs
from .access import Door
from .outgoing import Outgoing, replies_wait
from .quick import QuickStep, QuickSteps
from .rates import Rates
from .service import Call, Service
from .sessions import GONE, Session
from .streams import Stream
from .throttled_log import ThrottledLog
from .verbs.all import HANDLERS

log = structlog.get_logger(__name__)

BATCH = 64
MOST_SAID = 200
"""An error's message may repeat what was sent."""
SLOW_S = 1.0
"""A request that took longer has a line in the log."""


class Dispatcher:
    """Takes requests in from a ROUTER, and sends what came of them.

    Args:
        router: Where clients are; closed by the caller.
        door: Who they are, and what each may ask for.
        service: What requests are served with.
        ledger: Where replies are written down before they are sent.
        rate: Requests a second that one client may ask.
    """

    def __init__(
        self, router: zmq.Socket[bytes], door: Door, service: Service, ledger: Ledger, *, rate: float
    ) -> None:
        self._router = router
        self._door = door
        self._service = service
        self._ledger = ledger
        self._rates = Rates(rate)
        self._throttled = ThrottledLog()
        self._outgoing = Outgoing(router)
        self._loop = asyncio.get_running_loop()
        self._drain_planned = False
        self._quick = QuickSteps(service, self._conclude)

    def open(self) -> None:
        """Answer requests from now on."""
        self._loop.add_reader(int(self._router.getsockopt(zmq.FD)), self._drain)
        self._drain()

    def close(self) -> None:
        """Take no further requests in."""
        self._loop.remove_reader(int(self._router.getsockopt(zmq.FD)))

    def sweep(self) -> None:
        """Forget replies that were taken; to be called now and then."""
        self._outgoing.forget_taken()

    def _drain(self) -> None:
        """Take in what has come. ZeroMQ's descriptor tells of changes only, so whoever sends looks again."""
        self._drain_planned = False
        logs.cause.set(None)  # where a request has planned it, what follows is not that one's
        for number in range(BATCH):
            if number and not has_input(self._router):
                return
            try:
                client = self._door.receive_client(self._router)
            except zmq.Again:
                return  # a change of another kind
            self._receive(client, receive_frames(self._router))
        self._plan_drain()

    def _plan_drain(self) -> None:
        if not self._drain_planned and has_input(self._router):
            self._drain_planned = True
            self._loop.call_soon(self._drain)

    def _receive(self, client: bytes, frames: Frames) -> None:
        self._service.counts.requests += 1
        request_id = 0
        size = len(frames[1]) if len(frames) > 1 else 0
        is_ours = bool(frames) and frames[0] == MAGIC
        try:
            try:
                self._rates.take(self._door.user(client), size)
            except BusyError:
                if not is_ours:
                    return
                request_id = leading_id(frames[1]) if size else 0
                raise
            if not is_ours:
                if frames and bytes(frames[0][:2]) == MAGIC[:2]:
                    raise VersionMismatchError(
                        f"this server speaks version {PROTOCOL_VERSION} of the protocol",
                        details={"protocol": PROTOCOL_VERSION},
                    )
                self._service.counts.refused["not_our_protocol"] += 1
                self._throttled.warn("not_our_protocol", client=client.hex())
                return
            if len(frames) < 2 or len(frames) > MAX_BUFFERS + 2:
                raise BadRequestError(
                    f"a message of the wrong number of frames: 2 to {MAX_BUFFERS + 2} are allowed"
                )
            raw = unpack(frames[1], frames[2:], request=True)
            if isinstance(raw, dict) and type(raw.get("id")) is int:
                request_id = raw["id"]
            header = convert(raw, RequestHeader, what="header")
            self._accept(client, header)
        except SnapservError as error:
            if not request_id and is_ours and size:
                request_id = readable_id(frames[1])
            self._service.counts.refused[error.code] += 1
            self._throttled.warn(
                "request_refused",
                error.code,
                code=error.code,
                error=error.message[:MOST_SAID],
                client=client.hex(),
                request=request_id,
            )
            self._send(client, self._failed(request_id, error))
        except Exception:
            # Nothing that a client sends may stop the others from being heard.
            log.exception("internal_error", client=client.hex())
            self._send(client, self._failed(request_id, InternalError("the request failed inside the server")))

    def _accept(self, client: bytes, header: RequestHeader) -> None:
        """Start a request, or answer a retry from memory.

        Raises:
            SnapservError: It is not started.
        """
        verb = VERBS.get(header.verb)
        if verb is None:
            close = difflib.get_close_matches(header.verb, VERBS, n=1)
            raise BadRequestError(
                f"no verb {header.verb!r}", hint=f"did you mean {close[0]!r}?" if close else "see docs/protocol.md"
            )
        self._door.check(client, verb)
        session = self._service.sessions.of(client)
        if header.id in session.running:
            return  # a retry of a request that still runs: its reply is on its way
        if verb.once and (client, header.id) not in self._service.nodes.processes.answers:
            reply = session.recall(header.id)
            if reply is not None:
                self._answer_again(client, header.id, session, reply)
                return
        if len(session.running) >= MAX_IN_FLIGHT:
            raise BusyError(f"{MAX_IN_FLIGHT} requests of this client are in flight", hint="wait for replies first")
        args = convert(header.args, verb.args, what=verb.name)
        request_id = header.id  # by itself: whoever has the header has all that was sent
        if type(args) is StepArgs:
            step = self._quick.ask(header.node, args, client, request_id)
            if step is not None:
                call = Call(self._service, client, request_id, verb, header.node)
                step.note(call, session)
                self._service.sessions.begin(session, request_id)
                self._service.calls[client, request_id] = call
                return
        call = Call(self._service, client, request_id, verb, header.node)
        call.progress = lambda done, total: self._send(
            client, pack({"id": request_id, "progress": Progress(done, total)})
        )
        if getattr(args, "stream", False):
            call.stream = Stream(request_id, lambda frames: self._offer(client, frames))
        self._service.sessions.begin(session, header.id)
        self._service.calls[client, header.id] = call
        call.task = self._loop.create_task(self._run(call, session, args))

    def _conclude(self, step: QuickStep, result: Any, error: SnapservError | None) -> None:
        """Answer a step that was served the short way.

        One that went well has changed nothing that would have to be written down with its reply, and its cell
        remembers what it has answered until something else is asked of it. So that reply goes out first, and is
        noted while it travels.
        """
        call, service = step.call, self._service
        token = logs.cause.set(call.named)  # this runs on nobody's behalf
        try:
            frames = self._outcome(step, result, error)
            if call.code == "ok":
                self._reply(call.client, call.id, frames)
            with self._ledger.gathering():
                if error is not None:
                    note_fault(service.nodes, step.node, error)
                service.sessions.remember(step.session, call.id, frames)
            service.nodes.look(step.node)
            if call.code != "ok":
                self._reply(call.client, call.id, frames)
            self._note(call, time.monotonic() - step.began)
        except Exception:
            # Whoever reads a cell's answers must go on with the next one.
            log.exception("internal_error")
        finally:
            step.leave()
            service.sessions.end(step.session, call.id)
            service.calls.pop((call.client, call.id), None)
            logs.cause.reset(token)

    def _outcome(self, step: QuickStep, result: Any, error: SnapservError | None) -> Frames:
        """Return the reply to a step that was served the short way."""
        call = step.call
        try:
            if error is None:
                self._service.nodes.counters.steps += result["ticks"]
                call.tell(notice_of(step.node.path, held) for held in result.get("held", ()))
                told = {"notices": call.notices} if call.notices else {}
                said = {name: result[name] for name in SAID}
                return pack({"id": call.id, "ok": said, **told})
        except SnapservError as cause:
            error = cause  # it cannot be sent
        except Exception:
            log.exception("internal_error")
            error = InternalError(f"{call.verb.name} failed inside the server", hint="see its log")
        call.code = error.code
        return self._failed(call.id, error)

    async def _run(self, call: Call, session: Session, args: msgspec.Struct) -> None:
        # What a request changes and what is answered are one record: a server that is killed in the middle has done
        # nothing that its successor would have to know, and the retry does it.
        call.begun = True
        logs.cause.set(call.named)
        began = time.monotonic()
        with self._ledger.gathering():
            frames = await self._handle(call, args)
            if call.verb.once:
                streamed = call.stream.kept if call.stream is not None and call.code == "ok" else []
                reply = GONE if streamed is None else frames
                self._service.sessions.remember(session, call.id, reply, streamed or [])
                self._service.nodes.answered(call.key)
        self._service.sessions.end(session, call.id)
        self._service.calls.pop((call.client, call.id), None)
        call.task = None  # whose context names the call: it would be garbage that only the collector finds
        self._reply(call.client, call.id, frames)
        self._note(call, time.monotonic() - began)

    def _note(self, call: Call, elapsed_s: float) -> None:
        """Count a request that was answered, and have the log say so where it took long."""
        self._service.counts.add(call.verb.name, call.code, elapsed_s)
        if elapsed_s >= SLOW_S:
            log.info("slow_request", code=call.code, elapsed_s=round(elapsed_s, 3))
        elif logs.of_each_request:
            log.debug("request", code=call.code, elapsed_s=round(elapsed_s, 6))

    def _reply(self, client: bytes, request_id: int, frames: Frames) -> None:
        """Send the final reply, or in its place an error to a client that has not taken others."""
        if not self._outgoing.admits(client, frames):
            frames = self._failed(request_id, replies_wait())
        self._send(client, frames)

    def _answer_again(self, client: bytes, request_id: int, session: Session, reply: Frames) -> None:
        """Send a reply that is remembered, and before it what went before it."""
        streamed = session.streamed.get(request_id)
        if not streamed:
            self._reply(client, request_id, reply)
            return
        stream = Stream(request_id, lambda frames: self._offer(client, frames), streamed)

        async def tell() -> None:
            try:
                await stream.again()
            finally:
                self._service.sessions.end(session, request_id)
            self._reply(client, request_id, reply)

        self._service.sessions.begin(session, request_id)  # a further retry meanwhile is ignored
        self._service.nodes.in_background(tell())

    async def _handle(self, call: Call, args: msgspec.Struct) -> Frames:
        error: SnapservError
        try:
            if call.given_up:
                raise asyncio.CancelledError
            result = await HANDLERS[call.verb.name](call, args)
            told = {"notices": call.notices} if call.notices else {}
            return pack({"id": call.id, "ok": result, **told})
        except SnapservError as cause:
            error = cause
        except asyncio.CancelledError:
            error = StepInterruptedError("given up", details={"step": self._step_at(call, args)})
        except Exception:
            # The one place for our own mistakes: the client must get a reply, and the log the traceback.
            log.exception("internal_error")
            error = InternalError(f"{call.verb.name} failed inside the server", hint="see its log")
        call.code = error.code
        return self._failed(call.id, error)

    def _step_at(self, call: Call, args: msgspec.Struct) -> int:
        """Return where the node of a request stands, or the one that it was to start from."""
        reference = getattr(args, "start", None) if call.node is None else call.node
        node = None if reference is None else self._service.nodes.forest.find(reference)
        return 0 if node is None else self._service.nodes.look(node)  # where none is named, it is a root

    def _failed(self, request_id: int, error: SnapservError) -> Frames:
        self._service.counts.errors += 1
        try:
            return pack({"id": request_id, "error": error.to_wire()})
        except (TooLargeError, BadRequestError):
            plain = type(error)(error.message[:1000], hint=error.hint[:1000])
            return pack({"id": request_id, "error": plain.to_wire()})

    def _send(self, client: bytes, frames: Frames) -> None:
        if not self._sent(client, frames):
            log.warning("slow_client", client=client.hex())

    def _offer(self, client: bytes, frames: Frames) -> bool:
        """Send a message, and return whether the client takes it now; one that is gone is told nothing."""
        return self._outgoing.admits(client, frames) and self._sent(client, frames)

    def _sent(self, client: bytes, frames: Frames) -> bool:
        """Send a message, and return whether there was room for it; one to a client that is gone is lost."""
        routing_id = self._door.routing_id(client)
        if routing_id is None:
            log.info("client_gone", client=client.hex())
            return True
        try:
            self._outgoing.send(client, routing_id, [MAGIC, *frames])
        except zmq.Again:
            return False
        except zmq.ZMQError as cause:
            if cause.errno != zmq.EHOSTUNREACH:
                raise
            log.info("client_gone", client=client.hex())
        finally:
            self._plan_drain()
        return True
