"""The report of gpu_check.py: tables and failures, on disk after every row."""

import json
import platform
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch as th
import train_step

Row = dict[str, Any]
SHOWN_LETTERS = 300  # of an error


class Report:
    """Tables and failures, collected while time is left.

    Args:
        folder: of gpu_check.md and gpu_check.json, which are written after every row: a GPU may
            take the whole process with it.
        device: what is checked.
        time_limit: seconds.
    """

    def __init__(self, folder: Path, device: th.device, time_limit: float):
        self.folder, self.device, self.time_limit = folder, device, time_limit
        self.machine = describe(device)
        self.started = time.monotonic()
        self.end = self.started + time_limit
        self.tables: dict[str, list[Row]] = {}
        self.failures: list[str] = []
        self.left_out: list[str] = []
        self.broken = ""  # the error after which the device does nothing more

    def allow(self, share: float) -> None:
        """From now on rows are measured until this share of the time is over."""
        self.end = self.started + share * self.time_limit

    def add(self, table: str, name: str, measure: Callable[[], Row]) -> None:
        """Adds a row to a table. An error is a failure, and the next row is tried."""
        if self.broken or time.monotonic() > self.end:
            self.left_out.append(f"{table}: {name}")
            return
        started = time.monotonic()
        try:
            row = measure()
        except Exception as error:  # noqa: BLE001 - the report says which
            row = {"result": _shown(error)}
            self.failures.append(f"{table}: {name}: {row['result']}")
            self.broken = broken(self.device)
        if row.pop("failed", False):
            self.failures.append(f"{table}: {name}: {row['result']}")
        seconds = round(time.monotonic() - started, 1)
        self.tables.setdefault(table, []).append({"": name, **row, "took s": seconds})
        train_step.show(f"{table}: {name}: {row} ({seconds} s)")
        self.write()

    def write(self) -> None:
        """Writes both files."""
        content = {"machine": self.machine, "tables": self.tables, "failures": self.failures}
        content |= {"left_out": self.left_out, "broken": self.broken}
        self.folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps(content, indent=2)
        (self.folder / "gpu_check.json").write_text(text, encoding="utf-8")
        (self.folder / "gpu_check.md").write_text(self.markdown(), encoding="utf-8")

    def markdown(self) -> str:
        """The report as text."""
        lines = ["# GPU check", "", *(f"- {key}: {value}" for key, value in self.machine.items())]
        lines += ["", f"{len(self.failures)} failures."]
        lines += [f"- {failure}" for failure in self.failures]
        if self.left_out:
            why = f"after {self.broken}" if self.broken else "for lack of time"
            lines += ["", f"Left out {why}: {'; '.join(self.left_out)}."]
        for title, rows in self.tables.items():
            columns = list(dict.fromkeys(key for row in rows for key in row))
            lines += ["", f"## {title}", "", _cells(columns), _cells("---" for _ in columns)]
            lines += [_cells(row.get(column, "") for column in columns) for row in rows]
        return "\n".join(lines) + "\n"


def describe(device: th.device) -> Row:
    """What the checks run on."""
    machine = {"torch": th.__version__, "python": platform.python_version(), "device": str(device)}
    if device.type == "cuda":
        machine["GPU"] = th.cuda.get_device_name(device)
        if th.version.cuda:
            machine["CUDA"] = th.version.cuda
            machine["cuDNN"] = th.backends.cudnn.version()
            machine["GiB"] = round(th.cuda.mem_get_info(device)[1] / 2**30, 1)
    return machine


def broken(device: th.device) -> str:
    """The error of a GPU that does nothing more in this process, as after a wrong address."""
    if device.type == "cuda":
        try:
            th.cuda.synchronize(device)
        except Exception as error:  # noqa: BLE001 - whatever it is, the next row would have it
            return _shown(error)
    return ""


def _shown(error: Exception) -> str:
    """On one line of a table."""
    text = " ".join(f"{type(error).__name__}: {error}".split())
    return text[:SHOWN_LETTERS].replace("|", "/")


def _cells(values: Iterable[Any]) -> str:
    return f"| {' | '.join(str(value) for value in values)} |"
