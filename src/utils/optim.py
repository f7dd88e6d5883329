"""Adam as torch has it, started two seconds sooner.

The methods of `torch.optim` import torch.compile's machinery when first called, only to keep out of its way. Nothing is
compiled here, so the methods beneath those wrappers do.
"""

from inspect import unwrap

import torch as th


class Adam(th.optim.Adam):
    """`torch.optim.Adam`: same arguments, same numbers, same state."""

    step = th.no_grad()(unwrap(th.optim.Adam.step))
    add_param_group = unwrap(th.optim.Adam.add_param_group)
    zero_grad = unwrap(th.optim.Adam.zero_grad)
    state_dict = unwrap(th.optim.Adam.state_dict)
    load_state_dict = unwrap(th.optim.Adam.load_state_dict)
