"""What was needed last is kept, up to a bound, and what is kept does not hide damage."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from snapserv_client.store.recent import Recent


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(1, 5))))
def test_no_more_than_the_bound_is_kept_and_that_is_what_was_needed_last(steps: list[tuple[int, int]]) -> None:
    kept: Recent[int, bytes] = Recent(10, len)
    order: dict[int, bytes] = {}
    for key, size in steps:
        if size == 1:
            value = kept.get(key)
            assert value == order.get(key)
            if value is not None:
                order[key] = order.pop(key)
            continue
        order.pop(key, None)
        order[key] = bytes(size)
        kept.put(key, order[key])
        while sum(map(len, order.values())) > 10:
            del order[next(iter(order))]
    assert {key: kept.get(key) for key in range(7) if kept.get(key) is not None} == order


def test_what_is_larger_than_the_bound_is_kept_alone() -> None:
    kept: Recent[str, np.ndarray] = Recent(10, len)  # type: ignore[type-arg]
    kept.put("small", np.zeros(4))
    kept.put("large", np.zeros(40))
    assert kept.get("small") is None
    assert len(kept.get("large")) == 40  # type: ignore[arg-type]
    kept.put("next", np.zeros(4))
    assert kept.get("large") is None
    assert len(kept.get("next")) == 4  # type: ignore[arg-type]
