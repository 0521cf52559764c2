"""fastdock without root: the namespaces of an ordinary user.

One small native process for each user, the *holder* (csrc/rootless), keeps a user namespace in which the user
is root over its own and its subordinate ids, a mount namespace, and a network namespace that pasta or
slirp4netns joins to the host's network.  The command line enters them before it does anything else; from then
on it works as it does for root.
"""

from __future__ import annotations

import os

from fastdock import _core
from fastdock._errors import FastdockError
from fastdock.store.paths import ROOTLESS, ROOTLESS_REASON, is_rootless, user_run_directory

PROGRAM = os.path.join(os.path.dirname(os.path.dirname(__file__)), "libexec", "fastdock-rootless")


def enter(*, network: bool = True) -> None:
    """Moves this process into its user's namespaces; nothing happens for root, and the second time.

    From then on ``os.getuid()`` is 0, mounts made here are seen here only, and with pasta or slirp4netns the
    network is theirs: the host's loopback device is not reached.  To be called before any thread starts.
    ``network`` False: the network stays the host's, and no container can be started on another one.
    A program that must not change so calls :func:`fastdock.run` without it (docs/rootless.md).

    Raises FastdockError: the kernel allows no user namespaces here, or this process has threads.
    """
    if os.geteuid() == 0 or is_rootless():
        return
    if "HOME" not in os.environ:  # afterwards the account of this process is root's
        import pwd

        try:
            os.environ["HOME"] = pwd.getpwuid(os.geteuid()).pw_dir
        except KeyError:
            raise FastdockError(f"user {os.geteuid()} has no account: set HOME or XDG_DATA_HOME") from None
    run = user_run_directory()
    _, way, reason = _core.rootless_enter(run, PROGRAM, network)
    if not network:
        way, reason = "", "this process is in the host's network"
    os.environ[ROOTLESS] = f"{way}:{run}"
    if not way:
        os.environ[ROOTLESS_REASON] = reason


def stop() -> bool:
    """Ends this user's holder; False where none runs.  Containers that run go on, without a way out."""
    try:
        _core.rootless_ask(user_run_directory(), "stop")
    except OSError:
        return False
    return True
