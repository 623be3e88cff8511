"""Keys and values of what a language model has read, and attention over them.

`Memory` is one conversation: it grows in place, is cut back to any length, and never copies what it
holds to add a token. `Branches` are several continuations of one memory, each from a length of its
own, that share the memory's entries instead of copying them.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from vireo.errors import VireoError

GROW = 1024  # entries, at least


class KVCache:
    """Keys and values per layer, [kv_heads, capacity, head_dim], of which `length` are filled."""

    def __init__(self, layers: int, limit: int | None = None) -> None:
        self.length, self.limit = 0, limit
        self._keys: list[Tensor | None] = [None] * layers
        self._values: list[Tensor | None] = [None] * layers
        self._mask: tuple[tuple[int, int], Tensor] | None = None

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        """query [1,Hq,n,D], key, value [1,Hkv,n,D] -> [1,n,Hq,D]; the entries are kept."""
        n, end = query.shape[2], self.length + query.shape[2]
        if self.limit is not None and end > self.limit:
            raise VireoError(
                f"the conversation has {end} tokens, the model has {self.limit} positions: take "
                "fewer frames, or remove the assistant's turns"
            )
        keys, values = self._room(layer, key, end)
        keys[:, self.length : end] = key[0]
        values[:, self.length : end] = value[0]
        causal = n > 1 and self.length == 0
        mask = self._causal(n, end, query.device) if n > 1 and self.length else None
        found = F.scaled_dot_product_attention(
            query,
            keys[None, :, :end],
            values[None, :, :end],
            attn_mask=mask,
            is_causal=causal,
            scale=scale,
            enable_gqa=keys.shape[0] != query.shape[1],
        )
        return found.transpose(1, 2)

    def keep(self, count: int) -> None:
        """Count `count` entries, written in every layer, as read."""
        self.length += count

    def crop(self, length: int) -> None:
        """Forget everything after the first `length` entries."""
        self.length = min(self.length, length)

    def entries(self, layer: int, length: int) -> tuple[Tensor, Tensor]:
        """The first `length` keys and values of a layer, [Hkv,length,D]; views."""
        keys, values = self._keys[layer], self._values[layer]
        assert keys is not None and values is not None
        return keys[:, :length], values[:, :length]

    def _room(self, layer: int, like: Tensor, end: int) -> tuple[Tensor, Tensor]:
        keys, values = self._keys[layer], self._values[layer]
        have = 0 if keys is None else keys.shape[1]
        if have < end:
            shape = (like.shape[1], max(end, GROW, have + have // 2), like.shape[3])
            fresh = like.new_empty(shape), like.new_empty(shape)
            if keys is not None and values is not None:
                fresh[0][:, : self.length] = keys[:, : self.length]
                fresh[1][:, : self.length] = values[:, : self.length]
            self._keys[layer], self._values[layer] = keys, values = fresh
        assert keys is not None and values is not None
        return keys, values

    def _causal(self, n: int, end: int, device: torch.device) -> Tensor:
        if self._mask is None or self._mask[0] != (n, end):
            mask = torch.ones(n, end, dtype=torch.bool, device=device).tril(end - n)
            self._mask = ((n, end), mask)
        return self._mask[1]


class SharedPrefixCache:
    """Continuations of one memory, in step: branch b follows its first `starts[b]` entries."""

    def __init__(self, memory: KVCache, layers: int, starts: Sequence[int]) -> None:
        self.memory, self.starts = memory, torch.tensor(starts)
        self.length = 0
        self._keys: list[Tensor | None] = [None] * layers
        self._values: list[Tensor | None] = [None] * layers

    def positions(self, count: int) -> Tensor:
        """Positions [B,count] of the next entries."""
        return self.starts[:, None] + self.length + torch.arange(count)

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        """query [B,Hq,n,D], key, value [B,Hkv,n,D] -> [B,n,Hq,D]; the entries are kept."""
        b, heads, n, d = query.shape
        kv = key.shape[1]
        before = self._keys[layer], self._values[layer]
        own_k = key if before[0] is None else torch.cat([before[0], key], 2)
        own_v = value if before[1] is None else torch.cat([before[1], value], 2)
        self._keys[layer], self._values[layer] = own_k, own_v
        longest, total = int(self.starts.max()), own_k.shape[2]
        shared_k, shared_v = self.memory.entries(layer, longest)
        q = query.view(b, kv, -1, n, d)  # [B,Hkv,G,n,D]
        device = query.device
        flat = q.transpose(0, 1).reshape(kv, -1, d)
        far = (flat @ shared_k.transpose(1, 2)).view(kv, b, -1, n, longest).transpose(0, 1)
        outside = torch.arange(longest) >= self.starts[:, None]
        far = far.float().masked_fill(outside.to(device)[:, None, None, None], float("-inf"))
        near = (q.flatten(2, 3) @ own_k.transpose(2, 3)).view(b, kv, -1, n, total).float()
        if n > 1:
            allowed = torch.ones(n, total, dtype=torch.bool, device=device).tril(total - n)
            near = near.masked_fill(~allowed, float("-inf"))
        weights = (torch.cat([far, near], -1) * scale).softmax(-1).to(query.dtype)
        left = weights[..., :longest].transpose(0, 1).reshape(kv, -1, longest)
        found = (left @ shared_v).view(kv, b, -1, n, d).transpose(0, 1)
        right = weights[..., longest:].flatten(2, 3) @ own_v
        found = found + right.view(b, kv, -1, n, d)
        return found.reshape(b, heads, n, d).transpose(1, 2)

    def keep(self, count: int) -> None:
        """Count `count` entries, written in every layer, as read."""
        self.length += count

    def select(self, alive: Tensor) -> None:
        """Go on with some branches only (indices)."""
        self.starts = self.starts[alive.cpu()]
        for store in (self._keys, self._values):
            for layer, entries in enumerate(store):
                if entries is not None:
                    store[layer] = entries[alive.to(entries.device)]
