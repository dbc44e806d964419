# Generated from ../aio/branch.py by generate_sync.py: change that one, and run `make client`.
"""A live simulation: what changes it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .. import requests
from ..connection import Progress
from ..protocol import AutosnapInfo, MarkResult, RewindResult, Rng, StepResult
from ..requests import RegionIndex
from .node import Node, Snapshot, reference


class Branch(Node):
    """A live simulation."""

    reseeded: Sequence[str] = ()
    """The random streams that were given other states when this client made it, or put it back, with ``rng=``."""

    def step(
        self,
        ticks: int = 1,
        *,
        progress: Progress | None = None,
        atomic: bool | None = None,
        timeout_s: float | None = None,
        inputs: Mapping[str, Any] | None = None,
        **named_inputs: Any,
    ) -> StepResult:
        """Run ticks, all with the same inputs, in one request.

        Args:
            ticks: How many.
            progress: Called with ticks done and wanted, now and then.
            atomic: Whether all of it happens or nothing does: after any failure the branch goes on from the moment
                before. The server's own default holds for None.
            timeout_s: How long it may take; for ever by default. An atomic step that takes longer is ended by the
                server, and rolled back; of another one, only the waiting ends.
            inputs: Inputs whose names are no Python names, or those of other arguments.
            **named_inputs: The other inputs.

        Raises:
            SimulationError: The simulation raised; ``details`` has its traceback and the last whole step.
            NodeDiedError: Its process ended.
            StepInterruptedError: Somebody interrupted it.
            BadRequestError: An input is wrong; says which.
            FaultedError: It raised before, and was not restored, reset, rewound or cleared since.
            RequestTimeoutError: It took too long.
        """
        given = {**(inputs or {}), **named_inputs}
        whole = self._server.atomic if atomic is None else atomic
        request = requests.step(
            self.id,
            ticks,
            given,
            progress=progress is not None,
            atomic=atomic,
            timeout_s=timeout_s if whole else None,
        )
        patience_s = requests.patience_s(timeout_s, atomic=whole)
        result = self._run(request, timeout_s=patience_s, progress=progress)
        self.last.step = result.step
        return result

    def snapshot(self, name: str | None = None) -> Snapshot:
        """Freeze a copy of this moment."""
        result = self._run(requests.snapshot(self.id, name))
        return Snapshot(self._server, result.node, result.fork_us)

    def restore(self, snapshot: Snapshot | str | int, *, rng: Rng = "same") -> None:
        """Go back to a snapshot; the branch keeps its name, and lives again if it had died."""
        result = self._run(requests.restore(self.id, reference(snapshot), rng))
        self.last, self.reseeded = result.node, result.reseeded

    def reset(self, *, rng: Rng = "same") -> None:
        """Go back to the moment after setup."""
        result = self._run(requests.reset(self.id, rng))
        self.last, self.reseeded = result.node, result.reseeded

    def mark(self, *, remove: bool = False) -> MarkResult:
        """Mark this moment, in the place of the last mark, or give the mark up: see `rewind`.

        Raises:
            BadRequestError: The simulation keeps state that a rewind would leave as it is; says which.
        """
        return self._run(requests.mark(self.id, remove=remove))

    def rewind(self) -> RewindResult:
        """Go back to the mark, in place: no process is made, and it takes time by the page written since.

        Raises:
            BadRequestError: There is no mark, or state has changed that would stay as it is; says which. Nothing
                has changed then, and `restore` does it.
        """
        result = self._run(requests.rewind(self.id))
        self.last.step = result.step
        return result

    def write(self, field: str, value: Any, region: RegionIndex = None) -> None:
        """Change a field or a region of it; a scalar fills it, an array must have its shape."""
        self._run(requests.write(self.id, field, value, region))

    def call(self, method: str, /, *args: Any, atomic: bool = False, **kwargs: Any) -> Any:
        """Run a method that the author exported, and return what it returns; ``atomic`` is as for `step`."""
        return self._run(requests.call(self.id, method, args, kwargs, atomic=atomic))

    def clear(self) -> None:
        """Go on with what the simulation left when it raised: the branch is no longer faulted."""
        self.last = self._run(requests.clear(self.id))

    def autosnap(
        self,
        *,
        every_steps: int | None = None,
        every_s: float | None = None,
        keep: int | None = None,
        off: bool = False,
    ) -> AutosnapInfo | None:
        """Have the server take snapshots of it by itself, and thin them out: the older they are, the sparser.

        What is not given remains as it is.

        Args:
            every_steps: Take one at each multiple of so many steps.
            every_s: Take one after so many seconds in which it steps.
            keep: How many stay, those that are pinned or tagged not counted; 16 at first.
            off: Take no more; what there is stays.

        Returns:
            What holds now; None where none are taken.
        """
        self.last = self._run(requests.autosnap(self.id, every_steps, every_s, keep, off=off))
        return self.last.autosnap

    def interrupt(self, *, force: bool = False) -> bool:
        """Stop the step that runs, after its tick; return whether one ran. ``force`` kills the process."""
        return self._run(requests.interrupt(self.id, force=force))
