"""ALiBi's slopes against the library's own tables, for any number of heads."""

import pytest
import torch
import transformers as hf
from transformers.models.bloom.modeling_bloom import build_alibi_tensor
from transformers.models.mpt.modeling_mpt import build_mpt_alibi_tensor

from engine.models.adapters import ADAPTERS
from engine.models.adapters.bloom import alibi_slopes

HEADS = [1, 2, 3, 6, 8, 12, 16, 71, 112]


@pytest.mark.parametrize("heads", HEADS)
def test_slopes_of_bloom_and_falcon(heads: int) -> None:
    table = build_alibi_tensor(torch.ones(1, 4), heads, torch.float32).view(heads, 4)
    torch.testing.assert_close(alibi_slopes(heads), table.diff(dim=1)[:, 0].double(), rtol=1e-6, atol=0)


@pytest.mark.parametrize("heads", HEADS)
def test_slopes_of_mpt(heads: int) -> None:
    table = build_mpt_alibi_tensor(heads, 4).view(heads, 4)
    slopes = ADAPTERS["mpt"].slopes(hf.MptConfig(d_model=4 * heads, n_heads=heads))
    torch.testing.assert_close(slopes, table.diff(dim=1)[:, 0].double(), rtol=1e-5, atol=0)
