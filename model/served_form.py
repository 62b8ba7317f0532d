"""The form of a module in which it is exported: the same function, cheaper to serve."""

from __future__ import annotations

from torch import nn

from fgmclip.model.class_token import ClassTokenTower, is_class_token_tower
from fgmclip.model.plain_attention import with_plain_attention


def served_form(module: nn.Module, *, fill: bool = True) -> nn.Module:
    """Return a module that computes the same, up to rounding, from the same weights.

    Args:
        module: In evaluation mode; left as it is.
        fill: Whether rows may be added where that makes products faster; without it every
            operation of the graph is of use.
    """
    served = with_plain_attention(module)
    for parent in list(served.modules()):
        for name, child in parent.named_children():
            if is_class_token_tower(child):
                setattr(parent, name, ClassTokenTower(child, fill=fill).eval())
    return served
