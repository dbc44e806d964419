"""Actions that were recorded, as a script that can be done in part, and where a node stands on its way."""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Iterator, Sequence

import msgspec
from snapserv_client.protocol import Action, CallAction, StepAction


class Script:
    """Actions that can be done in part. They are counted in *beats*: a tick is one, and any other action is one."""

    def __init__(self, actions: Sequence[Action]) -> None:
        self.actions = actions
        self._starts = [0, *itertools.accumulate(beats_of(action) * action.repeat for action in actions)]
        self._counts = [0, *itertools.accumulate(action.repeat for action in actions)]
        self.beats = self._starts[-1]
        self.count = self._counts[-1]

    @property
    def ticks(self) -> int:
        """How many completed ticks there are."""
        return sum(action.ticks * action.repeat for action in self.actions if isinstance(action, StepAction))

    def beat(self, count: int) -> int:
        """Return the beat at which the first ``count`` actions are done, where each repetition counts."""
        count = min(max(count, 0), self.count)
        index = bisect.bisect_right(self._counts, count) - 1
        if index == len(self.actions):
            return self.beats
        return self._starts[index] + (count - self._counts[index]) * beats_of(self.actions[index])

    def arrival(self, step: int) -> int:
        """Return the beat at which a node stands at a step first: 0 where it did at the beginning."""
        for index, action in enumerate(self.actions):
            if isinstance(action, StepAction) and action.step < step <= action.step + action.ticks * action.repeat:
                done, ticks = divmod(step - action.step - 1, action.ticks)
                return self._starts[index] + done * beats_of(action) + ticks + 1
        return 0

    def departure(self, step: int) -> int:
        """Return the last beat at which a node stands at a step, and nothing that was done there has raised."""
        for index in range(self.action_at(self.arrival(step)) if self.actions else 0, len(self.actions)):
            action, start = self.actions[index], self._starts[index]
            if isinstance(action, StepAction):
                end = action.step + action.ticks * action.repeat
                if action.step <= step < end or (action.raised and action.step <= step == end):
                    # Right after a tick, or before the first one: a tick that raised follows, or one that did not.
                    return max(start, self.arrival(step))
            elif step == action.step and isinstance(action, CallAction) and action.raised:
                return start
        return self.beats

    def number_at(self, beat: int) -> int:
        """Return how many actions are done before the one that the beat is part of; each repetition counts."""
        index = self.action_at(beat)
        return self._counts[index] + (beat - self._starts[index]) // beats_of(self.actions[index])

    def action_at(self, beat: int) -> int:
        """Return which action the beat is part of."""
        return min(bisect.bisect_right(self._starts, beat), len(self.actions)) - 1

    def step_after(self, beat: int) -> int:
        """Return the step at which a node stands when so many beats are done."""
        action = self.actions[index := self.action_at(beat)]
        if not isinstance(action, StepAction):
            return action.step
        done, ticks = divmod(beat - self._starts[index], beats_of(action))
        return action.step + done * action.ticks + min(ticks, action.ticks)

    def part(self, low: int, high: int) -> Iterator[Action]:
        """Yield what is to be done between two beats."""
        for index in range(max(0, self.action_at(low)), len(self.actions)):
            action, start, each = self.actions[index], self._starts[index], beats_of(self.actions[index])
            at, stop = max(low, start) - start, min(high, self._starts[index + 1]) - start
            if start >= high:
                return
            while at < stop:
                within = at % each
                if within or stop - at < each:
                    until = min(each, within + stop - at)
                    yield _piece(action, within, until)
                    at += until - within
                else:
                    yield msgspec.structs.replace(action, repeat=(stop - at) // each)
                    at += (stop - at) // each * each


def beats_of(action: Action) -> int:
    """Return how many beats an action has, each time it is done."""
    return action.ticks + action.raised if isinstance(action, StepAction) else 1


def _piece(action: Action, low: int, high: int) -> Action:
    if not isinstance(action, StepAction):
        return action
    raised = action.raised and high == beats_of(action)
    return msgspec.structs.replace(action, ticks=high - low - raised, raised=raised, repeat=1)
