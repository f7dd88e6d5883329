"""Runners, by the name that the `runner` key gives them."""

from inspo.runners.batch_runner import BatchRunner

REGISTRY = {"batch": BatchRunner}
