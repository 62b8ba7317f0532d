"""The tree: everything is a ClientError, and the builtin that it means."""

from __future__ import annotations

import pytest

from fgmclip import client
from fgmclip.client import ClientError
from fgmclip.spec import FgmclipError


@pytest.mark.parametrize(
    ("error", "builtin"),
    [
        (client.SettingsError, ValueError),
        (client.ConnectError, ConnectionError),
        (client.OverloadedError, client.ConnectError),
        (client.RequestTimeoutError, TimeoutError),
        (client.ServerError, RuntimeError),
        (client.ModelNotFoundError, LookupError),
        (client.ManifestError, ValueError),
        (client.RefusedError, ValueError),
        (client.TagMismatchError, client.RefusedError),
    ],
)
def test_a_leaf_is_also_the_builtin_that_it_means(
    error: type[ClientError], builtin: type[Exception]
) -> None:
    assert issubclass(error, ClientError)
    assert issubclass(error, FgmclipError)
    assert issubclass(error, builtin)
    assert str(error("one line")) == "one line"


def test_a_wrong_address_is_a_usage_error() -> None:
    assert client.SettingsError.exit_code == 2
    assert client.ConnectError.exit_code == 1


def test_all_that_is_exported_exists() -> None:
    assert all(hasattr(client, name) for name in client.__all__)
