"""Collects the processes that this program has started in containers, as they end.

The kernel ends a PID namespace when every process in it has been waited for (pid_namespaces(7)), and the parent of
those that ``popen`` starts is this program.  One that does not wait must not keep a container from being removed:
its own next line may be what removes it.
"""

from __future__ import annotations

import os
import select
import threading

from fastdock._errors import FastdockError

TYPE_CHECKING = False  # see _light
if TYPE_CHECKING:
    from fastdock.containers.execution import Execution


class Reaper:
    """One thread for all of them; it begins with the first."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._epoll: select.epoll | None = None
        self._watched: dict[int, Execution] = {}

    def watch(self, execution: Execution) -> None:
        """Keeps the object until its process has ended, so that its descriptor stays the process's."""
        with self._lock:
            epoll = self._begin()
            self._watched[execution.fileno()] = execution
            epoll.register(execution.fileno(), select.EPOLLIN)

    def _begin(self) -> select.epoll:
        if self._epoll is None:
            self._epoll = select.epoll()
            run = threading.Thread(target=self._run, args=(self._epoll,), name="fastdock-reaper", daemon=True)
            run.start()
        return self._epoll

    def _run(self, epoll: select.epoll) -> None:
        while True:
            for descriptor, _ in epoll.poll():
                with self._lock:
                    execution = self._watched.pop(descriptor)
                epoll.unregister(descriptor)
                try:
                    execution.poll()
                except (FastdockError, OSError):  # who waits for it gets the error
                    pass
                del execution

    def forget(self) -> None:
        """In the child of a fork: neither the thread nor the processes are its own."""
        if self._epoll is not None:
            self._epoll.close()
        self.__init__()  # type: ignore[misc]


_reaper = Reaper()
os.register_at_fork(after_in_child=_reaper.forget)
watch = _reaper.watch
