"""A small multi-layer perceptron in torch over piecewise-linear encoded numbers.

The encoding is that of Gorishniy, Rubachev & Babenko, "On Embeddings for Numerical Features in Tabular Deep Learning"
(NeurIPS 2022), with quantile bins: a linear layer over the ramps of a feature is a piecewise-linear embedding of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from churn_assets.features.compile import FeatureSpec
from churn_assets.scoring.models.network import Layers, NetworkModel
from churn_assets.scoring.models.piecewise import PiecewiseEncoding
from churn_assets.training.candidate import Rows


@dataclass(frozen=True)
class Params:
    """Two hidden layers of `width`, AdamW under a one-cycle schedule; `nets` of them are averaged."""

    knots: int = 17
    width: int = 64
    dropout: float = 0.2
    learning_rate: float = 2e-3
    weight_decay: float = 1e-2
    batch: int = 512
    epochs: int = 8
    nets: int = 1
    threads: int = 1


def fit(train: Rows, validation: Rows, specs: tuple[FeatureSpec, ...], params: Params, seed: int) -> NetworkModel:
    """Train for a fixed number of epochs; validation rows are not used."""
    matrix, churned = train
    encoding = PiecewiseEncoding.fit(matrix, specs, params.knots)
    inputs = torch.from_numpy(encoding.transform(matrix).astype(np.float32))
    target = torch.from_numpy(churned.astype(np.float32))[:, None]
    before = torch.get_num_threads()
    torch.set_num_threads(params.threads)  # small matrices: threads cost more than they save
    try:
        nets = [_train(inputs, target, params, seed + number) for number in range(params.nets)]
    finally:
        torch.set_num_threads(before)
    return NetworkModel(encoding, [_export(net) for net in nets])


def _train(inputs: Any, target: Any, params: Params, seed: int) -> Any:
    generator, nn = torch.Generator().manual_seed(seed), torch.nn
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = nn.Sequential(
            *(nn.Linear(inputs.shape[1], params.width), nn.SiLU(), nn.Dropout(params.dropout)),
            *(nn.Linear(params.width, params.width), nn.SiLU(), nn.Dropout(params.dropout)),
            nn.Linear(params.width, 1),
        )
        _descend(net, inputs, target, params, generator)
    return net.eval()


def _descend(net: Any, inputs: Any, target: Any, params: Params, generator: Any) -> None:
    rows, rate = len(inputs), params.learning_rate
    batch = min(params.batch, rows)
    steps = rows // batch
    optimiser = torch.optim.AdamW(net.parameters(), lr=rate, weight_decay=params.weight_decay, fused=True)
    total = steps * params.epochs
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, total_steps=total, pct_start=0.2)
    loss = torch.nn.BCEWithLogitsLoss()
    for _ in range(params.epochs):
        order = torch.randperm(rows, generator=generator)
        for step in range(steps):
            part = order[step * batch : (step + 1) * batch]
            optimiser.zero_grad()
            loss(net(inputs.index_select(0, part)), target.index_select(0, part)).backward()
            optimiser.step()
            schedule.step()


def _export(net: Any) -> Layers:
    return tuple(
        (layer.weight.detach().numpy().copy(), layer.bias.detach().numpy().copy())
        for layer in net
        if isinstance(layer, torch.nn.Linear)
    )
