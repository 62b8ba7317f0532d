"""NVIDIA's own load generator before a real server, as `bench/throughput.py` starts it."""

from __future__ import annotations

import pytest

from fgmclip.bench.load.perf_analyzer import PROGRAM, find_perf_analyzer, requests_per_second
from fgmclip.bench.load.traffic import make_traffic
from fgmclip.client import ActionClient
from fgmclip.serve import EmbeddedServer


def test_it_takes_our_arguments_and_we_read_its_table(
    server: EmbeddedServer, client: ActionClient
) -> None:
    program = find_perf_analyzer()
    if program is None:
        pytest.skip(f"{PROGRAM} is not on PATH: the wheel of tritonclient 2.50 carries it")
    clip = make_traffic("clip", client.manifest, "240p")
    assert requests_per_second(program, server.url, clip, 2, seconds=0.5) > 0
