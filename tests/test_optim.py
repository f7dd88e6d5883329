"""Adam, started sooner."""

import subprocess
import sys
from copy import deepcopy

import torch as th

from utils.optim import Adam


def test_the_same_numbers_as_torchs_adam_also_from_its_state():
    weights = [th.nn.Parameter(th.linspace(-1, 1, 6).view(2, 3)) for _ in range(2)]
    ours, torchs = Adam([weights[0]], lr=0.1, fused=True), th.optim.Adam([weights[1]], lr=0.1, fused=True)
    for step in range(6):
        for weight, optimiser in zip(weights, (ours, torchs), strict=True):
            optimiser.zero_grad()
            assert weight.grad is None
            (weight**2).sum().backward()
            optimiser.step()
        assert th.equal(*weights)
        if step == 2:
            state = deepcopy(torchs.state_dict())  # it is not a copy
            ours = Adam([weights[0]], lr=0.5, fused=True)
            ours.load_state_dict(state)
    assert ours.state_dict()["param_groups"] == torchs.state_dict()["param_groups"]


def test_a_step_does_not_import_what_compiles():
    code = """
import sys
from copy import deepcopy
import torch as th
from utils.optim import Adam
weight = th.nn.Parameter(th.ones(3))
optimiser = Adam([{"params": [weight], "lr": 0.1}], fused=True)
weight.sum().backward()
optimiser.step()
optimiser.zero_grad()
optimiser.load_state_dict(optimiser.state_dict())
sys.exit("torch._dynamo" in sys.modules)
"""
    process = subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": "src"}, timeout=100)
    assert process.returncode == 0
