"""CLIP blocks against torch's own layers, and their training switches."""

import pytest
import torch
from torch import nn

from vireo.nn import clip
from vireo.nn.clip import Attention, DropPath, Transformer


@pytest.mark.parametrize("causal", [False, True])
def test_attention_is_torchs_with_the_same_names(causal):
    torch.manual_seed(0)
    theirs = nn.MultiheadAttention(12, 3, batch_first=True)
    nn.init.normal_(theirs.in_proj_bias)
    ours = Attention(12, 3)
    ours.load_state_dict(theirs.state_dict())
    assert list(ours.state_dict()) == list(theirs.state_dict())
    x = torch.randn(2, 5, 12)
    mask = nn.Transformer.generate_square_subsequent_mask(5) if causal else None
    torch.testing.assert_close(ours(x, causal), theirs(x, x, x, attn_mask=mask)[0])


def test_drop_path_keeps_whole_samples_and_the_expectation():
    torch.manual_seed(0)
    drop = DropPath(0.25)
    x = torch.ones(4000, 3)
    out = drop(x)
    assert torch.equal(out, out[:, :1].expand(-1, 3))
    assert out.unique().tolist() == pytest.approx([0, 1 / 0.75])
    assert abs(out.mean().item() - 1) < 0.03
    assert torch.equal(drop.eval()(x), x)


def test_drop_path_rises_linearly():
    rates = [block.drop_path.rate for block in Transformer(4, 5, 1, drop_path=0.1).resblocks]
    assert rates == pytest.approx([0, 0.025, 0.05, 0.075, 0.1])
    assert Transformer(4, 1, 1, drop_path=0.1).resblocks[0].drop_path.rate == 0


def test_checkpointing_changes_memory_and_nothing_else():
    def gradients(number):
        torch.manual_seed(0)
        stack = Transformer(8, 3, 2, drop_path=0.5, checkpoint_num=number)
        stack.init_weights(torch.Generator().manual_seed(1))
        torch.manual_seed(2)
        stack(torch.ones(6, 4, 8)).square().sum().backward()
        return [p.grad for p in stack.parameters()]

    for plain, again in zip(gradients(0), gradients(2), strict=True):
        assert torch.equal(plain, again)


@torch.no_grad()
def test_the_first_tokens_alone_are_the_same():
    stack = Transformer(8, 3, 2)
    stack.init_weights(torch.Generator().manual_seed(1))
    x = torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(stack(x, first=2), stack(x)[:, :2])


@torch.no_grad()
def test_bfloat16_on_the_cpu_is_as_exact_as_the_fused_kernel():
    generator = torch.Generator().manual_seed(3)
    q, k, v = torch.randn(3, 2, 4, 300, 16, generator=generator)
    exact = torch.nn.functional.scaled_dot_product_attention(q, k, v)
    half = [t.bfloat16() for t in (q, k, v)]
    fused = torch.nn.functional.scaled_dot_product_attention(*half).float()
    ours = clip.attend_per_head(*half).float()
    assert clip.needs_per_head(half[0], causal=False)
    assert (ours - exact).abs().mean() < 2 * (fused - exact).abs().mean()
