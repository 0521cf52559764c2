"""``Pool``: containers that are started before they are needed, and want no more than their program."""

from __future__ import annotations

import atexit
import os
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from errno import ECONNRESET, EPIPE, ESRCH
from typing import TYPE_CHECKING, Any, Self, Unpack

from fastdock._errors import FastdockError, KernelError, SpecError
from fastdock.engine import command_of, default_engine
from fastdock.options import options_from
from fastdock.process import Popen, run_container

if TYPE_CHECKING:
    from types import TracebackType

    from fastdock import _core
    from fastdock.base_process import Stream
    from fastdock.engine import Engine
    from fastdock.options import RunOptions
    from fastdock.process import CompletedProcess

_PER_USE = ("env", "cwd")
_GONE = (EPIPE, ECONNRESET, ESRCH)  # the prepared container was killed while it waited


class Pool:
    """``size`` containers of one image and one set of options, started up to their program.

    ``run`` and ``Popen`` give one of them its command, variables, directory and streams, which takes a fraction
    of a millisecond, and another is prepared in its place.  Each serves once: it is as fresh as any other
    container, with namespaces, files, ids, cgroup and, where the options say so, addresses and ports of its own.
    When none is ready, one is started as :func:`fastdock.run` would.

    The options are those of :class:`fastdock.options.RunOptions`, but for what shares the host's user ids
    (``privileged``, ``userns="host"``, ``network="container:…"``), and ``oom_score_adj``.  The image is looked up once.

    All methods may be called from any thread; after ``os.fork()`` they work, and start each container when it is
    needed.  Raises what :class:`fastdock.Popen` raises, and SpecError for
    such options, a size below one, and where there is no root.
    """

    def __init__(
        self,
        image: str | None = None,
        *,
        size: int = 4,
        engine: Engine | None = None,
        **options: Unpack[RunOptions],
    ) -> None:
        if size < 1:
            raise SpecError(f"a pool of {size} containers: at least one is needed")
        self._engine = engine or default_engine()
        if self._engine._remote is not None:
            raise SpecError("a pool needs root: without it, another process starts the containers")
        self._planned, _ = self._engine._prepare(image, ["true"], options)
        self._image = image or ""
        planned = self._planned.options
        if not self._planned.own_ids or planned.network.startswith("container:"):
            raise SpecError(
                "a pool's containers have user ids and a network of their own: not with these options"
            )
        if planned.oom_score_adj is not None:
            raise SpecError(
                "oom_score_adj: a container that waits shares this process's memory, and it with that"
            )
        self.size = size
        self._owner = os.getpid()
        self._changed = threading.Condition()
        self._ready: deque[_core.Container] = deque()
        self._starting = 0  # uses that have not got their program yet
        self._stuck = False  # none could be prepared
        self._closed = False
        try:
            for _ in range(size):
                self._ready.append(self._started())
        except BaseException:
            self._discard()
            raise
        self._filler = threading.Thread(target=self._fill, name="fastdock pool", daemon=True)
        self._filler.start()
        atexit.register(self.close)

    @property
    def ready(self) -> int:
        """How many wait for a program now."""
        return len(self._ready)

    def wait_until_ready(self) -> None:
        """Returns when ``size`` containers wait, or none can be prepared (the next use says why)."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._stuck or len(self._ready) >= self.size)

    def run(
        self,
        args: Sequence[str] | str | None = None,
        *,
        input: Any = None,
        capture_output: bool = False,
        timeout: float | None = None,
        check: bool = False,
        **keywords: Any,
    ) -> CompletedProcess:
        """:func:`fastdock.run` in one of the containers; ``env`` and ``cwd`` may be given, no other options."""
        return run_container(
            self,
            None,
            args,
            input=input,
            capture_output=capture_output,
            timeout=timeout,
            check=check,
            **keywords,
        )

    def Popen(  # noqa: N802
        self,
        args: Sequence[str] | str | None = None,
        *,
        stdin: Stream = None,
        stdout: Stream = None,
        stderr: Stream = None,
        **keywords: Any,
    ) -> Popen:
        """:class:`fastdock.Popen` in one of the containers; ``env`` and ``cwd`` may be given, no other options."""
        return Popen(None, args, stdin=stdin, stdout=stdout, stderr=stderr, engine=self, **keywords)

    def close(self) -> None:
        """Ends the containers that wait; those in use go on."""
        if os.getpid() != self._owner:
            return
        with self._changed:
            if self._closed:
                return
            self._closed = True
            self._changed.notify_all()
        self._filler.join()
        self._discard()
        atexit.unregister(self.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # -- for Popen ------------------------------------------------------------------------------------------

    def _start(
        self,
        image: str | Sequence[str] | None,
        args: Sequence[str] | str | None,
        stdio: list[int],
        given: Mapping[str, Any] | RunOptions,
        *,
        outlive_thread: bool = True,
    ) -> tuple[list[str], _core.Container]:
        """As :meth:`Engine._start`."""
        if others := [name for name in given if name not in _PER_USE]:
            raise SpecError(f"{others[0]}: of a pool's containers only env and cwd are given at their use")
        options = options_from(given)
        command = command_of(self._planned, self._image, args)
        environment = [f"{name}={value}" for name, value in options.env]
        if os.getpid() != self._owner:
            # After os.fork(): those that wait share their maker's memory, and the lock may be some thread's of his.
            container = self._started()
            container.begin(command, environment, options.cwd, stdio)
            return command, container
        with self._changed:
            self._starting += 1
        try:
            return command, self._begun(command, environment, options.cwd, stdio)
        finally:
            with self._changed:
                self._starting -= 1
                self._changed.notify_all()

    def _begun(
        self, command: list[str], environment: list[str], directory: str, stdio: list[int]
    ) -> _core.Container:
        while True:
            container = self._take()
            try:
                container.begin(command, environment, directory, stdio)
            except KernelError as error:
                container.finish()
                if error.errno not in _GONE:
                    raise
            else:
                return container

    # -- the containers that wait ---------------------------------------------------------------------------

    def _started(self) -> _core.Container:
        return self._engine._launch(self._planned, ["true"], [0, 1, 2], held=True)

    def _take(self) -> _core.Container:
        with self._changed:
            if self._closed:
                raise FastdockError("the pool is closed")
            if self._ready:
                return self._ready.popleft()
        return self._started()

    def _rests(self) -> bool:
        """Whether nothing is to be prepared now: it would take the processor of those that are being started."""
        return not self._closed and (
            len(self._ready) >= self.size or (self._starting > 0 and bool(self._ready))
        )

    def _fill(self) -> None:
        while True:
            with self._changed:
                while self._rests():
                    self._changed.wait()
                if self._closed:
                    return
            try:
                container = self._started()
            except FastdockError:
                # Who needs one starts it himself, and is told why it fails; then this tries again.
                with self._changed:
                    self._stuck = True
                    self._changed.notify_all()
                    if not self._closed:
                        self._changed.wait()
                    self._stuck = False
                continue
            with self._changed:
                self._ready.append(container)
                self._changed.notify_all()

    def _discard(self) -> None:
        while self._ready:
            self._ready.popleft().finish()
