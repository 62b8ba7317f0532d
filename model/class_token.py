"""A vision transformer that computes what its class token needs, and nothing else.

CLIP's embedding is the class token's. In the last block the other tokens are keys and values only:
their queries, projections and feed-forward layers reach no output, a twelfth of ViT-B's work less
what attention itself takes. Exporters keep them, for they see no dead code in a slice at the end.
"""

from __future__ import annotations

from open_clip.transformer import (  # type: ignore[import-untyped]
    ResidualAttentionBlock,
    Transformer,
    VisionTransformer,
)
from torch import Tensor, nn
from torch.nn import functional

from fgmclip.model.plain_attention import PlainAttention

ROWS = 2
"""Tokens are filled up to a multiple of this. Products share their rows between two threads in
blocks, and an odd number of rows, 197 of ViT-B-16, leaves one of them waiting for a fifth of the
time (OpenVINO 2026.4, two cores, int8 [197,768] by [768,768]: 0.164 ms; of 198 rows 0.132 ms)."""


class ClassTokenTower(nn.Module):
    """What a `VisionTransformer` computes, from the same weights.

    Attributes:
        filled: How many tokens are filled in.
    """

    def __init__(self, tower: VisionTransformer, *, fill: bool = True) -> None:
        """Take a tower that `is_class_token_tower` accepts, and whose attention is plain.

        Args:
            tower: The tower, in evaluation mode.
            fill: Whether tokens are filled up to a multiple of `ROWS`; what is filled in is
                attended to by none.
        """
        super().__init__()
        self.tower = tower
        tokens = tower.positional_embedding.shape[0]
        self.filled = -tokens % ROWS if fill else 0
        for block in tower.transformer.resblocks:
            assert isinstance(block.attn, PlainAttention)
            block.attn.attended = tokens if self.filled else None

    def forward(
        self,
        pixels: Tensor,  # [N,3,S,S]
    ) -> Tensor:  # [N,D]
        """Return the embeddings."""
        tower = self.tower
        x = functional.pad(tower._embeds(pixels), (0, 0, 0, self.filled))
        *blocks, last = tower.transformer.resblocks
        for block in blocks:
            x = block(x)
        memory, token = last.ln_1(x), x[:, :1]
        attended = last.attn(memory[:, :1], memory, memory)[0]
        token = token + last.ls_1(attended)
        token = token + last.ls_2(last.mlp(last.ln_2(token)))
        embedding: Tensor = tower.ln_post(token[:, 0])
        return embedding if tower.proj is None else embedding @ tower.proj


def is_class_token_tower(module: nn.Module) -> bool:
    """Say whether a module is CLIP's usual tower, whose embedding is the class token's."""
    return (
        isinstance(module, VisionTransformer)
        and module.attn_pool is None
        and module.pool_type == "tok"
        and not module.output_tokens
        and type(module.transformer) is Transformer
        and module.transformer.batch_first
        and all(
            type(block) is ResidualAttentionBlock and not hasattr(block, "ln_1_kv")
            for block in module.transformer.resblocks
        )
    )
