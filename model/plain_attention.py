"""Attention as runtimes fuse it: the layout in which a graph is exported.

`torch.nn.MultiheadAttention` packs query, key and value into one tensor, turns it over whole and
folds the heads into the batch. Engines then copy a transformer's widest activation several times a
block, and find no pattern that they know. Here the heads stay an axis of their own, [B,H,L,d].
"""

from __future__ import annotations

import copy

from torch import Tensor, nn
from torch.nn import functional


class PlainAttention(nn.Module):
    """What a `MultiheadAttention` computes in evaluation mode, from the same weights.

    Attributes:
        attended: How many tokens, from the first, are keys and values; all if None. Cut off after
            the products, which like the rows that were filled in, and not masked: OpenVINO 2026.4
            computes nonsense in bf16 where a mask holds minus infinity.
    """

    def __init__(self, source: nn.MultiheadAttention) -> None:
        """Take the weights of a module whose batch is first and whose widths are all the same."""
        super().__init__()
        assert source.batch_first
        assert source.in_proj_weight is not None
        assert source.in_proj_bias is not None
        assert source.bias_k is None
        self._heads = source.num_heads
        self._depth = source.head_dim
        weights = source.in_proj_weight.detach().chunk(3)
        biases = source.in_proj_bias.detach().chunk(3)
        self.query, self.key, self.value = (
            _linear(weight, bias) for weight, bias in zip(weights, biases, strict=True)
        )
        self.out = source.out_proj
        self.attended: int | None = None

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        need_weights: bool = False,
        attn_mask: None = None,
    ) -> tuple[Tensor, None]:
        """Return [B,L,D], and None where `MultiheadAttention` may return weights."""
        attended = functional.scaled_dot_product_attention(
            self._split(self.query(query)),
            self._split(self.key(key)[:, : self.attended]),
            self._split(self.value(value)[:, : self.attended]),
        )
        return self.out(attended.transpose(1, 2).flatten(2)), None

    def _split(self, tensor: Tensor) -> Tensor:
        """Return [B,L,D] as [B,H,L,d]."""
        return tensor.view(*tensor.shape[:2], self._heads, self._depth).transpose(1, 2)


def with_plain_attention(module: nn.Module) -> nn.Module:
    """Return a copy of a module in which attention is plain; weights are shared, not copied."""
    memo: dict[int, object] = {id(item): item for item in module.parameters()}
    memo |= {id(item): item for item in module.buffers()}
    plain = copy.deepcopy(module, memo)
    for parent in list(plain.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.MultiheadAttention):
                setattr(parent, name, PlainAttention(child).eval())
    return plain


def _linear(weight: Tensor, bias: Tensor) -> nn.Linear:
    linear = nn.Linear(weight.shape[1], weight.shape[0], device="meta")
    linear.weight = nn.Parameter(weight, requires_grad=False)
    linear.bias = nn.Parameter(bias, requires_grad=False)
    return linear
