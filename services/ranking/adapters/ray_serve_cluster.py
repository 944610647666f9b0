"""The Ray cluster that the models run in: one of our own on this machine, or one that is joined."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ilf_common.errors import FailedPreconditionError, UnavailableError
from services.ranking.settings import RaySettings

log = logging.getLogger("ilf.ranking")

# Ray puts `session_<date>_<pid>/sockets/plasma_store` below its folder, and a socket's path has at most 107 bytes.
_MAX_FOLDER_BYTES = 40
_MIB = 1024 * 1024


class RayCluster:
    """Starts or joins Ray; to be used from one thread that lives as long as the cluster.

    An own cluster's processes die with that thread (Ray asks the kernel for it). What outlives a killed service all
    the same is found by the process ids in `<state_dir>/ray.json` and ended at the next start; other people's Rays
    are never touched.

    Args:
        settings: Where the models run.
        state_dir: Folder of this service's files.
    """

    def __init__(self, settings: RaySettings, state_dir: Path) -> None:
        self._settings = settings
        self._state_dir = state_dir.absolute()
        self._lock: int | None = None

    def start(self) -> None:
        """Starts or joins the cluster.

        Raises:
            FailedPreconditionError: STATE_DIR_IN_USE; another ranking service has this state folder.
            UnavailableError: RAY_UNAVAILABLE; the cluster to join does not answer.
        """
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        import ray

        logging.getLogger("ray").setLevel(logging.ERROR)
        # Ray adds a field of its own to every record of every logger.
        logging.setLogRecordFactory(logging.LogRecord)
        if self._settings.address is not None:
            try:
                ray.init(address=self._settings.address, log_to_driver=False, configure_logging=False)
            except ConnectionError as error:
                raise UnavailableError(
                    f"No Ray cluster answers at {self._settings.address}; start it, or unset ray.address.",
                    reason="RAY_UNAVAILABLE",
                ) from error
            return
        self._lock_state_dir()
        self._end_leftovers()
        ray.init(
            address="local",
            include_dashboard=False,
            log_to_driver=False,
            configure_logging=False,
            num_cpus=self._settings.cpus,
            object_store_memory=self._settings.object_store_mib * _MIB,
            _temp_dir=str(self._folder),
        )
        self._note_processes()

    def stop(self) -> None:
        """Ends an own cluster, or leaves a joined one."""
        import ray

        ray.shutdown()
        if self._lock is None:
            return
        self._end_leftovers()
        os.close(self._lock)
        self._lock = None

    def note_processes(self) -> None:
        """Writes down what has been started since; a joined cluster's processes are not ours."""
        if self._lock is not None:
            self._note_processes()

    @property
    def _folder(self) -> Path:
        folder = self._state_dir / "ray"
        if len(os.fsencode(folder)) <= _MAX_FOLDER_BYTES:
            return folder
        name = hashlib.sha256(os.fsencode(folder)).hexdigest()[:12]
        return Path(tempfile.gettempdir()) / f"ilf-ray-{name}"

    def _lock_state_dir(self) -> None:
        import fcntl

        self._state_dir.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self._state_dir / "ray.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise FailedPreconditionError(
                f"Another ranking service uses {self._state_dir}; stop it, or give this one another state_dir.",
                reason="STATE_DIR_IN_USE",
            ) from None
        self._lock = descriptor

    @property
    def _record(self) -> Path:
        return self._state_dir / "ray.json"

    def _note_processes(self) -> None:
        import psutil

        children = psutil.Process().children(recursive=True)
        self._record.write_text(json.dumps(list(_identities(children))), encoding="utf-8")

    def _end_leftovers(self) -> None:
        leftovers = list(_alive(_read(self._record)))
        for process in leftovers:
            process.kill()
        if leftovers:
            log.warning("ended processes of an earlier Ray", extra={"count": len(leftovers)})
        for session in self._folder.glob("session_*"):
            if session.is_symlink():
                session.unlink()
            else:
                shutil.rmtree(session, ignore_errors=True)
        self._record.unlink(missing_ok=True)


def _read(record: Path) -> list[tuple[int, float]]:
    try:
        return [(int(pid), float(born)) for pid, born in json.loads(record.read_text(encoding="utf-8"))]
    except (OSError, ValueError):
        return []


def _identities(processes: list[Any]) -> Iterator[tuple[int, float]]:
    import psutil

    for process in processes:
        try:
            yield process.pid, process.create_time()
        except psutil.NoSuchProcess:
            continue


def _alive(identities: list[tuple[int, float]]) -> Iterator[Any]:
    """The processes that still run; a number that another process got since is left alone by its time of birth."""
    import psutil

    for pid, born in identities:
        try:
            process = psutil.Process(pid)
            if abs(process.create_time() - born) < 1.0 and process.status() != psutil.STATUS_ZOMBIE:
                yield process
        except psutil.NoSuchProcess:
            continue
