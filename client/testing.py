"""`MockTransport`: answers without a server, for the tests of those who use the client."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from fgmclip.client.errors import ConnectError
from fgmclip.client.messages import NO_PARAMETERS, Parameters, Tensors
from fgmclip.spec import PublicManifest
from fgmclip.spec.manifest import MANIFEST_PARAMETER


@dataclass(frozen=True, slots=True, eq=False)
class MockRequest:
    """One request as it would have been sent.

    Attributes:
        model: Name of the model.
        inputs: Input tensors.
        outputs: Names of the outputs that were asked for.
        parameters: Request parameters.
        timeout_seconds: How long the client would have waited.
    """

    model: str
    inputs: Tensors
    outputs: tuple[str, ...]
    parameters: Parameters
    timeout_seconds: float


class MockTransport:
    """A `Transport` whose answers come from a function.

    Example:
        ```python
        transport = MockTransport(manifest, lambda request: {"LOGITS": ..., ...})
        client = ActionClient("nowhere:1", transport=transport)
        ```

    Attributes:
        manifest: What the server publishes; may be replaced between requests.
        requests: Every request so far.
    """

    def __init__(self, manifest: PublicManifest, answer: Callable[[MockRequest], Tensors]) -> None:
        """Take over what the server publishes and answers.

        Args:
            manifest: Stands in every model's parameters.
            answer: Returns the outputs of a request, or raises one of `fgmclip.client.errors`.
        """
        self.manifest = manifest
        self.requests: list[MockRequest] = []
        self.closed = False
        self._answer = answer

    def infer(
        self,
        model: str,
        inputs: Tensors,
        outputs: Sequence[str],
        *,
        timeout_seconds: float,
        parameters: Parameters = NO_PARAMETERS,
    ) -> Tensors:
        """Record the request and return those of its answers that were asked for."""
        if self.closed:
            raise ConnectError("the connection was closed; make a new client")
        request = MockRequest(model, inputs, tuple(outputs), dict(parameters), timeout_seconds)
        self.requests.append(request)
        answer = self._answer(request)
        return {name: answer[name] for name in outputs}

    def model_parameters(self, model: str, *, timeout_seconds: float) -> Mapping[str, str]:
        """Return the manifest as a server would."""
        return {MANIFEST_PARAMETER: self.manifest.model_dump_json()}

    def close(self) -> None:
        """Refuse every later request."""
        self.closed = True
