"""Progress in a log file."""

import logging

from inspo.utils import progress


def test_steps_beyond_the_total_are_not_shown(caplog, monkeypatch):
    monkeypatch.setattr(progress.sys.stderr, "isatty", lambda: False)
    caplog.set_level(logging.INFO)
    shown = progress.Progress(1200, "Training", done=600)
    shown.advance(400)
    shown.set_note("")
    shown.advance(1058)  # the rest of the last episodes
    shown.set_note("")
    first, second = caplog.messages
    assert first.startswith("Training: 1000/1200 (83 %), ")
    assert second.startswith("Training: 1200/1200 (100 %), ")
    assert second.endswith(", 00:00 left")


def test_the_bar_ends_at_the_total(monkeypatch):
    monkeypatch.setattr(progress.sys.stderr, "isatty", lambda: True)
    shown = progress.Progress(10, "Training")
    for steps in (8, 5):
        shown.advance(steps)
    assert shown.bar.n == 10
    shown.close()
