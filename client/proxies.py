"""Proxies of the environment: never on the way to one's own host, and named where they fail.

gRPC, httpx and FFmpeg each read `http_proxy` and its like by themselves, and say nothing of it.
"""

from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import Sequence
from contextlib import suppress
from urllib.parse import urlsplit

GRPC_VARIABLES = ("grpc_proxy", "https_proxy", "http_proxy")
"""What gRPC looks at, in its order."""

_GRPC_EXCEPTIONS = ("no_grpc_proxy", "no_proxy")
_EXCEPTIONS = ("no_proxy", "NO_PROXY")


def is_own_host(host: str) -> bool:
    """Return whether a host is this one, by its address, its name or as `localhost`.

    Args:
        host: Name or address, with or without brackets. A name is not looked up.
    """
    name = host.strip("[]").rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost") or name == socket.gethostname().lower():
        return True
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return False
    if address.is_loopback or address.is_unspecified:
        return True
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    # Only what an interface of this host has can be bound.
    with suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.bind((name, 0))
        return True
    return False


def http_variables(scheme: str) -> tuple[str, ...]:
    """Return the variables that name an HTTP client's proxy for addresses of a scheme."""
    lower = (f"{scheme}_proxy", "all_proxy")
    return tuple(name for each in lower for name in (each, each.upper()))


def by_proxy(host: str, variables: Sequence[str]) -> str:
    """Return through which proxy a request goes, as the end of a message; empty for none.

    Args:
        host: Where it goes to.
        variables: Which name the proxy, the first that is set counts; see `http_variables`.
    """
    found = next(((name, os.environ[name]) for name in variables if os.environ.get(name)), None)
    exceptions = _GRPC_EXCEPTIONS if variables is GRPC_VARIABLES else _EXCEPTIONS
    if found is None or is_own_host(host) or _excepted(host, exceptions):
        return ""
    variable, address = found
    place = (address if "://" in address else f"//{address}").rpartition("@")[2]
    parts = urlsplit(place if "//" in place else f"//{place}")
    return (
        f" (through the proxy {parts.netloc} that {variable} names; put {host.strip('[]')} into "
        "no_proxy if it can be reached without)"
    )


def reach_own_host_directly(address: str) -> None:
    """Let FFmpeg in this process go to an address without a proxy, if it is of this host."""
    host = urlsplit(address).hostname or ""
    if is_own_host(host):
        others = os.environ.get("no_proxy", "")
        os.environ["no_proxy"] = f"{others},{host}" if others else host


def _excepted(host: str, variables: Sequence[str]) -> bool:
    stated = next((os.environ[name] for name in variables if os.environ.get(name)), "")
    name = host.strip("[]").lower()
    for entry in stated.replace(",", " ").lower().split():
        if entry == "*" or name == entry.lstrip(".*") or name.endswith(f".{entry.lstrip('.*')}"):
            return True
        # Of the three, gRPC alone knows networks.
        if variables is not _GRPC_EXCEPTIONS:
            continue
        with suppress(ValueError):
            if ipaddress.ip_address(name) in ipaddress.ip_network(entry, strict=False):
                return True
    return False
