# SPDX-License-Identifier: AGPL-3.0-or-later
"""Blocks that Ultralytics does not have, one for each way of handling channels: `BLOCKS[name](channels)`.

Each takes a feature map of shape (B, C, H, W), with C a multiple of 8 and H and W even, to one of the same shape.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F
from torchvision.ops import DeformConv2d


class Block(nn.Module):
    """Base: `make` sets up the layers, `forward` comes from the subclass."""

    def __init__(self, channels: int):
        super().__init__()
        self.make(channels)


def conv(inputs: int, outputs: int, k: int = 1, **kwargs) -> nn.Conv2d:
    """Return a convolution that keeps the size of its input."""
    return nn.Conv2d(inputs, outputs, k, padding=k // 2, **kwargs)


class Chain(Block):
    """Layers one after the other."""

    def forward(self, x):
        return self.layers(x)


class Grouped(Chain):
    """A convolution of four groups."""

    def make(self, c):
        self.layers = nn.Sequential(conv(c, c, 3, groups=4), nn.BatchNorm2d(c), nn.SiLU())


class Multiplied(Chain):
    """A depthwise convolution that makes two channels of each."""

    def make(self, c):
        self.layers = nn.Sequential(conv(c, 2 * c, 3, groups=c), nn.BatchNorm2d(2 * c), nn.ReLU(), conv(2 * c, c))


class ChannelShuffled(Block):
    """Grouped convolutions with the channels of the groups interleaved between them."""

    def make(self, c):
        self.first, self.second, self.norm = conv(c, c, groups=2), conv(c, c, 3, groups=2), nn.BatchNorm2d(c)

    def forward(self, x):
        b, c, h, w = x.shape
        mixed = self.first(x).view(b, 2, c // 2, h, w).transpose(1, 2).reshape(b, c, h, w)
        return F.relu(self.norm(self.second(mixed)))


class ShuffledModule(Chain):
    """The same by PyTorch's layer."""

    def make(self, c):
        self.layers = nn.Sequential(conv(c, c, 3, groups=4), nn.ChannelShuffle(4), nn.BatchNorm2d(c), conv(c, c))


class Squeezed(Block):
    """Channels weighted by linear layers on the pooled vector."""

    def make(self, c):
        self.layers = nn.Sequential(nn.Linear(c, c // 4), nn.ReLU(), nn.Linear(c // 4, c), nn.Sigmoid())

    def forward(self, x):
        return x * self.layers(x.mean((2, 3)))[:, :, None, None]


class ChannelsLast(Block):
    """Layer norm and linear layers on channels-last tensors, and a scale for each channel."""

    def make(self, c):
        self.spatial, self.norm = conv(c, c, 5, groups=c), nn.LayerNorm(c)
        self.wide, self.narrow = nn.Linear(c, 2 * c), nn.Linear(2 * c, c)
        self.scale = nn.Parameter(torch.linspace(0.5, 1.5, c))

    def forward(self, x):
        y = self.norm(self.spatial(x).permute(0, 2, 3, 1))
        return x + (self.narrow(F.gelu(self.wide(y))) * self.scale).permute(0, 3, 1, 2)


class Attended(Block):
    """PyTorch's multi-head attention over the pixels, behind a layer norm."""

    def make(self, c):
        self.norm, self.attention = nn.LayerNorm(c), nn.MultiheadAttention(c, 4, batch_first=True)

    def forward(self, x):
        tokens = x.flatten(2).transpose(1, 2)
        y = self.norm(tokens)
        return (tokens + self.attention(y, y, y, need_weights=False)[0]).transpose(1, 2).reshape(x.shape)


class OwnAttention(Block):
    """Attention from one convolution for queries, keys and values, by whole heads."""

    def make(self, c):
        self.heads, self.qkv, self.out = 4, conv(c, 3 * c), conv(c, c)

    def forward(self, x):
        b, c, h, w = x.shape
        q, k, v = self.qkv(x).view(b, self.heads, 3, c // self.heads, h * w).unbind(2)
        weights = ((q.transpose(-2, -1) @ k) * (c // self.heads) ** -0.5).softmax(-1)
        return x + self.out((v @ weights.transpose(-2, -1)).reshape(b, c, h, w))


class SeparateAttention(Block):
    """Queries, keys and values from layers of their own, with batch norms, as wide as what comes in."""

    def make(self, c):
        self.q, self.k, self.v = (nn.Sequential(conv(c, c), nn.BatchNorm2d(c)) for _ in range(3))
        self.out = conv(c, c)

    def forward(self, x):
        b, c, h, w = x.shape
        q, k, v = (layer(x).view(b, 4, c // 4, h * w) for layer in (self.q, self.k, self.v))
        weights = (q.transpose(-2, -1) @ k / (c // 4) ** 0.5).softmax(-1)
        return x + self.out((v @ weights.transpose(-2, -1)).reshape(b, c, h, w))


class TokenAttention(Block):
    """Attention of a vision transformer, which takes the size of a head from its input's shape."""

    def make(self, c):
        self.norm, self.qkv, self.out = nn.LayerNorm(c), nn.Linear(c, 3 * c), nn.Linear(c, c)

    def forward(self, x):
        tokens = self.norm(x.flatten(2).transpose(1, 2))
        b, n, c = tokens.shape
        q, k, v = self.qkv(tokens).reshape(b, n, 3, 4, c // 4).permute(2, 0, 3, 1, 4).unbind(0)
        return x + self.out(self.attend(q, k, v).transpose(1, 2).reshape(b, n, c)).transpose(1, 2).view_as(x)

    def attend(self, q, k, v):
        return ((q @ k.transpose(-2, -1)) * q.shape[-1] ** -0.5).softmax(-1) @ v


class FusedAttention(TokenAttention):
    """The same by PyTorch's fused attention, which takes the root from the shape of what it is given."""

    def attend(self, q, k, v):
        return F.scaled_dot_product_attention(q, k, v)


class HeldAttention(Block):
    """Fused attention whose heads have a size that the block holds, narrower than what comes in."""

    def make(self, c):
        self.heads, self.size = 2, c // 4
        self.qkv, self.out = conv(c, 3 * c // 2), conv(c // 2, c)

    def forward(self, x):
        b, _, h, w = x.shape
        q, k, v = self.qkv(x).view(b, 3, self.heads, self.size, h * w).transpose(-2, -1).unbind(1)
        y = F.scaled_dot_product_attention(q, k, v)
        return x + self.out(y.transpose(-2, -1).reshape(b, self.heads * self.size, h, w))


class LinearAttention(Block):
    """Attention without a softmax, written with einsum, so that queries and keys meet channel by channel."""

    def make(self, c):
        self.q, self.k, self.v = conv(c, c // 2), conv(c, c // 2), conv(c, c)

    def forward(self, x):
        q, k, v = (layer(x).flatten(2) for layer in (self.q, self.k, self.v))
        context = torch.einsum("bkn,bvn->bkv", k.softmax(2), v)
        return x + torch.einsum("bkv,bkn->bvn", context, q.sigmoid()).view_as(x)


class Subpixel(Chain):
    """Pixel shuffle: every four channels become one of twice the resolution."""

    def make(self, c):
        self.layers = nn.Sequential(conv(c, 2 * c), nn.PixelShuffle(2), nn.Conv2d(c // 2, c, 3, 2, 1))


class SpaceToDepth(Chain):
    """The reverse."""

    def make(self, c):
        self.layers = nn.Sequential(nn.PixelUnshuffle(2), conv(4 * c, c, 3), nn.Upsample(scale_factor=2))


class Sliced(Block):
    """The same by slices in space, as Focus does."""

    def make(self, c):
        self.conv, self.up = conv(4 * c, c), nn.Upsample(scale_factor=2)

    def forward(self, x):
        parts = [x[..., i::2, j::2] for i in (0, 1) for j in (0, 1)]
        return self.up(self.conv(torch.cat(parts, 1)))


class Partial(Block):
    """A convolution of the first quarter of the channels, whose number is kept in an attribute."""

    def make(self, c):
        self.part, self.conv, self.mix = c // 4, conv(c // 4, c // 4, 3), conv(c, c)

    def forward(self, x):
        first, rest = torch.split(x, [self.part, x.shape[1] - self.part], 1)
        return self.mix(torch.cat((self.conv(first), rest), 1))


class GatedHalves(Block):
    """One half of the channels opens and closes the other."""

    def make(self, c):
        self.expand, self.out = conv(c, 2 * c), conv(c, c)

    def forward(self, x):
        value, gate = self.expand(x).chunk(2, 1)
        return self.out(value * gate.sigmoid())


class PReLUPerChannel(Chain):
    """A slope for each channel."""

    def make(self, c):
        self.layers = nn.Sequential(conv(c, c), nn.PReLU(c), conv(c, c))


class PReLUShared(Chain):
    """One slope."""

    def make(self, c):
        self.layers = nn.Sequential(conv(c, c), nn.PReLU(), conv(c, c))


class GroupNormed(Chain):
    """Statistics of groups of channels."""

    def make(self, c):
        self.layers = nn.Sequential(conv(c, c, 3), nn.GroupNorm(4, c), nn.SiLU(), conv(c, c))


class InstanceNormed(Chain):
    """Statistics of each channel of the image."""

    def make(self, c):
        self.layers = nn.Sequential(conv(c, c), nn.InstanceNorm2d(c, affine=True), nn.SiLU(), conv(c, c))


class Scaled(Block):
    """A parameter for each channel."""

    def make(self, c):
        self.conv, self.scale = conv(c, c), nn.Parameter(torch.linspace(0.5, 1.5, c).view(1, c, 1, 1))

    def forward(self, x):
        return x + self.scale * self.conv(x)


class Weighted(Block):
    """Branches with a scalar weight each."""

    def make(self, c):
        self.a, self.b, self.weights = conv(c, c), conv(c, c, 3), nn.Parameter(torch.tensor([0.7, 1.3]))

    def forward(self, x):
        a, b = self.weights.relu() / (self.weights.relu().sum() + 1e-4)
        return a * self.a(x) + b * self.b(x)


class SpatialGate(Block):
    """Pixels weighted by the mean and the maximum over all channels."""

    def make(self, c):
        self.conv, self.gate = conv(c, c), conv(2, 1, 7)

    def forward(self, x):
        y = self.conv(x)
        return y * self.gate(torch.cat((y.mean(1, keepdim=True), y.amax(1, keepdim=True)), 1)).sigmoid()


class NeighbourGate(Block):
    """Channels weighted by a convolution along the channels, as ECA does."""

    def make(self, c):
        self.conv, self.along = conv(c, c), nn.Conv1d(1, 1, 3, padding=1)

    def forward(self, x):
        y = self.conv(x)
        return y * self.along(y.mean((2, 3))[:, None]).sigmoid()[:, 0, :, None, None]


class Strips(Block):
    """Means of rows and of columns, through a convolution that both share."""

    def make(self, c):
        self.shared, self.norm, self.rows, self.columns = conv(c, 8), nn.BatchNorm2d(8), conv(8, c), conv(8, c)

    def forward(self, x):
        h, w = x.shape[2:]
        strips = torch.cat((x.mean(3, keepdim=True), x.mean(2, keepdim=True).transpose(2, 3)), 2)
        rows, columns = F.hardswish(self.norm(self.shared(strips))).split([h, w], 2)
        return x * self.rows(rows).sigmoid() * self.columns(columns.transpose(2, 3)).sigmoid()


class Deformed(Block):
    """Torchvision's deformable convolution, with small offsets."""

    def make(self, c):
        self.offsets, self.conv = conv(c, 18, 3), DeformConv2d(c, c, 3, padding=1)

    def forward(self, x):
        return self.conv(x, self.offsets(x).tanh())


class Resampled(Block):
    """Pixels fetched from where a convolution points."""

    def make(self, c):
        self.points, self.conv = conv(c, 2), conv(c, c)

    def forward(self, x):
        return self.conv(F.grid_sample(x, self.points(x).permute(0, 2, 3, 1).tanh(), align_corners=False))


class Stacked(Block):
    """Branches stacked along a dimension of their own and weighted by a softmax over it, as SKNet does."""

    def make(self, c):
        self.branches = nn.ModuleList([conv(c, c, 3), conv(c, c)])
        self.squeeze, self.select = conv(c, 8), nn.ModuleList([conv(8, c), conv(8, c)])

    def forward(self, x):
        branches = torch.stack([branch(x) for branch in self.branches], 1)
        pooled = self.squeeze(branches.sum(1).mean((2, 3), keepdim=True))
        weights = torch.stack([select(pooled) for select in self.select], 1).softmax(1)
        return (branches * weights).sum(1)


class FoldedGroups(Block):
    """Groups of channels moved into the batch, as EMA attention does."""

    def make(self, c):
        self.conv, self.norm = conv(c // 4, c // 4), nn.GroupNorm(1, c // 4)

    def forward(self, x):
        b, c, h, w = x.shape
        y = x.reshape(b * 4, c // 4, h, w)
        return (y * self.norm(self.conv(y)).sigmoid()).reshape(b, c, h, w)


class Clamp(torch.autograd.Function):
    """What no tracer knows."""

    @staticmethod
    def forward(ctx, x):
        return x.clamp(-2, 2)

    @staticmethod
    def backward(ctx, gradient):
        return gradient


class OwnFunction(Block):
    """A function with a gradient of its own."""

    def make(self, c):
        self.conv = conv(c, c)

    def forward(self, x):
        return Clamp.apply(self.conv(x))


class DataDependent(Block):
    """A Python number taken from the features, and a branch by it."""

    def make(self, c):
        self.conv = conv(c, c)

    def forward(self, x):
        y = self.conv(x)
        return y * 0.5 if float(y.abs().mean()) > 1e6 else y


class Reordered(Block):
    """Channels in reverse order, and rolled by a literal number."""

    def make(self, c):
        self.conv, self.out = conv(c, c), conv(c, c)

    def forward(self, x):
        return self.out(self.conv(x).flip(1).roll(3, 1))


BLOCKS = {
    name: kind
    for name, kind in list(globals().items())
    if isinstance(kind, type) and issubclass(kind, Block) and hasattr(kind, "make")
}
