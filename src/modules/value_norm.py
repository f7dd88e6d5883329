"""Value normalisation: a critic learns returns of mean 0 and standard deviation 1."""

import torch as th
from torch import Tensor, nn

DECAY = 0.99  # of the running moments, at each update
MIN_VARIANCE = 1e-2


class ValueNorm(nn.Module):
    """Running moments of the returns (Yu et al. 2022, arXiv:2103.01955, Section 5.1).

    They are averages with exponentially falling weights, divided by the sum of the weights. They
    are buffers, so that checkpoints hold them.
    """

    mean_sum: Tensor
    square_sum: Tensor
    weight: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name in ("mean_sum", "square_sum", "weight"):
            self.register_buffer(name, th.zeros((), dtype=th.float64))

    def update(self, returns: Tensor) -> None:
        """Takes new returns into account, [...]."""
        values = returns.double()
        self.mean_sum.lerp_(values.mean(), 1 - DECAY)
        self.square_sum.lerp_(values.square().mean(), 1 - DECAY)
        self.weight.lerp_(th.ones_like(self.weight), 1 - DECAY)

    def normalise(self, values: Tensor) -> Tensor:
        """From returns to the critic's outputs, of the same shape."""
        mean, deviation = self._moments()
        return (values - mean.to(values.dtype)) / deviation.to(values.dtype)

    def denormalise(self, outputs: Tensor) -> Tensor:
        """From the critic's outputs to returns, of the same shape."""
        mean, deviation = self._moments()
        return outputs * deviation.to(outputs.dtype) + mean.to(outputs.dtype)

    def _moments(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation; 0 and 1 before the first update."""
        is_empty = self.weight == 0
        weight = self.weight.masked_fill(is_empty, 1)
        mean = self.mean_sum / weight
        variance = self.square_sum / weight - mean.square()
        deviation = variance.clamp(min=MIN_VARIANCE).sqrt()
        return mean, deviation.masked_fill(is_empty, 1)
