"""Exact InSPO on Markov games that fit into tables. NumPy only. See `docs/exact-inspo.md`."""
