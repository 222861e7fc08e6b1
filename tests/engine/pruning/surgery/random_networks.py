# SPDX-License-Identifier: AGPL-3.0-or-later
"""Random detection networks, written as the YAML that Ultralytics builds models from, and built."""

from __future__ import annotations

from random import Random

import torch
from foreign_blocks import BLOCKS

from ultralytics.engine.pruning.surgery.oracle import enliven
from ultralytics.nn.modules import block
from ultralytics.nn.tasks import DetectionModel

WIDTHS = (16, 24, 32, 48, 64)
WIDE = 128  # the least with which the blocks with attention have heads
DEEPEST = 32  # pixels, stride


class Writer:
    """Writes layer after layer, and knows how wide and how coarse each is.

    Attributes:
        layers (list): Rows of the YAML: inputs, repeats, module, arguments.
        strides (list[int]): Stride of each layer.
        widths (list[int]): Channels of each layer.
        foreign (dict[int, str]): Layer to the block of `foreign_blocks.BLOCKS` that takes the place of an identity.
    """

    def __init__(self, seed: int, foreign: bool = False):
        """Begin a network of stock blocks, or with others in between."""
        self.random = Random(seed)
        self.with_foreign = foreign
        self.layers, self.strides, self.widths = [], [], []
        self.foreign: dict[int, str] = {}

    def add(self, module: str, *args, source=-1, width: int | None = None, stride: int | None = None, repeats=1):
        """Write a layer; without a width or stride it has those of the layer before it."""
        self.layers.append([source, repeats, module, list(args)])
        self.widths.append(self.widths[-1] if width is None else width)
        self.strides.append(self.strides[-1] if stride is None else stride)

    def network(self) -> dict:
        """Return a network of two to four levels with skip connections, and a head on some of them."""
        self.add("Conv", 16, 3, 2, width=16, stride=2)
        while self.strides[-1] < DEEPEST:
            self.down()
            for _ in range(self.random.randint(1, 2)):
                self.block()
        for _ in range(self.random.randint(0, 2)):
            self.attend()
        backbone = len(self.layers)
        for _ in range(self.random.randint(1, 2)):
            self.up()
        for _ in range(self.random.randint(0, 2)):
            if self.strides[-1] < DEEPEST:
                self.down()
                self.join()
                self.block()
        if self.random.random() < 0.5:
            self.fuse()
        levels = self.levels()
        self.layers.append([levels, 1, "Detect", ["nc"]])
        scales = {"n": [1.0, 1.0, 1024]}  # all as it is written; older releases need one for a C3k2
        return {"nc": 3, "scales": scales, "backbone": self.layers[:backbone], "head": self.layers[backbone:]}

    def down(self):
        """Halve the resolution."""
        width, stride = self.random.choice(WIDTHS), 2 * self.strides[-1]
        kind = self.random.choice(("Conv", "ADown", "SCDown", "AConv", "DWConv", "GhostConv", "Focus"))
        args = {"Conv": (3, 2), "SCDown": (3, 2), "DWConv": (3, 2), "GhostConv": (3, 2), "Focus": (1, 1)}.get(kind, ())
        if kind == "DWConv":  # of one group for each channel
            width = self.widths[-1]
        self.add(kind, width, *args, width=width, stride=stride)

    def block(self):
        """Add a block that keeps the resolution."""
        width, yes, repeats = self.random.choice(WIDTHS), self.random.random() < 0.5, self.random.randint(1, 2)
        kinds = {
            "Conv": (width, 3, 1),
            "C2f": (width, yes),
            "C3k2": (width, yes),
            "C3": (width, yes),
            "C2": (width, yes),
            "C1": (width,),
            "C3x": (width, yes),
            "C3Ghost": (width, yes),
            "RepC3": (width,),
            "BottleneckCSP": (width, yes),
            "C2fCIB": (width, yes, self.random.random() < 0.5),
            "Bottleneck": (width, yes),
            "GhostConv": (width, 3),
            "GhostBottleneck": (width, 3, 1),
            "DWConv": (width, 3),
            "RepNCSPELAN4": (width, width, width // 2, 1),
            "ELAN1": (width, width, width // 2),
            "SPP": (width, (3, 5)),
            "SPPF": (width, 5),
            "SPPELAN": (width, width // 2),
            "ConvTranspose": (width, 3, 1, 1),
        }
        kind = self.random.choice(list(kinds))
        width = self.widths[-1] if kind == "GhostBottleneck" else width  # which adds its input to its output
        args = (width, *kinds[kind][1:])
        multiple = kind in {"C2f", "C3k2", "C3", "C2", "C1", "C3x", "C3Ghost", "RepC3", "BottleneckCSP", "C2fCIB"}
        self.add(kind, *args, width=width, repeats=repeats if multiple else 1)
        if self.with_foreign and self.random.random() < 0.4:
            self.foreign[len(self.layers)] = self.random.choice(list(BLOCKS))
            self.add("nn.Identity")

    def attend(self):
        """Add a block with attention, behind a convolution that makes it wide enough."""
        self.add("Conv", WIDE, 1, 1, width=WIDE)
        kinds = {
            "C2PSA": (WIDE,),
            "PSA": (WIDE,),
            "C2fPSA": (WIDE,),
            "C3TR": (WIDE,),
            "A2C2f": (WIDE, True, self.random.choice((1, 4))),
        }
        kind = self.random.choice([kind for kind in kinds if hasattr(block, kind)])
        self.add(kind, *kinds[kind], width=WIDE)

    def up(self):
        """Double the resolution, and concatenate."""
        width = self.widths[-1]
        if self.random.random() < 0.7:
            self.add("nn.Upsample", None, 2, "nearest", stride=self.strides[-1] // 2)
        else:
            self.add("nn.ConvTranspose2d", width, 2, 2, width=width, stride=self.strides[-1] // 2)
        self.join()
        self.block()

    def join(self):
        """Concatenate with one or two earlier layers of the same resolution, sometimes with one of them twice."""
        earlier = [i for i, stride in enumerate(self.strides[:-1]) if stride == self.strides[-1]]
        if earlier:
            others = self.random.choices(earlier, k=self.random.randint(1, 2))
            self.add("Concat", 1, source=[-1, *others], width=self.widths[-1] + sum(self.widths[i] for i in others))

    def fuse(self):
        """Add up tensors that convolutions of one layer make, as YOLOv9's auxiliary branch does."""
        here, width = len(self.layers) - 1, self.random.choice(WIDTHS)
        finer = [i for i, stride in enumerate(self.strides[:-1]) if stride <= self.strides[-1]]
        first = self.random.choice(finer)
        self.add("CBLinear", [width, width], source=first, width=width, stride=self.strides[first])
        self.add("Conv", width, 3, 1, source=here, width=width, stride=self.strides[here])
        index = self.random.randint(0, 1)
        self.add("CBFuse", [index], source=[-2, -1], width=width)

    def levels(self) -> list[int]:
        """Return the layers that the head reads, one for each of some resolutions, the last layer among them."""
        last = {stride: i for i, stride in enumerate(self.strides) if stride >= 8 and self.layers[i][2] != "CBLinear"}
        chosen = self.random.sample(sorted(last), k=self.random.randint(1, len(last)))
        return sorted({last[stride] for stride in chosen} | {len(self.layers) - 1}, key=lambda i: self.strides[i])


def random_network(seed: int, foreign: bool = False) -> DetectionModel:
    """Return a random network that is as alive as a trained one.

    Args:
        seed (int): Which one.
        foreign (bool): With blocks that Ultralytics does not have.
    """
    torch.manual_seed(seed)
    writer = Writer(seed, foreign)
    model = DetectionModel(writer.network(), verbose=False)
    for i, name in writer.foreign.items():
        stock = model.model[i]
        other = BLOCKS[name](writer.widths[i])
        other.i, other.f, other.type, other.np = stock.i, stock.f, name, sum(p.numel() for p in other.parameters())
        model.model[i] = other
    return enliven(model, model.predict)
