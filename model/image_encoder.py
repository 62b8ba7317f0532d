"""The image encoder (paper 3.3.1, v_t): CLIP's image tower, or a classifier's trunk."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torchvision  # type: ignore[import-untyped]
from torch import Tensor, nn

from fgmclip.model.clip_towers import image_tower
from fgmclip.model.errors import BuildError
from fgmclip.spec import VisualSpec

TORCHVISION = "torchvision:"

# Their training mode returns auxiliary logits beside the features.
_NOT_A_TRUNK = ("googlenet", "inception_v3")


class ImageEncoder(nn.Module):
    """Each frame by itself: PIXELS [N,3,S,S] to VISUAL [N,D].

    Rule of widths: CLIP's tower ends in its own projection and is left alone. A torchvision trunk
    whose width is not D gets a linear projection to D, one whose width is D gets none.

    Attributes:
        removed: Keys of the classifier that was taken off a torchvision network.
    """

    def __init__(self, spec: VisualSpec) -> None:
        """Build with random weights.

        Raises:
            BuildError: The architecture is unknown, or cannot serve as a trunk.
        """
        super().__init__()
        self.removed: tuple[str, ...] = ()
        self.project: nn.Module = nn.Identity()
        if spec.architecture.startswith(TORCHVISION):
            self.tower, width, self.removed = _torchvision_trunk(spec)
            if width != spec.width:
                self.project = nn.Linear(width, spec.width)
        else:
            self.tower = image_tower(spec)

    def forward(
        self,
        pixels: Tensor,  # [N,3,S,S]
    ) -> Tensor:  # [N,D]
        """Return VISUAL of normalised frames."""
        visual: Tensor = self.project(self.tower(pixels))
        return visual


def _torchvision_trunk(spec: VisualSpec) -> tuple[nn.Module, int, tuple[str, ...]]:
    name = spec.architecture.removeprefix(TORCHVISION)
    known = torchvision.models.list_models(module=torchvision.models)
    if name not in known or name in _NOT_A_TRUNK:
        raise BuildError(
            f"visual.architecture: expected torchvision:NAME with one of torchvision's image "
            f"classifiers without auxiliary outputs, got {spec.architecture!r}; "
            "`torchvision.models.list_models()` names them"
        )
    builder: Callable[..., nn.Module] = torchvision.models.get_model_builder(name)
    fixed_size = {"image_size": spec.image_size} if name.startswith("vit_") else {}
    network = builder(weights=None, **fixed_size)
    linear = [key for key, module in network.named_modules() if isinstance(module, nn.Linear)]
    if not linear:
        raise BuildError(
            f"visual.architecture: {spec.architecture!r} ends in no linear layer that could be "
            "removed; choose another backbone"
        )
    parent, _, child = linear[-1].rpartition(".")
    classifier = network.get_submodule(linear[-1])
    assert isinstance(classifier, nn.Linear)
    setattr(network.get_submodule(parent), child, nn.Identity())
    removed = tuple(f"{linear[-1]}.{key}" for key in classifier.state_dict())
    with torch.device("meta"):
        probe = torch.zeros(1, 3, spec.image_size, spec.image_size)
    return _checked(network, probe, spec), classifier.in_features, removed


def _checked(network: nn.Module, probe: Tensor, spec: VisualSpec) -> nn.Module:
    """Run a shape through the trunk: some need larger images, or windows that divide them."""
    meta = {key: value.to("meta") for key, value in network.state_dict().items()}
    network.eval()
    try:
        torch.func.functional_call(network, meta, (probe,))
    except (RuntimeError, AssertionError, ValueError) as error:
        raise BuildError(
            f"visual.image_size: {spec.architecture!r} does not take {spec.image_size} pixels "
            f"({error}); 224 fits most"
        ) from error
    return network
