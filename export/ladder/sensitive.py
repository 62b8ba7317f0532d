"""Which nodes of a graph cannot bear a precision: found by bisection, kept in a higher one."""

from __future__ import annotations

from collections.abc import Callable, Sequence

ALLOWED = 0.5
"""How much of what the gate allows may be used up here: its clips are others."""

Loss = Callable[[Sequence[str]], float]
"""What it costs to have these nodes, and no others, in the lower precision; 1 is all that the gate
allows."""


def sensitive_nodes(nodes: Sequence[str], loss: Loss) -> tuple[str, ...]:
    """Return the nodes that must be kept in higher precision for the others to pass.

    Losses add up, and two nodes may be harmless alone and harmful together. So groups are tried on
    top of all that was accepted before them, and halved where that costs too much.

    Args:
        nodes: All that could be in the lower precision.
        loss: Of a choice of nodes.

    Returns:
        The nodes to keep, in order; none if all pass together, and none if a rung is hopeless
        because half of its nodes or more would have to be kept.
    """
    accepted: list[str] = []
    kept: list[str] = []
    waiting = [list(nodes)]
    while waiting:
        group = waiting.pop()
        if loss([*accepted, *group]) <= ALLOWED:
            accepted += group
        elif len(group) > 1:
            half = len(group) // 2
            waiting += [group[half:], group[:half]]
        else:
            kept += group
            if 2 * len(kept) >= len(nodes):
                return ()
    return tuple(kept)
