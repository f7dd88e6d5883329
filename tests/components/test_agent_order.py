"""The rules that decide in which order agents are updated."""

import pytest
import torch as th

from inspo.components.agent_order import draw_order

ADVANTAGES = th.tensor([0.2, 0.9, 0.1, 0.5, 0.4])
LARGEST_FIRST = [1, 3, 4, 0, 2]


def orders(rule: str, n_draws: int, advantages=ADVANTAGES) -> list[list[int]]:
    generator = th.Generator().manual_seed(0)
    draws = (
        draw_order(rule, len(advantages), generator, lambda: advantages) for _ in range(n_draws)
    )
    return [draw.tolist() for draw in draws]


def not_needed() -> th.Tensor:
    raise AssertionError("this rule looks at no advantage")


@pytest.mark.parametrize("rule", ["random", "fixed"])
def test_rules_without_advantages_do_not_compute_them(rule):
    order = draw_order(rule, 4, th.Generator().manual_seed(0), not_needed)
    assert sorted(order.tolist()) == [0, 1, 2, 3]


def test_fixed_is_the_agents_numbers():
    assert orders("fixed", 2) == [[0, 1, 2, 3, 4]] * 2


def test_random_orders_differ_and_every_agent_comes_first_equally_often():
    first = [order[0] for order in orders("random", 2000)]
    shares = [first.count(agent) / len(first) for agent in range(5)]
    assert shares == pytest.approx([0.2] * 5, abs=0.03)


def test_greedy_takes_the_largest_expected_advantage_next():
    assert orders("greedy", 3) == [LARGEST_FIRST] * 3


def test_semi_greedy_takes_by_turns_the_largest_of_the_rest_and_a_random_one():
    drawn = orders("semi_greedy", 3000)
    for order in drawn:
        assert sorted(order) == [0, 1, 2, 3, 4]
        for place in (0, 2, 4):  # the largest of those that are left
            remaining = order[place:]
            assert order[place] == max(remaining, key=lambda agent: ADVANTAGES[agent])
    second = [order[1] for order in drawn]
    shares = {agent: second.count(agent) / len(second) for agent in set(second)}
    assert shares == pytest.approx({0: 0.25, 2: 0.25, 3: 0.25, 4: 0.25}, abs=0.03)


def test_semi_greedy_of_two_agents_and_of_one():
    assert orders("semi_greedy", 1, th.tensor([0.1, 0.2])) == [[1, 0]]
    assert orders("semi_greedy", 1, th.tensor([0.1])) == [[0]]


@pytest.mark.parametrize("rule", ["random", "semi_greedy"])
def test_a_seed_fixes_the_order(rule):
    assert orders(rule, 20) == orders(rule, 20)
