# SPDX-License-Identifier: AGPL-3.0-or-later
"""Blocks that filter each channel, or a few together, by themselves; most without a layer."""

import torch
from torch import nn
from torch.nn import functional as F

from ultralytics.nn.modules.conv import Conv


class Blurred(nn.Module):
    """Smooths every channel by the same filter, kept for each of them."""

    def __init__(self, c):
        super().__init__()
        self.cv, self.out = Conv(c, c), Conv(c, c)
        row = torch.tensor([1.0, 2.0, 1.0]) / 4
        self.register_buffer("filter", (row[:, None] * row).repeat(c, 1, 1, 1))

    def forward(self, x):
        y = self.cv(x)
        return self.out(F.conv2d(F.pad(y, (1, 1, 1, 1), "reflect"), self.filter, groups=y.shape[1]))


class Edged(nn.Module):
    """Finds edges by one filter that is repeated in each call, with the number of channels as an attribute."""

    def __init__(self, c):
        super().__init__()
        self.c, self.cv, self.out = c, Conv(c, c), Conv(c, c)
        self.register_buffer("filter", torch.tensor([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]]))

    def forward(self, x):
        y = self.cv(x)
        edges = F.conv2d(y, self.filter.expand(self.c, 1, 3, 3), padding=1, groups=self.c)
        return self.out(y + edges)


class Learnt(nn.Module):
    """A depthwise convolution whose weight and bias are the block's own."""

    def __init__(self, c):
        super().__init__()
        self.cv, self.out = Conv(c, c), Conv(c, c)
        self.weight, self.bias = nn.Parameter(torch.randn(2 * c, 1, 3, 3)), nn.Parameter(torch.randn(2 * c))
        self.join = Conv(2 * c, c)

    def forward(self, x):
        y = self.cv(x)
        return self.out(self.join(F.conv2d(y, self.weight, self.bias, padding=1, groups=y.shape[1])))


def haar(c):
    """Return the four filters of a Haar wavelet for every channel, shape (4 c, 1, 2, 2)."""
    low, high = torch.tensor([1.0, 1.0]) / 2, torch.tensor([1.0, -1.0]) / 2
    return torch.stack([a[:, None] * b for a in (low, high) for b in (low, high)]).repeat(c, 1, 1)[:, None]


class Halved(nn.Module):
    """Takes a wavelet's four parts for a tensor of half the size, and brings it back (as in HWD)."""

    def __init__(self, c):
        super().__init__()
        self.cv, self.mix, self.out = Conv(c, c), Conv(4 * c, c), Conv(c, c)
        self.register_buffer("filters", haar(c))

    def forward(self, x):
        y = self.cv(x)
        parts = F.conv2d(y, self.filters, stride=2, groups=y.shape[1])
        b, _, h, w = parts.shape
        parts = parts.view(b, -1, 4, h, w).transpose(1, 2).reshape(b, -1, h, w)
        return self.out(F.interpolate(self.mix(parts), scale_factor=2.0))


class Wavelet(nn.Module):
    """Convolves a wavelet's parts and puts them together again (as in WTConv, arXiv 2407.05848)."""

    def __init__(self, c):
        super().__init__()
        self.cv, self.out = Conv(c, c), Conv(c, c)
        self.base = nn.Conv2d(c, c, 5, padding=2, groups=c)
        self.parts = nn.Conv2d(4 * c, 4 * c, 5, padding=2, groups=4 * c, bias=False)
        self.scale = nn.Parameter(torch.full((1, 4 * c, 1, 1), 0.5))
        self.there, self.back = nn.Parameter(haar(c), False), nn.Parameter(4 * haar(c), False)

    def forward(self, x):
        y = self.cv(x)
        b, c, h, w = y.shape
        parts = F.conv2d(y, self.there, stride=2, groups=c).reshape(b, c, 4, h // 2, w // 2)
        parts = self.scale * self.parts(parts.reshape(b, 4 * c, h // 2, w // 2))
        parts = parts.reshape(b, c, 4, h // 2, w // 2)
        low = parts[:, :, 0] + parts[:, :, 0].mean((2, 3), keepdim=True)
        parts = torch.cat((low[:, :, None], parts[:, :, 1:]), 2).reshape(b, 4 * c, h // 2, w // 2)
        return self.out(self.base(y) + F.conv_transpose2d(parts, self.back, stride=2, groups=c))


class Inception(nn.Module):
    """Splits by a tuple of sizes (as InceptionNeXt, arXiv 2303.16900)."""

    def __init__(self, c):
        super().__init__()
        g = c // 8
        self.cv, self.out, self.sizes = Conv(c, c), Conv(c, c), (c - 3 * g, g, g, g)
        self.square = nn.Conv2d(g, g, 3, padding=1, groups=g)
        self.wide = nn.Conv2d(g, g, (1, 5), padding=(0, 2), groups=g)
        self.high = nn.Conv2d(g, g, (5, 1), padding=(2, 0), groups=g)

    def forward(self, x):
        rest, a, b, c = torch.split(self.cv(x), self.sizes, 1)
        return self.out(torch.cat((rest, self.square(a), self.wide(b), self.high(c)), 1))


FILTERING = [Blurred, Edged, Learnt, Halved, Wavelet, Inception]
