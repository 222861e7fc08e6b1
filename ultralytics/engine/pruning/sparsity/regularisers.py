# SPDX-License-Identifier: AGPL-3.0-or-later
"""Regularisers of the sparsity training: what each adds to the gradient, and how sparse it has made the model."""

from __future__ import annotations

import math

import torch
from torch import nn

from ultralytics.engine.pruning.sparsity.units import Units


class Regulariser:
    """Pulls units towards zero, so that removing them costs little.

    Attributes:
        NAME (str): What `scales` returns, for a picture's axis.
        SMALL (float): A unit whose scale is below this counts as sparse.
        ENOUGH (float): What makes units small: the sum of lr · strength / (1 - momentum) over all optimizer steps; the
            strength's growth over all of them if it `GROWS`.
        WORKED (float): That sum in the trainings of benchmarks/README.md, section "The ten methods", which the default
            strength aims at.
        GROWS (bool): The strength grows with every optimizer step instead of following a schedule.
    """

    NAME: str
    SMALL: float
    ENOUGH: float
    WORKED: float
    GROWS = False

    def __init__(self, units: Units, doomed: torch.Tensor | None = None):
        """Take the units to pull.

        Args:
            units (Units): Units of the model.
            doomed (torch.Tensor, optional): True for units that the budget removes, shape (units,); for a regulariser
                that pulls these alone.
        """
        self.units, self.doomed = units, doomed

    def add_gradients(self, model: nn.Module, strength: float) -> None:
        """Add the penalty's gradient to the gradients in place; weights without a gradient are left alone.

        Args:
            model (nn.Module): The stock model in training.
            strength (float): Factor of the penalty.
        """
        raise NotImplementedError

    def scales(self, model: nn.Module) -> torch.Tensor:
        """Return how large every unit is, shape (units,); what `SMALL` is compared with.

        Args:
            model (nn.Module): The stock model or its EMA.

        Returns:
            (torch.Tensor): Scales, 0 for a unit that can go without a trace.
        """
        raise NotImplementedError


class ScaleL1(Regulariser):
    """L1 on batch norm scales (Network Slimming, Liu et al., ICCV 2017, arXiv 1708.06519, equation 1).

    The penalty is strength · Σ|γ|; its subgradient strength · sign(γ).
    """

    NAME = "BatchNorm scale |γ|, mean of the unit"
    SMALL = 0.01
    ENOUGH = 1.0  # scales begin near 1
    WORKED = 1.3

    @torch.no_grad()
    def add_gradients(self, model: nn.Module, strength: float) -> None:
        """Add strength · sign(γ)."""
        for share, weight in self.units.weights(model, norms_only=True):
            if weight.grad is not None:
                held = share.unit < len(self.units)
                weight.grad.add_(weight.sign() * held, alpha=strength)

    def scales(self, model: nn.Module) -> torch.Tensor:
        """Return the mean |γ| of every unit."""
        return self.units.total(model, torch.abs, norms_only=True) / self._scale_counts(model)

    def _scale_counts(self, model: nn.Module) -> torch.Tensor:
        """Return how many batch norm scales each unit holds; at least 1, for units without any."""
        return self.units.total(model, torch.ones_like, norms_only=True).clamp_min(1)


class ScaleGroupLasso(ScaleL1):
    """Group lasso on batch norm scales (Friedman, Hastie & Tibshirani 2010, arXiv 1001.0736, equation 1).

    With γ_k the p_k scales of unit k the penalty is strength · Σ √p_k ‖γ_k‖₂; its gradient strength · √p_k γ_k / ‖γ_k‖₂
    is that of the L1 penalty for a unit with one scale.
    """

    NAME = "BatchNorm scale, root mean square of the unit"

    @torch.no_grad()
    def add_gradients(self, model: nn.Module, strength: float) -> None:
        """Add strength · √p γ / ‖γ‖, and nothing for a unit that is zero already."""
        scales = self.scales(model)
        pull = torch.where(scales > 0, strength / scales, 0.0)
        for share, weight in self.units.weights(model, norms_only=True):
            if weight.grad is not None:
                weight.grad.add_(weight * share.spread(pull, weight))

    def scales(self, model: nn.Module) -> torch.Tensor:
        """Return the root mean square γ of every unit, ‖γ_k‖₂ / √p_k."""
        return (self.units.total(model, torch.square, norms_only=True) / self._scale_counts(model)).sqrt()


class UnitNorm(Regulariser):
    """Base of the regularisers on all weights of a unit."""

    NAME = "L2 norm of the unit over the largest of its group"
    SMALL = 0.1

    @torch.no_grad()
    def add_gradients(self, model: nn.Module, strength: float) -> None:
        """Add pull · weight."""
        pull = self.pull(model, strength)
        for share, weight in self.units.weights(model):
            if weight.grad is not None:
                weight.grad.addcmul_(weight, share.spread(pull, weight))

    def pull(self, model: nn.Module, strength: float) -> torch.Tensor:
        """Return the factor by which each unit's weights enter their own gradient, shape (units,)."""
        raise NotImplementedError

    def scales(self, model: nn.Module) -> torch.Tensor:
        """Return every unit's L2 norm over the largest of its group."""
        norms = self.units.total(model, torch.square).sqrt()
        return norms / self.units.extreme(norms, "amax").clamp_min(torch.finfo(norms.dtype).tiny)


class GroupShrinkage(UnitNorm):
    """Group sparsity of DepGraph (Fang et al., CVPR 2023, arXiv 2301.12900, section 3.3), `ALPHA` being 4.

    With I_k the L2 norm of unit k, the penalty is strength · Σ g_k I_k² / 2, where

        g_k = 2^(ALPHA · (I_max - I_k) / (I_max - I_min))

    over the unit's group; it is held fixed in the gradient, which is strength · g_k · w. The smallest unit of a group
    is pulled 2^ALPHA times as much as the largest.
    """

    ALPHA = 4
    ENOUGH = math.log(1 / UnitNorm.SMALL) / (2**ALPHA - 1)  # the rate at which the smallest unit leaves the largest
    WORKED = 0.5

    def pull(self, model: nn.Module, strength: float) -> torch.Tensor:
        """Return strength · g_k."""
        norms = self.units.total(model, torch.square).sqrt()
        largest, smallest = (self.units.extreme(norms, which) for which in ("amax", "amin"))
        spread = (largest - smallest).clamp_min(torch.finfo(norms.dtype).tiny)
        return strength * 2 ** (self.ALPHA * (largest - norms) / spread)


class GrowingL2(UnitNorm):
    """L2 that grows on the units to be removed (GReg-1, Wang et al., ICLR 2021, arXiv 2012.09243, algorithm 1).

    The units are chosen before training, and λ ‖w_k‖² / 2 is added for them alone, λ rising in small steps up to
    `CEILING`. The paper chooses by norm; here the method says by what. torch-pruning 1.6.1 instead grows every unit's
    λ by how small the unit is, and what it adds for batch norms gets lost in a copy.
    """

    GROWS = True
    CEILING = 1.0
    ENOUGH = 0.2  # measured
    WORKED = 0.6

    def pull(self, model: nn.Module, strength: float) -> torch.Tensor:
        """Return λ for the units to be removed, 0 for the others."""
        assert self.doomed is not None  # a method with this regulariser has them chosen
        return min(strength, self.CEILING) * self.doomed.float()
