"""What the command ``fastdock run --rm`` shows of the container in its foreground: see foreground.py.

It is on the path of every such run, so it imports nothing that is not there already.
"""

from __future__ import annotations

import os
import time

from fastdock import _core
from fastdock.options import dump

TYPE_CHECKING = False  # see _light
if TYPE_CHECKING:
    from fastdock.engine import Engine
    from fastdock.planning import Planned


def _text_of(document: object) -> str:
    try:
        return _core.dump_json(document)
    except UnicodeEncodeError:  # a word of the command is no UTF-8
        import json

        return json.dumps(document)


class Presence:
    """From its start to its end.

    A machine whose /run is full has containers that run all the same, and are not seen.
    """

    def __init__(
        self, engine: Engine, container: _core.Container, planned: Planned, image: str, command: list[str]
    ) -> None:
        from fastdock.containers.names import name_of

        self._root, self._id = engine.root, container.id
        self._attributes = [*planned.options.labels, ("image", image), ("name", name_of(container.id))]
        self._directory = os.path.join(engine.run_directory, "containers", container.id)
        self._lock = -1
        document = {
            "image": image, "source": planned.source, "created": time.time(), "owner": os.getpid(), "command": command,
            "arguments": len(command) - len(planned.entrypoint), "options": dump(planned.options),
            "memory": container.memory,
        }  # fmt: skip
        began = time.time_ns()
        started_at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(began // 10**9)) + f".{began % 10**9:09}Z"
        state = {"status": "running", "pid": container.pid, "started_at": started_at}
        try:
            self._lock = _core.take_run_directory(engine.root, engine.run_directory, container.id)
            self._write("record.json", _text_of(document), os.O_CREAT)
            _core.write_state(self._directory, _core.dump_json(state), False)
            self._event("create")
            self._event("start")
        except OSError:
            self._remove()

    def ending(self) -> None:
        """Its process has ended and is not yet waited for: afterwards its number may be another's."""
        if self._lock >= 0:
            _core.remove_tree(os.path.join(self._directory, "state.json"))

    def ended(self, code: int) -> None:
        """Tells those who wait, if anybody has made the file for it, and goes."""
        if self._lock >= 0:
            try:
                self._write("exit", str(code))
            except OSError:  # FileNotFoundError, nearly always
                pass
            try:
                self._event("die", ("exitCode", str(code)))
                self._event("destroy")
            except OSError:  # the disk is full
                pass
            self._remove()

    def _event(self, action: str, *more: tuple[str, str]) -> None:
        _core.append_event(self._root, "container", action, self._id, [*self._attributes, *more])

    def _write(self, name: str, text: str, flags: int = 0) -> None:
        file = os.open(os.path.join(self._directory, name), os.O_WRONLY | os.O_CLOEXEC | flags, 0o600)
        try:
            os.write(file, text.encode())
        finally:
            os.close(file)

    def _remove(self) -> None:
        if self._lock >= 0:
            _core.remove_tree(self._directory)
            os.close(self._lock)
            self._lock = -1
