"""A policy without memory (Appendix C.4 of the paper: matrix games and Bridge)."""

from collections.abc import Sequence

from torch import Tensor, nn

from inspo.modules.mlp import MLP, mlp


class MLPAgent(nn.Module):
    """Three ReLU layers. The hidden state is empty."""

    hidden_size = 0

    def __init__(self, input_size: int, hidden_dim: int, n_actions: int):
        super().__init__()
        self.net = MLP(input_size, hidden_dim, hidden_dim, hidden_dim, n_actions)

    @staticmethod
    def unroll(
        networks: Sequence["MLPAgent"],
        inputs: Tensor,
        sizes: list[int],
        hidden: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """See the package."""
        outputs = mlp([network.net for network in networks], inputs)
        return outputs, inputs.new_empty(*inputs.shape[:2], 0)
