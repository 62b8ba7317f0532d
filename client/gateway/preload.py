"""Imported by the forkserver alone, never by the gateway: importing it changes the process.

What it imports and makes here, all workers share: they start in milliseconds and their private
memory is what they decode.
"""

from __future__ import annotations

import gc
import signal

# Where a whole group of processes gets a signal, by a service manager or a terminal that closes,
# workers must be able to finish their files, but die with this process. It ends when the gateway's
# end of its pipe closes.
for number in (signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, signal.SIG_IGN)

import fgmclip.client.gateway.worker_main  # noqa: E402, F401
import fgmclip.kernels.native  # noqa: E402, F401

# A collection in a worker would write to every object's header and so copy the shared pages.
gc.collect()
gc.freeze()
