"""Environments with other interfaces than PyMARL's, by one key.

    spaces        sizes of action and observation spaces; observations as flat numbers
    packages      finds what `env_args.key` names, and says which package is missing

    parallel      PettingZoo's parallel games: agents that come and go, in fixed places
    pettingzoo_env `env: pettingzoo`
    joint         Gymnasium's games of one agent, or of several that act by tuples or lists
    gymnasium_env `env: gymnasium`

    jax_games     JaxMARL's games in parallel; imports JAX
    jaxmarl_env   `env: jaxmarl`

`parallel` and `joint` are what these environments share with the recorders of
`inspo.data.recording`.
"""
