"""In which order agents are updated: the rules of InSPO's setting `order` (Appendix C.5)."""

from collections.abc import Callable
from typing import Literal

import torch as th
from torch import Tensor

OrderRule = Literal["random", "fixed", "greedy", "semi_greedy"]


def draw_order(
    rule: OrderRule,
    n_agents: int,
    generator: th.Generator,
    expected_advantage: Callable[[], Tensor],
) -> Tensor:
    """The agents' numbers in the order of their turns, int [N].

    Args:
        rule: `random`; `fixed`: by number; `greedy`: the largest expected advantage next;
            `semi_greedy`: alternately the largest expected advantage and a random one of the rest.
        generator: of the random draws.
        expected_advantage: of each agent, [N]. Called only by the rules that need it.
    """
    device = generator.device
    if rule == "fixed":
        return th.arange(n_agents, device=device)
    if rule == "random":
        return th.randperm(n_agents, generator=generator, device=device)
    largest_first = expected_advantage().argsort(descending=True)
    if rule == "greedy":
        return largest_first
    return _semi_greedy(largest_first, generator)


def _semi_greedy(largest_first: Tensor, generator: th.Generator) -> Tensor:
    """A2PO's rule (Wang et al. 2023), which keeps an agent from always coming last."""
    remaining, order = largest_first.tolist(), []
    while remaining:
        place = 0
        if len(order) % 2:
            device = generator.device
            place = int(th.randint(len(remaining), (), generator=generator, device=device))
        order.append(remaining.pop(place))
    return th.tensor(order, device=largest_first.device)
