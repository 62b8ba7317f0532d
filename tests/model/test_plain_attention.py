"""Plain attention computes what torch's does, from the same weights."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from fgmclip.model.plain_attention import with_plain_attention


class _Block(nn.Module):
    """Attention of queries over a memory, as the motion decoder has it."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        assert self.attention.in_proj_bias is not None
        nn.init.normal_(self.attention.in_proj_bias)
        nn.init.normal_(self.attention.out_proj.bias)

    def forward(self, query: Tensor, memory: Tensor) -> Tensor:
        out: Tensor = self.attention(query, memory, memory, need_weights=False)[0]
        return out


@pytest.mark.parametrize(("width", "heads"), [(8, 1), (24, 3), (64, 8)])
def test_same_answers(width: int, heads: int) -> None:
    torch.manual_seed(width)
    block = _Block(width, heads).eval()
    plain = with_plain_attention(block)
    query, memory = torch.randn(3, 5, width), torch.randn(3, 7, width)
    with torch.inference_mode():
        torch.testing.assert_close(plain(query, memory), block(query, memory))
        torch.testing.assert_close(plain(query, query), block(query, query))


def test_the_original_stays_and_shares_its_weights() -> None:
    block = _Block(16, 2).eval()
    plain = with_plain_attention(block)
    assert isinstance(block.attention, nn.MultiheadAttention)
    own = {item.data_ptr() for item in block.parameters()}
    packed = block.attention.in_proj_weight
    assert packed is not None
    inside = range(packed.data_ptr(), packed.data_ptr() + packed.numel() * packed.element_size())
    assert all(
        item.data_ptr() in own or item.data_ptr() in inside
        for name, item in plain.named_parameters()
        if name.endswith("weight")
    )


def test_a_module_without_attention_is_only_copied() -> None:
    block = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
    plain = with_plain_attention(block)
    assert str(plain) == str(block)
