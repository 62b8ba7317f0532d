"""Let a server finish what it has accepted before it is ended."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping

from fgmclip.serve.control import CallError, Control

_LOOK_SECONDS = 0.02


def drain(control: Control, ensembles: Collection[str], seconds: float) -> bool:
    """Take ensembles out of service and wait until what runs in them has been answered.

    From the first call on, new requests are refused as for a model that is not there, which sends
    clients that know another server to it. The steps stay: what runs needs them.

    Args:
        control: Calls to the server.
        ensembles: What clients ask for.
        seconds: How long the requests may take.

    Returns:
        Whether all were answered; False also if the server does not answer itself.
    """
    deadline = time.monotonic() + seconds

    def left() -> float:
        return max(0.01, deadline - time.monotonic())

    try:
        for name in ensembles:
            control.unload(name, left())
        while _runs(control.states(left()), ensembles):
            if time.monotonic() > deadline:
                return False
            time.sleep(_LOOK_SECONDS)
    except CallError:
        return False
    return True


def _runs(states: Mapping[str, str], ensembles: Collection[str]) -> bool:
    return any(states.get(name) in ("READY", "UNLOADING") for name in ensembles)
