# SPDX-License-Identifier: AGPL-3.0-or-later
"""Blocks that are not what their graph takes them for, as the proofs of cuts have found: they stay whole."""

from __future__ import annotations

from torch import nn

from ultralytics.engine.pruning.graph.groups import Graph
from ultralytics.engine.pruning.graph.places import stock_places
from ultralytics.engine.pruning.surgery.proof import WrongCutError, check_repeatable
from ultralytics.engine.pruning.surgery.trial import sound_graph

RETRIES = 24  # cuts anew of a model some of whose code is not what the graph takes it for
WRONG = "a cut of its block does not compute what the dense one does"


class WrongBlocks:
    """Layers of a model that do not stand a cut, found one block after another."""

    def __init__(self, model: nn.Module):
        """Begin without any.

        Args:
            model (nn.Module): Dense stock model.
        """
        self._model = model
        self._wrong: set[str] = set()  # stock layers
        self._cuttable: set[str] = set()  # those that lose or read channels of some group
        self._retries = RETRIES

    def sound_graph(self, model: nn.Module, needs_norms: bool = False) -> Graph:
        """Return the graph of the model without the groups of layers that do not stand a cut, see `sound_graph`.

        Args:
            model (nn.Module): Copy of the model in prunable form.
            needs_norms (bool): Leave groups without a batch norm whole.
        """
        graph = sound_graph(model, needs_norms)
        places = stock_places(model)
        held = {group: {places[s.layer][0] for s in group.slices if s.layer in places} for group in graph.groups}
        for group, names in held.items():
            if not names.isdisjoint(self._wrong):
                graph.leave_whole(group, WRONG)
        self._cuttable = set().union(*(held[group] for group in graph.groups))
        return graph

    def learn(self, error: WrongCutError) -> None:
        """Take note of what lies around the first layer at which a cut turned out to be wrong.

        Args:
            error (WrongCutError): What the proof of a cut by the last graph has raised.

        Raises:
            WrongCutError: If no layer around it was cut, or too many blocks have been found.
            ValueError: If the model is random in evaluation.
        """
        check_repeatable(self._model)
        layers = self._near(error.layer)
        if not layers or not self._retries:
            raise error
        self._wrong |= layers
        self._retries -= 1

    def _near(self, layer: str) -> set[str]:
        """Return which layers have to do with what is wrong at a layer: itself, or those of the block around it."""
        while "." in layer:
            if found := {name for name in self._cuttable if name == layer or name.startswith(f"{layer}.")}:
                return found
            layer = layer.rpartition(".")[0]
        return set()
