# SPDX-License-Identifier: AGPL-3.0-or-later
"""Detection heads that people write themselves: what they put between the features and the predictions."""

from copy import deepcopy

import torch
from torch import nn

from ultralytics.engine.pruning.surgery.oracle import enliven
from ultralytics.nn.modules.block import DFL
from ultralytics.nn.modules.conv import Conv
from ultralytics.nn.modules.head import Detect
from ultralytics.utils.tal import dist2bbox, make_anchors


class Normed(nn.Module):
    """A convolution with a group norm."""

    def __init__(self, c1, c2, k=1):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(c1, c2, k, padding=k // 2, bias=False), nn.GroupNorm(8, c2)

    def forward(self, x):
        return self.norm(self.conv(x)).relu()


class Scale(nn.Module):
    """A number that is learnt."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(1.5))

    def forward(self, x):
        return x * self.scale


class Stemmed(Detect):
    """Stems, in a list of their own, before the branches of each level."""

    def __init__(self, nc, ch):
        super().__init__(nc, ch=ch)
        self.stem = nn.ModuleList(nn.Sequential(Conv(c, c, 3, g=4), Conv(c, c)) for c in ch)

    def forward(self, x):
        return super().forward([stem(y) for stem, y in zip(self.stem, x)])


class Shared(Detect):
    """One pair of convolutions for all levels, with group norms, and a scale for each (as in LSCD heads)."""

    def __init__(self, nc, ch):
        super().__init__(nc, ch=ch)
        width = 64
        self.conv = nn.ModuleList(Normed(c, width) for c in ch)
        self.share_conv = nn.Sequential(Normed(width, width, 3), Normed(width, width, 3))
        self.cv2, self.cv3 = nn.Conv2d(width, 4 * self.reg_max, 1), nn.Conv2d(width, nc, 1)
        self.scale = nn.ModuleList(Scale() for _ in ch)

    def forward_head(self, x, box_head=None, cls_head=None):
        y = [self.share_conv(conv(level)) for conv, level in zip(self.conv, x)]
        boxes = [scale(box_head(level)).flatten(2) for scale, level in zip(self.scale, y)]
        scores = [cls_head(level).flatten(2) for level in y]
        return {"boxes": torch.cat(boxes, -1), "scores": torch.cat(scores, -1), "feats": x}


class Fused(Detect):
    """Every level reads all others, weighed at each pixel (as in ASFF heads)."""

    def __init__(self, nc, ch):
        super().__init__(nc, ch=ch)
        self.squeeze = nn.ModuleList(nn.ModuleList(Conv(c, 32) for c in ch) for _ in ch)
        self.weigh = nn.ModuleList(nn.Conv2d(32 * len(ch), len(ch), 1) for _ in ch)
        self.expand = nn.ModuleList(Conv(32, c, 3) for c in ch)

    def forward(self, x):
        levels = []
        for squeeze, weigh, expand, own in zip(self.squeeze, self.weigh, self.expand, x):
            size = own.shape[2:]
            y = [nn.functional.interpolate(one(level), size) for one, level in zip(squeeze, x)]
            weights = weigh(torch.cat(y, 1)).softmax(1)
            levels.append(expand(sum(level * weights[:, i : i + 1] for i, level in enumerate(y))))
        return super().forward(levels)


class Judged(Detect):
    """A branch that judges the boxes, whose outputs multiply the scores."""

    def __init__(self, nc, ch):
        super().__init__(nc, ch=ch)
        self.judge = nn.ModuleList(nn.Sequential(Conv(c, 24, 3), nn.Conv2d(24, 1, 1)) for c in ch)

    def forward_head(self, x, box_head=None, cls_head=None):
        found = super().forward_head(x, box_head, cls_head)
        quality = torch.cat([judge(y).flatten(2) for judge, y in zip(self.judge, x)], -1)
        return {**found, "scores": found["scores"] + quality}


class Estimated(Detect):
    """Scores that are corrected by how sharp the distributions of the boxes' sides are (as in GFLv2 heads)."""

    def __init__(self, nc, ch):
        super().__init__(nc, ch=ch)
        self.reg_conf = nn.Sequential(nn.Conv2d(4 * 5, 32, 1), nn.ReLU(), nn.Conv2d(32, 1, 1))

    def forward_head(self, x, box_head=None, cls_head=None):
        found = super().forward_head(x, box_head, cls_head)
        sides = found["boxes"].unflatten(1, (4, self.reg_max)).softmax(2)
        best = sides.topk(4, 2).values
        statistics = torch.cat((best, best.mean(2, keepdim=True)), 2).flatten(1, 2)
        return {**found, "scores": found["scores"] + self.reg_conf(statistics[..., None])[..., 0]}


class Helped(Detect):
    """Branches that only training runs."""

    def __init__(self, nc, ch):
        super().__init__(nc, ch=ch)
        self.help = nn.ModuleList(nn.Sequential(Conv(c, 40, 3), nn.Conv2d(40, self.no, 1)) for c in ch)

    def forward(self, x):
        found = super().forward(x)
        if self.training:
            found["help"] = torch.cat([branch(y).flatten(2) for branch, y in zip(self.help, x)], -1)
        return found


class Foreign(nn.Module):
    """No Detect: a head as in the earliest releases, with one branch for boxes and classes."""

    def __init__(self, nc, ch):
        super().__init__()
        self.nc, self.nl, self.reg_max, self.no = nc, len(ch), 16, nc + 64
        self.stride = torch.zeros(len(ch))
        self.stems = nn.ModuleList(Conv(c, 48, 3) for c in ch)
        self.preds = nn.ModuleList(nn.Conv2d(48, self.no, 1) for _ in ch)
        self.dfl = DFL(16)

    def forward(self, x):
        levels = [pred(stem(y)) for stem, pred, y in zip(self.stems, self.preds, x)]
        if self.training:
            return levels
        anchors, strides = (a.transpose(0, 1) for a in make_anchors(levels, self.stride, 0.5))
        boxes, scores = torch.cat([y.flatten(2) for y in levels], 2).split((4 * self.reg_max, self.nc), 1)
        boxes = dist2bbox(self.dfl(boxes), anchors[None], xywh=True, dim=1) * strides
        return torch.cat((boxes, scores.sigmoid()), 1), levels


class Weighed(nn.Conv2d):
    """Weighs its outputs by how many channels it reads."""

    def forward(self, x):
        return super().forward(x) * (1 + x.shape[1] / 5000)


class Decoded(Foreign):
    """Puts out decoded boxes with scores beside them in one tensor, and nothing else."""

    def __init__(self, nc, ch):
        super().__init__(nc, ch)
        self.scores = nn.ModuleList(nn.Sequential(Conv(c, 48), Weighed(48, nc, 1)) for c in ch)

    def forward(self, x):
        levels = super().forward(x)
        if self.training:
            return levels
        scores = torch.cat([score(y).flatten(2) for score, y in zip(self.scores, x)], 2)
        return torch.cat((levels[0][:, :4], scores.sigmoid()), 1)


class Paired(Decoded):
    """Puts out what classifies as the first of two tensors."""

    def forward(self, x):
        found = super().forward(x)
        return found if self.training else (found[:, 4:], found[:, :4])


class Labelled(Decoded):
    """Puts out best classes and what is above a threshold, beside boxes and scores."""

    def forward(self, x):
        found = super().forward(x)
        if self.training:
            return found
        best, labels = found[:, 4:].max(1)
        return {"boxes": found[:, :4], "scores": best, "labels": labels, "valid": best > 0.5}


class Numbered(Detect):
    """Splits features by widths that are as large as numbers of the predictions: bins of a side, and classes."""

    def __init__(self, nc, ch):
        super().__init__(nc, ch=ch)
        self.first, self.second = self.reg_max, self.nc
        self.there = nn.ModuleList(Conv(c, self.first + self.second) for c in ch)
        self.back = nn.ModuleList(Conv(self.first + self.second, c) for c in ch)

    def forward(self, x):
        levels = []
        for there, back, y in zip(self.there, self.back, x):
            parts = there(y).split((self.first, self.second), 1)
            levels.append(back(torch.cat([part * part.mean((2, 3), keepdim=True) for part in parts], 1)))
        return super().forward(levels)


class Holding(nn.Module):
    """Holds a Detect, and puts out a map beside its predictions."""

    def __init__(self, nc, ch):
        super().__init__()
        self.detect = Detect(nc, ch=ch)
        self.nc, self.reg_max, self.no, self.nl = nc, self.detect.reg_max, self.detect.no, len(ch)
        self.segment = nn.Sequential(Conv(ch[0], 24, 3), nn.Conv2d(24, 5, 1))

    @property
    def stride(self):
        return self.detect.stride

    @stride.setter
    def stride(self, stride):
        self.detect.stride = stride

    def forward(self, x):
        found, extra = self.detect(x), self.segment(x[0])
        return {**found, "map": extra} if self.training else (*found, extra)


class Twice(Detect):
    """A second Detect helps in training."""

    def __init__(self, nc, ch):
        super().__init__(nc, ch=ch)
        self.aux = Detect(nc, ch=ch)

    def forward(self, x):
        found = super().forward(x)
        return {**found, "aux": self.aux(x)} if self.training else found


class Refining(Detect):
    """Puts out features and first boxes, and goes on behind both."""

    def __init__(self, nc, ch):
        super().__init__(nc, ch=ch)
        self.first = nn.ModuleList(nn.Conv2d(c, 4, 1) for c in ch)
        self.embed = nn.ModuleList(Conv(4, 32) for _ in ch)
        self.join = nn.ModuleList(Conv(c + 32, c, 3) for c in ch)

    def forward_head(self, x, box_head=None, cls_head=None):
        first = [layer(y) for layer, y in zip(self.first, x)]
        levels = [join(torch.cat((y, embed(b)), 1)) for join, embed, b, y in zip(self.join, self.embed, first, x)]
        found = super().forward_head(levels, box_head, cls_head)
        return {**found, "first": first, "embedded": levels, "levels": self.nl, "kind": "refining"}


class Asking(Detect):
    """Learnt queries gather what every pixel reads."""

    def __init__(self, nc, ch):
        super().__init__(nc, ch=ch)
        self.proj = nn.ModuleList(Conv(c, 64) for c in ch)
        self.query, self.attn, self.out = (
            nn.Embedding(8, 64),
            nn.MultiheadAttention(64, 4, batch_first=True),
            Conv(64, 64),
        )
        self.back = nn.ModuleList(Conv(64, c) for c in ch)

    def forward(self, x):
        y = [proj(level) for proj, level in zip(self.proj, x)]
        tokens = torch.cat([level.flatten(2) for level in y], 2).transpose(1, 2)
        asked = self.query.weight.expand(len(tokens), -1, -1)
        found = self.attn(asked, tokens, tokens, need_weights=False)[0].mean(1)
        return super().forward([back(level * self.out(found[..., None, None])) for back, level in zip(self.back, y)])


HEADS = [
    Stemmed,
    Shared,
    Fused,
    Judged,
    Estimated,
    Helped,
    Foreign,
    Numbered,
    Holding,
    Twice,
    Refining,
    Asking,
]


def with_head(model, kind):
    """Return a copy of a detection model with a head of another kind, whose outputs depend on the image."""
    model = deepcopy(model)
    before = model.model[-1]
    widths = [branch[0].conv.in_channels for branch in before.cv2]
    head = kind(before.nc, widths)
    head.i, head.f, head.type, head.np, head.stride = before.i, before.f, kind.__name__, 0, before.stride
    model.model[-1] = head
    return enliven(model, model.predict)
