"""Where a sweep's processes run: on Ray, on this machine or on a cluster."""

import logging
import os
import signal
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from inspo.sweeps import worker
from inspo.sweeps.spec import Resources
from inspo.utils.errors import ConfigError, UserError
from inspo.utils.files import SOURCE

OBJECT_STORE_BYTES = 80 * 2**20  # Ray's least; nothing is kept there
RAY_TOKEN = Path("~/.ray/auth_token")  # what recent versions of Ray protect clusters with
STARTS = 3  # on a busy machine Ray may not start within its 30 seconds
SECONDS_TO_STOP = worker.SECONDS_TO_SAVE + 10
Job = dict[str, Any]
log = logging.getLogger(__name__)


class Outcome(NamedTuple):
    """How a job ended.

    Args:
        id: of the job.
        status: exit status of its process. None: it was lost, with its machine or killed.
        lines: the last lines of its output.
    """

    id: str
    status: int | None
    seconds: float
    lines: list[str]


class Pool(Protocol):
    """What carries out jobs. Tests have a pool without Ray."""

    def slots(self) -> int:
        """How many jobs fit at the same time."""

    def submit(self, job: Job) -> None:
        """Starts a job as soon as it fits. `job["id"]` names it."""

    def finished(self, seconds: float) -> Iterable[Outcome]:
        """The jobs that have ended, after waiting for at most so many seconds."""

    def stop(self) -> None:
        """Interrupts all jobs, and waits until they have saved their checkpoints."""


class RayPool:
    """Ray tasks, each of which runs one process.

    Args:
        address: of a running cluster, `HOST:PORT` or `auto`; None: starts Ray on this machine.

    Raises:
        UserError: Ray is not installed, or there is no cluster at the address.
        ConfigError: no machine has what a run takes.
    """

    def __init__(self, resources: Resources, at_once: int | None, address: str | None = None):
        self.ray = _import_ray(address)
        self.needs = {"CPU": resources.cpus, "GPU": resources.gpus}
        self.at_once = at_once
        self.common = {"source": str(SOURCE), "cwd": str(Path.cwd()), "gpus": resources.gpus}
        self.running: dict[Any, str] = {}  # ids by Ray's references
        self.own = not self.ray.is_initialized()
        if self.own:
            self._start(address)
        self.ray.cloudpickle.register_pickle_by_value(worker)
        self.task = self.ray.remote(worker.work).options(
            num_cpus=resources.cpus, num_gpus=resources.gpus, max_retries=0
        )
        if address is None and not self.slots():
            self.close()
            needs = [f"{count:g} {name}s" for name, count in self.needs.items() if count]
            raise ConfigError(f"resources: this machine does not have {' and '.join(needs)}")

    @property
    def has_gpus(self) -> bool:
        """Whether any machine has a GPU."""
        return bool(self.ray.cluster_resources().get("GPU"))

    def slots(self) -> int:
        """How many runs fit on the machines that are there now."""
        nodes = [node["Resources"] for node in self.ray.nodes() if node["Alive"]]
        slots = sum(fitting(node, self.needs) for node in nodes)
        return slots if self.at_once is None else min(slots, self.at_once)

    def submit(self, job: Job) -> None:
        """Hands a job to Ray."""
        self.running[self.task.remote({**job, **self.common})] = job["id"]

    def finished(self, seconds: float) -> Iterable[Outcome]:
        """The jobs that have ended meanwhile."""
        if not self.running:  # no machine has room
            time.sleep(seconds)
            return []
        references = [*self.running]
        done, _ = self.ray.wait(references, num_returns=len(references), timeout=seconds)
        return [self._outcome(reference) for reference in done]

    def stop(self) -> None:
        """Interrupts the runs. Those that do not end in time are killed with Ray."""
        for reference in self.running:
            with suppress(self.ray.exceptions.RayError):
                self.ray.cancel(reference)
        references = [*self.running]
        if references:
            self.ray.wait(references, num_returns=len(references), timeout=SECONDS_TO_STOP)
        self.running.clear()

    def close(self) -> None:
        """Ends Ray if it was started here, or leaves the cluster."""
        if self.own:
            self.ray.shutdown()

    def _start(self, address: str | None) -> None:
        options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
        if address is None:
            options |= {
                "num_cpus": available_cpus(),
                "include_dashboard": False,
                "object_store_memory": OBJECT_STORE_BYTES,
            }
        for attempt in range(1, STARTS + 1):
            try:
                with _signals_kept():
                    self.ray.init(address=address or "local", **options)
                return
            except Exception as error:  # noqa: BLE001 - Ray raises plain ones, too
                self.ray.shutdown()
                if attempt == STARTS or address is not None:
                    where = f"--address={address}: " if address else ""
                    raise UserError(f"{where}Ray did not start: {error}") from None
                log.warning("Ray did not start, trying again: %s", error)

    def _outcome(self, reference: Any) -> Outcome:
        job = self.running.pop(reference)
        try:
            result = self.ray.get(reference)
        except self.ray.exceptions.RayError as error:
            lines = str(error).splitlines()
            raised = isinstance(error, self.ray.exceptions.RayTaskError)  # a traceback
            return Outcome(job, None, 0.0, lines[-1:] if raised else lines[:3])
        status = result["status"]
        lost = status < 0  # by a signal
        lines = [f"killed by signal {-status}"] if lost else result["lines"]
        return Outcome(job, None if lost else status, result["seconds"], lines)


def fitting(node: Mapping[str, float], needs: Mapping[str, float]) -> int:
    """How many runs fit on a machine with these resources."""
    return min(_times(node.get(name, 0.0), need) for name, need in needs.items() if need)


def _times(there: float, need: float) -> int:
    """How often a number fits into another. A share of one processor or GPU lies on that one."""
    almost = 1e-9  # 0.1 must fit into 0.3 three times
    if need < 1:
        return int(there) * int(1 / need + almost) + int((there % 1) / need + almost)
    return int(there / need + almost)


def available_cpus() -> int:
    """The processors that this process may use, at least one."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0)) or 1
    return os.cpu_count() or 1


@contextmanager
def _signals_kept() -> Iterator[None]:
    """Ray's own handler of SIGTERM would abort without saving anything."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _import_ray(address: str | None) -> Any:
    # Read when Ray is imported or started: no report over the network, no note on GPUs.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_worker_niceness", "0")  # as main.py
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    if address is not None and RAY_TOKEN.expanduser().exists():
        os.environ.setdefault("RAY_AUTH_MODE", "token")  # as `ray start` does
    try:
        import ray
    except ImportError:
        raise UserError(
            "sweeps run on Ray, which is not installed: pip install 'ray>=2.40,<3', or the "
            "project's extra `sweep`"
        ) from None
    return ray
