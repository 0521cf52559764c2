"""Further processes in a running container, after :mod:`subprocess`.

The caller starts them itself, through the native helper: no monitor is asked, so it costs what a launch costs.
"""

from __future__ import annotations

import _thread  # threading itself takes 4 ms to import
import os
import select
import time

from fastdock import _core
from fastdock._errors import ContainerNotRunning, KernelError
from fastdock.base_process import DEVNULL, BaseProcess
from fastdock.containers import control
from fastdock.process import CompletedProcess, Usage, with_pipes

TYPE_CHECKING = False  # see _light
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from fastdock.containers.container import Container

_NO_USAGE = Usage(0.0, 0.0, None, False)  # what a container used is counted for all of it


def exec_plan_of(
    container: Container,
    args: Sequence[str] | str,
    *,
    env: Mapping[str, str] | None = None,
    cwd: str = "",
    user: str | int = "",
    privileged: bool = False,
    tty: bool = False,
) -> _core.LaunchPlan:
    """The plan; SpecError for malformed options."""
    from fastdock.containers.creation import plan_of_record
    from fastdock.options import absolute_or_empty
    from fastdock.planning import ALL_CAPABILITIES

    containers = container._containers
    cache = containers.exec_plans
    base = cache.get(container.id)
    if base is None:
        record = container.record
        start = plan_of_record(containers, record)
        if start.options.network.startswith("container:"):
            start.plan.set_namespace("net", "host")  # it was born in the other's: csrc/monitor/exec.cpp
            own = f"HOSTNAME={container.id[:12]}"  # its name is the other's
            start.plan.environment = [each for each in start.plan.environment if each != own]
        if start.options.link:
            from fastdock.containers.networking import linked_environment

            start.plan.environment = linked_environment(containers, record, start)
        base = _core.exec_plan(start.plan)
        if len(cache) >= 64:
            cache.clear()
        if not start.options.link:  # those of links are of now
            cache[container.id] = base
    plan: _core.LaunchPlan = base.copy()
    plan.argv = [args] if isinstance(args, str) else [os.fspath(word) for word in args]
    if env or tty:
        variables = dict(item.split("=", 1) for item in plan.environment)
        if tty:
            variables.setdefault("TERM", "xterm")
        variables.update(env or {})
        plan.environment = [f"{name}={value}" for name, value in variables.items()]
    plan.working_directory = absolute_or_empty(cwd) or plan.working_directory
    plan.create_working_directory = False
    # It ends with its container.  The signal would come at the end of the thread that started it (prctl(2)).
    plan.parent_death_signal = 0
    if user != "":
        plan.set_user(str(user), [])
    if privileged:
        plan.set_capabilities(ALL_CAPABILITIES, ALL_CAPABILITIES, ALL_CAPABILITIES)
        plan.set_seccomp(b"")
    return plan


class Execution(BaseProcess):
    """A process in a container, with the attributes and methods of :class:`subprocess.Popen`.

    Takes ``stdin``, ``stdout``, ``stderr``, ``text``, ``encoding``, ``errors``, ``bufsize``, and ``env``,
    ``cwd``, ``user``, ``privileged``; ``tty`` gives it a terminal (``take_terminal``); ``own_group`` a cgroup, so
    that ``kill_all`` reaches everything that it starts.  ContainerNotRunning, KernelError.
    """

    def __init__(
        self,
        container: Container,
        args: Sequence[str] | str,
        *,
        stdin: Any = None,
        stdout: Any = None,
        stderr: Any = None,
        text: bool | None = None,
        encoding: str | None = None,
        errors: str | None = None,
        bufsize: int = -1,
        tty: tuple[int, int] | bool = False,
        own_group: bool = False,
        **options: Any,
    ) -> None:
        state = container._need_running()
        if state.status == "paused":
            raise ContainerNotRunning(f"container {container.name} is paused", hint="unpause it first")
        plan = exec_plan_of(container, args, tty=bool(tty), **options)
        self.args = list(plan.argv)
        self.returncode = None
        self._collect_lock = _thread.allocate_lock()

        def start(stdio: list[int]) -> None:
            plan.stdio = stdio
            if tty:
                plan.set_terminal(*(tty if isinstance(tty, tuple) else (0, 0)))
            self._exec = _start(container, plan, state.pid, own_group)

        self._open(start, (stdin, stdout, stderr), text, encoding, errors, bufsize)
        self._own_group = own_group
        self._containers, self._record = container._containers, container.record
        self.id = os.urandom(32).hex()
        """What its events call it (``execID``)."""
        # It runs already: this is no part of its start.
        command = " ".join(self.args)
        self._tell(f"exec_create: {command}")
        self._tell(f"exec_start: {command}")

    @property
    def pid(self) -> int:
        """The host's number of the process."""
        return self._exec.pid

    @property
    def usage(self) -> Usage:
        return _NO_USAGE

    def fileno(self) -> int:
        """A pidfd: readable when the process has ended."""
        return self._exec.pidfd

    def take_terminal(self) -> int:
        """The descriptor of its terminal's other side, the caller's to close."""
        return self._exec.take_terminal()

    def _wait(self, milliseconds: int) -> int | None:
        if self.returncode is None:
            if milliseconds:  # outside of the lock, and with Python's signal handlers
                ended = select.poll()
                ended.register(self._exec.pidfd, select.POLLIN)
                ended.poll(milliseconds)
            with self._collect_lock:  # several threads may wait: reaping.py's is one
                self._collect()
        return self.returncode

    def _collect(self) -> None:
        status = self._exec.wait(0) if self.returncode is None else None
        if status is None:
            return
        if self._own_group:
            self._exec.kill_all()  # what it left behind, so that the cgroup can go
            self._exec.remove_group()
        self.returncode = -status[1] if status[1] else status[0]
        self._tell("exec_die", ("exitCode", str(128 + status[1] if status[1] else status[0])))

    def _tell(self, action: str, *more: tuple[str, str]) -> None:
        try:
            self._containers.event(action, self._record, [("execID", self.id), *more])
        except OSError:  # no event is worth the process
            pass

    def _signal(self, sig: int) -> None:
        self._exec.kill(sig)

    def kill(self) -> None:
        """Kills it and, with ``own_group``, everything that it has started."""
        self._exec.kill_all()


def _start(container: Container, plan: _core.LaunchPlan, pid: int, own_group: bool) -> _core.Exec:
    engine = container._containers.engine
    try:
        return _core.Exec.start(
            engine.root, engine.run_directory, engine.cgroup_parent, container.id, plan, pid, own_group
        )
    except ProcessLookupError:
        raise ContainerNotRunning(f"container {container.name} is not running") from None


def run(
    container: Container,
    args: Sequence[str] | str,
    *,
    input: Any = None,
    capture_output: bool = False,
    timeout: float | None = None,
    check: bool = False,
    **keywords: Any,
) -> CompletedProcess:
    """:meth:`Container.exec`."""
    with_pipes(keywords, input, capture_output)
    process = Execution(container, args, own_group=timeout is not None, **keywords)
    began = time.monotonic()
    stdout, stderr = process._run_to_end(input, timeout)
    assert process.returncode is not None
    usage = Usage(time.monotonic() - began, 0.0, None, False)
    done = CompletedProcess(process.args, process.returncode, stdout, stderr, usage)
    if check:
        done.check_returncode()
    return done


def detached(container: Container, args: Sequence[str] | str, **options: Any) -> int:
    """Starts a process that the monitor keeps: the host's number of it.  Its streams are /dev/null."""
    if not container.is_foreground:
        plan = exec_plan_of(container, args, **options)
        try:
            return container._ask(control.EXECUTE, content=_core.plan_bytes(plan))
        except KernelError as error:
            if not control.is_foreign(error):
                raise
    # No monitor, or one of another version: it is this process's child, or, when that ends, init's.
    from fastdock.containers.reaping import watch

    execution = Execution(container, args, stdin=DEVNULL, stdout=DEVNULL, stderr=DEVNULL, **options)
    watch(execution)
    return execution.pid
