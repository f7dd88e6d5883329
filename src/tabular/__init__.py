"""Exact InSPO on Markov games small enough to write down. NumPy only; `docs/exact-inspo.md` is its page."""
