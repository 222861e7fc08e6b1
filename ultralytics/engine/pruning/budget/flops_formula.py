# SPDX-License-Identifier: AGPL-3.0-or-later
"""FLOPs as a formula of the channels kept."""

from __future__ import annotations

from ultralytics.engine.pruning.budget.flops import count_flops
from ultralytics.engine.pruning.budget.formula import ChannelFormula
from ultralytics.engine.pruning.budget.layer_flops import IMGSZ, areas_of, cost_per_output, cost_per_pair
from ultralytics.engine.pruning.budget.products import product_flops
from ultralytics.engine.pruning.graph.groups import Graph
from ultralytics.engine.pruning.graph.places import MAKERS
from ultralytics.nn.extra_modules.prunable import forms, products

ESTIMATED = 1e-3  # share of the FLOPs outside all layers from which on products are looked for


class FlopsFormula(ChannelFormula):
    """FLOPs of a network at 640 pixels as a function of how many units each group keeps.

    With o and i the output and input channels of a layer, which are linear in the units kept n, a convolution costs
    2·H·W·k²·o·i/g in g groups (transposed: H·W of its input), one that loses whole groups 2·H·W·k²·o·i/g with i/g fixed
    (a depthwise convolution: 2·H·W·k²·o), a linear layer 2·o·i per pixel, a
    norm 8·H·W·o, an attention product over all pairs of pixels 2·(H·W)²·o, and nn.MultiheadAttention 8·H·W·o·i with
    o = i and two such products. This is what Ultralytics' counter (thop) adds up. Products in a block without prunable
    form are taken to follow the outputs of its layers, which is an estimate; what else it counts does not depend on n
    and is taken from its own figure.

    Attributes:
        dense (float): FLOPs with every unit kept.
        is_exact (bool): The layers and products above are all that Ultralytics counts.
        rest (float): What Ultralytics counts beyond the layers and products above.
    """

    outside = "it is no convolution, linear layer, norm or attention"

    def __init__(self, graph: Graph):
        """Measure every layer's output size with one forward pass and set up the formula.

        Args:
            graph (Graph): Graph of the network.

        Raises:
            RuntimeError: If Ultralytics' counter fails.
        """
        area, keys = areas_of(graph.model, graph.example)
        terms = {m: (cost_per_pair(m) * n, cost_per_output(m, keys.get(m, 0)) * n) for m, n in area.items()}
        for layer, other, cost in products(graph.model):
            pairwise, single = terms[layer]
            terms[layer] = pairwise, single + cost * area[layer] * area[other]
        total = count_flops(graph.model) * 1e9
        super().__init__(terms, graph.groups, total, "FLOPs")
        self.is_exact = abs(self.rest) < ESTIMATED * total
        if not self.is_exact:
            self._estimate_products(graph)
            if self.rest < 0:  # a window may be padded in a small image and not in a large one
                share = total / (total - self.rest)
                self._pairwise, self._single, self.rest = self._pairwise * share, self._single * share, 0.0
            self.dense = float(self(self.widths.sizes))

    def _estimate_products(self, graph: Graph) -> None:
        """Let products in blocks without prunable form follow the outputs of their layers."""
        row = {layer: i for i, layer in enumerate(self.layers)}
        known = {form for form in forms(graph.model) if any(True for _ in form.products())}
        dense = self.widths(self.widths.sizes)[0]
        for block, flops in product_flops(graph.model, graph.example, IMGSZ**2).items():
            rows = [row[m] for m in block.modules() if m in row and isinstance(m, MAKERS)]
            if rows and block not in known:
                self._single[rows] += flops / dense[rows].sum()
                self.rest -= flops
