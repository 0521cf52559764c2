"""Signals that are sent to the command line and meant for the container it attends."""

from __future__ import annotations

TYPE_CHECKING = False  # see _light
if TYPE_CHECKING:
    import signal
    from collections.abc import Callable
else:
    import _signal as signal  # signal itself makes enumerations of its numbers: 4 ms

# Everything that may be sent to us, but what cannot be caught, and what is about us (job control, children).
_NOT_FORWARDED = {signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD, signal.SIGPIPE, signal.SIGWINCH, signal.SIGURG,
                  signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU, signal.SIGCONT, signal.SIGSEGV, signal.SIGBUS,
                  signal.SIGFPE, signal.SIGILL, signal.SIGABRT, signal.SIGTRAP, signal.SIGSYS}  # fmt: skip


class SignalProxy:
    """Passes signals on to a container; those that come while it starts reach it when it runs.

    The container can run, and tell somebody that it does, before the call that starts it has returned: the
    handlers must be there before that call.
    """

    def __init__(self, *, enabled: bool = True) -> None:
        self._enabled = enabled
        self._waiting: list[int] = []
        self._kill: Callable[[int], object] = self._waiting.append

    def hold(self) -> None:
        """From now on signals no longer end this process."""
        if not self._enabled:
            return
        for number in signal.valid_signals() - _NOT_FORWARDED:
            try:
                signal.signal(number, self._handle)
            except (OSError, ValueError):  # the real-time signals that the C library keeps
                pass

    def release_to(self, kill: Callable[[int], object]) -> None:
        """From now on signals go to ``kill``, and first those that have come."""
        self._kill = kill
        while self._waiting:
            self._pass_on(self._waiting.pop(0))

    def _handle(self, number: int, _frame: object) -> None:
        self._pass_on(number)

    def _pass_on(self, number: int) -> None:
        from fastdock._errors import FastdockError

        try:
            self._kill(number)
        except (FastdockError, OSError):  # it has ended
            pass
