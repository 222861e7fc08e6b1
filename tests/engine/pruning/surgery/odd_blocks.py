# SPDX-License-Identifier: AGPL-3.0-or-later
"""Blocks that people put into their models and that no trace understands, or only just."""

from copy import deepcopy

import torch
from torch import nn
from torch.nn import functional as F

from ultralytics.nn.modules.conv import Conv


class Standardised(nn.Conv2d):
    """Weight standardisation, which counts what it reads."""

    def forward(self, x):
        weight = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        return self._conv_forward(x, weight / (weight.std((1, 2, 3), keepdim=True) + 1e-5), self.bias)


class Residual(nn.Module):
    """Adds where shapes happen to be equal."""

    def __init__(self, c):
        super().__init__()
        self.a, self.b, self.c = Conv(c, 32), Conv(32, 56), Conv(56, c)

    def forward(self, x):
        y = self.a(x)
        z = self.b(y)
        return self.c(z + y if z.shape == y.shape else z)


class Trained(nn.Module):
    """Has a branch that only training runs."""

    def __init__(self, c):
        super().__init__()
        self.cv, self.aux = Conv(c, c), nn.Conv2d(c, c, 1)

    def forward(self, x):
        y = self.cv(x)
        if self.training:
            self.seen = self.aux(y)
        return y


class Padded(nn.Module):
    """Pads the channels of its shortcut by a fixed number."""

    def __init__(self, c):
        super().__init__()
        self.c, self.cv, self.out = c, Conv(c, 2 * c), Conv(2 * c, c)

    def forward(self, x):
        return self.out(self.cv(x) + F.pad(x, (0, 0, 0, 0, 0, self.c)))


class Normalised(nn.Module):
    """NAM: weighs channels by the scales of a batch norm (arXiv 2111.12419)."""

    def __init__(self, c):
        super().__init__()
        self.bn = nn.BatchNorm2d(c)

    def forward(self, x):
        y = self.bn(x)
        weight = self.bn.weight.data.abs() / torch.sum(self.bn.weight.data.abs())
        return x * torch.sigmoid(y * weight.view(1, -1, 1, 1))


class Remembering(nn.Module):
    """Keeps what it has computed."""

    def __init__(self, c):
        super().__init__()
        self.cv, self.kept = Conv(c, c), []

    def forward(self, x):
        self.feature = self.cv(x)
        self.kept = [self.feature.mean()]
        return self.feature


class Shifted(nn.Module):
    """Shifts larger maps by a number of pixels that is one of channels by chance."""

    def __init__(self, c):
        super().__init__()
        self.size, self.cv, self.out = c // 4, Conv(c, c), Conv(c, c)

    def forward(self, x):
        parts = torch.cat([part.sigmoid() for part in self.cv(x).split(self.size, 1)], 1)
        if x.shape[3] > self.size:
            parts = parts - parts.roll(self.size, 3)
        return self.out(parts)


class Named(nn.Module):
    """Calls its layers by the names of their arguments."""

    def __init__(self, c):
        super().__init__()
        self.a, self.norm, self.b = nn.Conv2d(c, c, 3, 1, 1), nn.BatchNorm2d(c), nn.Conv2d(c, c, 1)

    def forward(self, x):
        return self.b(input=self.norm(input=self.a(input=x)).relu())


class MixedGroups(nn.Module):
    """A group norm whose groups hold channels and what no trace follows."""

    def __init__(self, c):
        super().__init__()
        self.cv, self.norm, self.out = Conv(c, c), nn.GroupNorm(2, 2 * c), Conv(2 * c, c)

    def forward(self, x):
        return self.out(self.norm(torch.cat((self.cv(x), torch.fft.fft2(x).real), 1)))


class Windows(nn.Module):
    """Mixes the pixels of windows, of which only whole ones will do."""

    def __init__(self, c, side=8):
        super().__init__()
        self.side, self.cv, self.mix, self.out = side, Conv(c, c), nn.Linear(side**2, side**2), Conv(c, c)

    def forward(self, x):
        y, s = self.cv(x), self.side
        b, c, h, w = y.shape
        windows = y.view(b, c, h // s, s, w // s, s).transpose(3, 4).flatten(4)
        return self.out(self.mix(windows).unflatten(4, (s, s)).transpose(3, 4).reshape(b, c, h, w))


class Tiled(nn.Module):
    """Attention in windows, as small as a small map, whose side is the width of a head by chance."""

    def __init__(self, c):
        super().__init__()
        self.side = self.width = 16
        self.qkv, self.out = Conv(c, 3 * c), Conv(c, c)

    def forward(self, x):
        b, _, h, w = x.shape
        s = min(self.side, h, w)
        tiles = self.qkv(x).view(b, 3, -1, self.width, h // s, s, w // s, s).permute(1, 0, 4, 6, 2, 5, 7, 3)
        q, k, v = tiles.flatten(5, 6)
        y = ((q @ k.transpose(-2, -1)).softmax(-1) @ v).unflatten(4, (s, s))
        return x + self.out(y.permute(0, 3, 6, 1, 4, 2, 5).reshape(b, -1, h, w))


class Far(nn.Module):
    """Has a branch that only larger maps run."""

    def __init__(self, c):
        super().__init__()
        self.cv, self.far, self.out = Conv(c, c), Conv(c, c), Conv(c, c)

    def forward(self, x):
        y = self.cv(x)
        return self.out(y + self.far(y) if y.shape[2] * y.shape[3] > 256 else y)


class Single(nn.Module):
    """Computes in FP32 whatever it gets, in a way that FP64 does not stand."""

    def __init__(self, c):
        super().__init__()
        self.cv, self.out = Conv(c, c), Conv(c, c)
        self.register_buffer("grid", torch.rand(1, 4, 4, 2) * 2 - 1)

    def forward(self, x):
        a, b = self.cv(x).chunk(2, 1)
        seen = F.grid_sample(torch.cat((b, a), 1), self.grid.float(), align_corners=False)
        return self.out(x) * seen.mean((2, 3), keepdim=True)


class ImageNorm(nn.LayerNorm):
    """A layer norm over the channels of a feature map (as in ConvNeXt)."""

    def forward(self, x):
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class AsWideAsItsMap(nn.Module):
    """Normalises as many channels as a small map has columns."""

    def __init__(self, c):
        super().__init__()
        self.cv, self.norm, self.out = Conv(c, 8), ImageNorm(8), Conv(8, c)

    def forward(self, x):
        return self.out(self.norm(self.cv(x)))


class Pooled(nn.Module):
    """Weighs channels by their means, which PyTorch's layer lays out anew if the map has its channels last."""

    def __init__(self, c):
        super().__init__()
        self.cv, self.pool, self.fc = Conv(c, c), nn.AdaptiveAvgPool2d(1), nn.Conv2d(c, c, 1)

    def forward(self, x):
        y = self.cv(x)
        return y * self.fc(self.pool(y)).sigmoid()


class Mirrored(nn.Module):
    """Mirrors more pixels at the border than a small feature map has."""

    def __init__(self, c):
        super().__init__()
        self.cv, self.out = Conv(c, c), nn.Conv2d(c, c, 7, padding=3, padding_mode="reflect", groups=c)

    def forward(self, x):
        return self.out(self.cv(x))


def with_block(model, block, place=4):
    """Return a copy of a yolov8n with a block behind one of its layers."""
    model = deepcopy(model)
    before = model.model[place]
    whole = nn.Sequential(before, block)
    whole.i, whole.f, whole.type, whole.np = before.i, before.f, before.type, before.np
    model.model[place] = whole
    return model.eval()
