"""Actions in short, for whoever compares histories."""

from __future__ import annotations

from typing import Any

from snapserv_client.protocol import CallAction, StepAction, WriteAction


def told(actions: Any) -> list[str]:
    """Return actions in short: kind, step, ticks or what was asked, and how often."""
    short = []
    for action in actions:
        match action:
            case StepAction():
                what = f"step {action.ticks}{' raised' if action.raised else ''}"
            case WriteAction():
                what = f"write {action.field}"
            case CallAction():
                what = f"call {action.method}{' raised' if action.raised else ''}"
            case _:
                what = "begin"
        short.append(f"{action.step}: {what} x{action.repeat}")
    return short
