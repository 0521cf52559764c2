"""The command line as the native launcher starts it: ``python -I -S …/fastdock/_start.py ARGUMENTS``.

``-S`` leaves out ``site``, which costs 2 of Python's 10 ms.  Nearly always what is needed lies beside this
package; what does not is looked for once more after ``site`` has run.
"""

from __future__ import annotations

import os
import sys


class _SiteWhenNeeded:
    """Last on ``sys.meta_path``: finds what only ``site`` makes visible (other directories, ``.pth`` files)."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> object:
        if path is not None:  # a part of a package that was found
            return None
        sys.meta_path.remove(self)  # type: ignore[arg-type]
        import importlib.util
        import site

        site.main()
        return importlib.util.find_spec(name)


def main() -> None:
    # Last: nearly all that is imported by a plain name is Python's own.
    sys.path.append(__file__.rpartition("/fastdock/")[0])
    if sys.flags.no_site:
        sys.meta_path.append(_SiteWhenNeeded())  # type: ignore[arg-type]
    from fastdock.cli import main

    try:
        main()
    except SystemExit as end:
        if isinstance(end.code, int):
            _leave(end.code)
        raise


def _leave(status: int) -> None:
    """Ends the process without taking the interpreter apart, which takes 9 of 90 ms.

    What has to be done at the end is C++'s: the session's directory and cgroup go.  Returns where there is more to
    do: other threads are waited for, and output that cannot be written is Python's to tell.
    """
    threading = sys.modules.get("threading")
    if threading is not None and threading.active_count() > 1:
        return
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError:
        return
    core = sys.modules.get("fastdock._core")
    if core is not None:
        core.exit(status)
    os._exit(status)


if __name__ == "__main__":
    main()
