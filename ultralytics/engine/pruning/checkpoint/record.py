# SPDX-License-Identifier: AGPL-3.0-or-later
"""The record of a cut: what was done to a model, carried by it as a plain dict, so that stock Ultralytics loads it."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime
from pathlib import Path
from typing import Any

from torch import nn

from ultralytics.cfg.compress import __version__, versions
from ultralytics.engine.pruning.checkpoint.classes import class_count
from ultralytics.engine.pruning.checkpoint.marks import RECORD, is_pruned
from ultralytics.engine.pruning.files import sha256

SCHEMA = 1  # of the record; 0 are those of version 0.1.0, which had no number
KINDS: dict[str, type | tuple[type, ...]] = {  # field: type of its values, for fields that are mappings
    "gflops": (int, float),
    "parameters": int,
    "cost": (int, float),
    "left_dense": str,
    "held": str,
    "shares": (int, float),
    "channels": dict,
    "source": str,
    "versions": str,
}


@dataclass(frozen=True)
class Record:
    """What a cut has done to a model.

    Attributes:
        prune_method (str): How the channels were ranked.
        target (float): Dense cost over pruned cost that was asked for.
        reached (float): Dense cost over pruned cost.
        global_pruning (bool): Channels of all layers were ranked together.
        round_to (int): Channels per layer are a multiple of this.
        max_sparsity (float): Largest share of a layer's channels that could be removed.
        gflops (dict[str, float]): GFLOPs of the 'dense' and the 'pruned' model at 640 pixels.
        parameters (dict[str, int]): Parameters of both.
        seconds (float): What pruning took, gradients included.
        left_dense (dict[str, str]): Layers whose outputs stay whole because of what the network does, and why.
        held (dict[str, str]): Other layers that keep all their outputs, by a bound of the budget, a partner or because
            of where they lie, and why.
        shares (dict[str, float]): Layers of both to the share of the dense cost that is left in them with all layers at
            their smallest; the cost outside all layers under a name of its own.
        channels (dict[str, dict[str, list[int]]]): Layer to the indices of the 'out' and 'in' channels kept.
        yaml (dict): Architecture of the dense model.
        budget (str): What the target counts, as the key 'budget' has it.
        precision (str): In what the budget counts, as the key 'precision' has it.
        source (dict[str, str]): 'path' and 'sha256' of the dense checkpoint; empty for a model that came from none.
        iterative_steps (int): Cuts on the way to the target.
        recalibrated (bool): Batch norm statistics were measured anew after the cut.
        refitted (bool): Convolutions were fitted to the dense model's outputs after the cut.
        cost (dict[str, float]): Cost of the 'dense' and the 'pruned' model in GFLOPs, millions of parameters, megabytes
            or milliseconds, by the budget; and the 'target', if it was given as such.
        run (str): Folder of the run that made the cut; empty for none.
        versions (dict[str, str]): Of this package, Ultralytics, torch and torch-pruning.
        needs_ultralytics (str): Oldest release that loads the pruned model and computes the same; empty if not known.
        date (str): When, in ISO 8601.
        schema (int): Version of these fields.
    """

    prune_method: str
    target: float
    reached: float
    global_pruning: bool
    round_to: int
    max_sparsity: float
    gflops: dict[str, float]
    parameters: dict[str, int]
    seconds: float
    left_dense: dict[str, str]
    channels: dict[str, dict[str, list[int]]]
    yaml: dict[str, Any]
    budget: str = "flops"
    precision: str = "fp32"
    source: dict[str, str] = field(default_factory=dict)
    iterative_steps: int = 1
    recalibrated: bool = False
    refitted: bool = False
    cost: dict[str, float] = field(default_factory=dict)
    run: str = ""
    held: dict[str, str] = field(default_factory=dict)
    shares: dict[str, float] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=versions)
    needs_ultralytics: str = ""
    date: str = field(default_factory=lambda: datetime.now().astimezone().isoformat())
    schema: int = SCHEMA

    def to_dict(self) -> dict[str, Any]:
        """Return the record as plain types, which load under `ULTRALYTICS_SAFE_LOAD`."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Record:
        """Read what `to_dict` returned, of this or an earlier version.

        Args:
            values (Mapping[str, Any]): What a checkpoint brings, which may come from anybody.

        Returns:
            (Record): The record, its fields of the right types.

        Raises:
            ValueError: If it is from a newer version, or a field is missing or of another type.
        """
        values = dict(values)
        schema = values.get("schema", 0)
        if not isinstance(schema, int) or schema > SCHEMA:
            raise ValueError(
                f"the model's pruning record has schema {schema}, and ultralytics-compress {__version__} reads up to "
                f"{SCHEMA}. Update ultralytics-compress."
            )
        if "method" in values:
            values["prune_method"] = values["method"]
        known = {f.name: f for f in fields(cls)}
        found = {name: value for name, value in values.items() if name in known} | {"schema": SCHEMA}
        for name, f in known.items():
            if name in found and not _fits(found[name], f.type.partition("[")[0], KINDS.get(name)):
                raise ValueError(
                    f"the model's pruning record is damaged: '{name}' is {found[name]!r:.80}, which is no {f.type}. "
                    "Prune the dense model again."
                )
        try:
            return cls(**found)
        except TypeError as error:
            raise ValueError(f"the model's pruning record is damaged: {error}. Prune the dense model again.") from None

    @classmethod
    def of(cls, model: nn.Module) -> Record:
        """Return the record that a pruned model carries.

        Raises:
            ValueError: If it carries none, or one that cannot be read.
        """
        values = getattr(model, RECORD, None)
        if not isinstance(values, dict):
            raise ValueError("the model has no pruning record: it is not pruned. Prune it with 'yolo compress' first.")
        return cls.from_dict(values)


def source_of(model: nn.Module) -> dict[str, str]:
    """Return 'path' and 'sha256' of the checkpoint that Ultralytics has loaded a model from; nothing for another."""
    file = Path(getattr(model, "pt_path", None) or "")
    return {"path": str(file.resolve()), "sha256": sha256(file)} if file.is_file() else {}


def dense_yaml(model: nn.Module) -> dict[str, Any]:
    """Return the architecture YAML of the dense model that a model is or was cut from."""
    if not is_pruned(model):
        return deepcopy(model.yaml)
    yaml = deepcopy(Record.of(model).yaml)
    if yaml.get("nc") and (classes := class_count(model)):  # it may have been trained on another data set since
        yaml["nc"] = classes
    return yaml


def _fits(value: Any, kind: str, of: type | tuple[type, ...] | None) -> bool:
    """Return True for a value of a kind, and if it is a mapping, of names to values of the other."""
    kinds: dict[str, Any] = {
        "str": str,
        "int": int,
        "bool": bool,
        "float": (int, float),
        "dict": dict,
    }
    if not isinstance(value, kinds[kind]) or (kind in {"int", "float"} and isinstance(value, bool)):
        return False
    if of is dict:  # layer: axis: indices of channels
        return all(isinstance(k, str) and isinstance(v, dict) and _are_channels(v) for k, v in value.items())
    return of is None or all(isinstance(k, str) and isinstance(v, of) for k, v in value.items())


def _are_channels(axes: Mapping[str, Any]) -> bool:
    """Return True for the indices of channels on both axes of a layer."""
    return axes.keys() == {"out", "in"} and all(
        isinstance(index, list) and all(type(i) is int and i >= 0 for i in index) for index in axes.values()
    )
