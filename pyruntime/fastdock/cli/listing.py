"""``fastdock ps``: Docker's columns, filters and formats.  Free of click: see ``cli.plain``."""

from __future__ import annotations

import os
import sys
import time

from fastdock._errors import SpecError
from fastdock._light import NamedTuple
from fastdock.cli.output import fields_in, format_rows, human_duration, human_size, parse_time
from fastdock.cli.plain import Plain, option, several
from fastdock.containers.networking import names_text, ports_text

TYPE_CHECKING = False  # see cli.direct
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any

    from fastdock.containers import Containers
    from fastdock.containers.records import Record
    from fastdock.containers.state import State

HEADINGS = {
    "ID": "CONTAINER ID", "Image": "IMAGE", "Command": "COMMAND", "CreatedAt": "CREATED AT", "RunningFor": "CREATED",
    "Ports": "PORTS", "State": "STATE", "Status": "STATUS", "Size": "SIZE", "Names": "NAMES", "Labels": "LABELS",
    "Mounts": "MOUNTS", "LocalVolumes": "LOCAL VOLUMES", "Networks": "NETWORKS", "Label": "LABEL",
}  # fmt: skip
TABLE = "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}"


FLAGS = [
    option("-a", "--all", is_flag=True, help="Show all, not only those that run."),
    several("-f", "--filter", help="name=, id=, status=, label=, ancestor=, health= …"),
    option("--format", help="table [TEMPLATE], json, or a Go template."),
    option("-n", "--last", type=int, default=-1, help="The last N created, in all states."),
    option("-l", "--latest", is_flag=True, help="The last one created, in all states."),
    option("--no-trunc", is_flag=True, help="Don't shorten."),
    option("-q", "--quiet", is_flag=True, help="Only IDs."),
    option("-s", "--size", is_flag=True, help="Show what it has written."),
]


def ps(root: str | None, words: tuple[str, ...], flags: dict[str, Any]) -> int:
    """Lists containers."""
    from fastdock.engine import Engine

    engine = Engine(root)
    containers, format_ = engine.containers, flags["format"]
    chosen = Filter(containers, flags["filter"])
    last = 1 if flags["latest"] else flags["last"]
    everything = flags["all"] or last > 0 or chosen.names_status
    found = [
        entry for entry in containers.entries() if (everything or entry[1].running) and chosen.takes(*entry)
    ]
    if last > 0:
        found = found[:last]
    if flags["quiet"] and not format_:
        length = None if flags["no_trunc"] else 12
        sys.stdout.write("".join(record.id[:length] + "\n" for record, _ in found))
    else:
        default = TABLE + ("\t{{.Size}}" if flags["size"] else "")
        shown = fields_in(format_, default)
        now, no_trunc = time.time(), flags["no_trunc"]
        # docker/cli, container/list.go: where a template looks at the size
        size = flags["size"] or ("Size" in shown if shown is not None else format_ != "json")
        names = sorted(HEADINGS) if shown is None else shown  # as encoding/json has a map's keys
        rows = [Row(containers, *entry, now, no_trunc, size).fields(names) for entry in found]
        sys.stdout.write(format_rows(rows, format_, default, HEADINGS))
    engine.leave()
    return 0


PS = Plain("List containers.", FLAGS, (), ps)


class Row(NamedTuple):
    """What ``--format`` may ask of one container, made as it is asked for: most is never shown."""

    containers: Containers
    record: Record
    state: State
    now: float
    no_trunc: bool = False
    size: bool = False

    def fields(self, names: Iterable[str] = HEADINGS) -> dict[str, Any]:
        """A name that is none is left out."""
        return {name: _FIELDS[name](self) for name in names if name in _FIELDS}


def _command(row: Row) -> str:
    # moby, daemon/list.go: arguments with a blank are quoted
    program, *arguments = row.record.command
    text = " ".join([program, *(f"'{word}'" if " " in word else word for word in arguments)])
    return _quoted(f"{text[:19]}…" if len(text) > 20 and not row.no_trunc else text)


_ESCAPES = {'"': '\\"', "\\": "\\\\", "\a": "\\a", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t",
            "\v": "\\v"}  # fmt: skip


def _quoted(text: str) -> str:
    """Go's strconv.Quote."""
    if text.isascii() and text.isprintable() and '"' not in text and "\\" not in text:
        return f'"{text}"'
    return '"' + "".join(_ESCAPES.get(each) or _printable(each) for each in text) + '"'


def _printable(character: str) -> str:
    if character.isprintable():
        return character
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that is no UTF-8
        code -= 0xDC00
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _ports_text(row: Row) -> str:
    return ports_text(row.containers, row.record) if row.state.running else ""


def _labels(row: Row) -> str:
    return ",".join(f"{name}={value}" for name, value in row.record.labels.items())


def _label(row: Row) -> Callable[[str], str]:
    labels = row.record.labels
    return lambda name: labels.get(name, "")


def _mounts(row: Row) -> str:
    # moby, daemon/list.go and cli/command/formatter/container.go: a volume's name, else the source; 15 characters
    named = {f"/volumes/{name}/_data": name for name in row.record.document.get("volumes") or ()}
    words = []
    for _, target, source, *_ in _mount_options(row.record):
        name = next((name for path, name in named.items() if source.endswith(path)), source or target)
        words.append(f"{name[:14]}…" if len(name) > 15 and not row.no_trunc else name)
    return ",".join(words)


def _mount_options(record: Record) -> list[list[Any]]:
    found: list[list[Any]] = record.document["options"].get("mounts", [])
    return found


_FIELDS: dict[str, Callable[[Row], Any]] = {
    "ID": lambda row: row.record.id if row.no_trunc else row.record.id[:12],
    "Image": lambda row: row.record.image,
    "Command": _command,
    "CreatedAt": lambda row: time.strftime("%Y-%m-%d %H:%M:%S %z %Z", time.localtime(row.record.created)),
    "RunningFor": lambda row: human_duration(max(0.0, row.now - row.record.created)) + " ago",
    "Ports": _ports_text,
    "State": lambda row: row.state.status,
    "Status": lambda row: status_text(row.state, row.now),
    "Size": lambda row: _size_text(row.containers, row.record) if row.size else "0B",
    "Names": lambda row: row.record.name,
    "Labels": _labels,
    "Label": _label,
    "Mounts": _mounts,
    "LocalVolumes": lambda row: str(len(row.record.document.get("volumes") or ())),
    "Networks": lambda row: names_text(row.record),
}


def _size_text(containers: Containers, record: Record) -> str:
    """Docker's: what it has written, and that with its image."""
    from fastdock.containers import Container

    written = Container.of(containers, record).size()
    image = image_size(containers, record)
    return human_size(written) + (f" (virtual {human_size(written + image)})" if image else "")


def image_size(containers: Containers, record: Record) -> int:
    """Bytes; 0 of a built-in image, which takes no room."""
    store = containers.engine.store
    return 0 if store.find_id(record.image_id) is None else store.get(record.image_id).size


def status_text(state: State, now: float) -> str:
    """Docker's: "Up 3 minutes (healthy)", "Exited (0) 2 hours ago", "Created" …"""
    if state.status == "created":
        return "Created"
    if state.status == "exited":
        return (
            f"Exited ({state.exit_code}) {human_duration(max(0.0, now - parse_time(state.finished_at)))} ago"
        )
    if state.status == "restarting":
        since = human_duration(max(0.0, now - parse_time(state.finished_at)))
        return f"Restarting ({state.exit_code}) {since} ago"
    text = f"Up {human_duration(max(0.0, now - parse_time(state.started_at)))}"
    if state.status == "paused":
        return text + " (Paused)"
    if state.health is not None:
        health = state.health["status"]
        return f"{text} (health: starting)" if health == "starting" else f"{text} ({health})"
    return text


_KNOWN = (
    "id",
    "name",
    "label",
    "exited",
    "status",
    "ancestor",
    "before",
    "since",
    "volume",
    "network",
    "health",
    "restart-policy",
    "should-start-on-boot",
    "publish",
    "expose",
    "is-task",
)


_VALUES = {
    "status": ("created", "restarting", "running", "removing", "paused", "exited", "dead"),
    "health": ("starting", "healthy", "unhealthy", "none"),
    "restart-policy": ("no", "on-failure", "always", "unless-stopped"),
    "should-start-on-boot": ("true", "false"),
    "is-task": ("true", "false"),
}


class Filter:
    """``--filter`` of containers: different names must all match, one name's values any of them."""

    def __init__(
        self, containers: Containers, filters: tuple[str, ...], allowed: tuple[str, ...] = _KNOWN
    ) -> None:
        self._containers = containers
        self._wanted: dict[str, list[str]] = {}
        for text in filters:
            name, equals, value = text.partition("=")
            if not equals or name not in allowed:
                raise SpecError(f"invalid filter '{text}'", hint=", ".join(allowed))
            if value not in _VALUES.get(name, (value,)):
                raise SpecError(f"invalid filter '{text}'", hint=", ".join(_VALUES[name]))
            if name == "exited" and not value.lstrip("-").isdigit():
                raise SpecError(f"invalid filter '{text}'", hint="an exit code")
            self._wanted.setdefault(name, []).append(value)
        self._times = {
            name: self._created(values)
            for name, values in self._wanted.items()
            if name in ("before", "since")
        }
        self._until = min((until(value) for value in self._wanted.get("until", ())), default=None)
        self._ancestors = set(self._images(self._wanted.get("ancestor", ())))

    @property
    def names_status(self) -> bool:
        """Whether containers that do not run were asked for."""
        return bool(self._wanted.keys() & {"status", "exited"})

    def _created(self, references: list[str]) -> float:
        return self._containers.record(references[0]).created

    def _images(self, references: Any) -> Iterator[str]:
        for reference in references:
            yield f"builtin:{reference}"
            image_id = self._containers.engine.store.find_id(reference)
            if image_id:
                yield image_id

    def takes(self, record: Record, state: State) -> bool:
        return all(self._matches(name, values, record, state) for name, values in self._wanted.items())

    def _matches(self, name: str, values: list[str], record: Record, state: State) -> bool:
        if name == "id":
            return any(record.id.startswith(value) for value in values)
        if name == "name":
            import re

            return any(re.search(value.removeprefix("/"), record.name) for value in values)
        if name in ("label", "label!"):
            has = [_has_label(record.labels, value) for value in values]
            return all(has) if name == "label" else not any(has)
        if name in ("publish", "expose"):
            return any(
                port in _ports_of(self._containers, record, name)
                for value in values
                for port in _ports(value)
            )
        if name == "is-task":  # of a swarm, which is not here
            return "false" in values
        if name == "exited":
            return state.status == "exited" and str(state.exit_code) in values
        if name == "status":
            return state.status in values
        if name == "ancestor":
            return record.image_id in self._ancestors or record.image in values
        if name == "before":
            return record.created < self._times[name]
        if name == "since":
            return record.created > self._times[name]
        if name == "until":
            return self._until is None or record.created < self._until
        if name == "volume":
            places = {
                os.path.normpath(str(part)) for mount in _mount_options(record) for part in mount[1:3]
            } | set(record.document["volumes"])
            return any(value in places for value in values)
        if name == "network":
            from fastdock.containers.networking import names_text

            return any(joined in values for joined in names_text(record).split(","))
        if name == "restart-policy":
            return record.document["settings"].get("restart", "no") in values
        if name == "should-start-on-boot":
            return ("true" if _starts_on_boot(record, state) else "false") in values
        health = state.health["status"] if state.health is not None else "none"
        return health in values


def _ports(text: str) -> Iterator[str]:
    """Of ``--filter publish=`` and ``expose=``: PORT[-PORT][/PROTOCOL].  SpecError."""
    numbers, _, protocol = text.partition("/")
    first, _, last = numbers.partition("-")
    if not first.isdigit() or not (last or first).isdigit() or protocol not in ("", "tcp", "udp", "sctp"):
        raise SpecError(f"invalid port {text!r}", hint="80, 8000-8010/udp")
    for port in range(int(first), min(int(last or first), 65535) + 1):
        yield f"{port}/{protocol or 'tcp'}"


def _ports_of(containers: Containers, record: Record, kind: str) -> set[str]:
    """``publish``: published, by their numbers outside; ``expose``: those inside, published or not."""
    from fastdock.containers.networking import settings_document

    found = settings_document(containers, record)["Ports"]
    if kind == "expose":
        return set(found)
    return {
        f"{binding['HostPort']}/{inside.partition('/')[2]}"
        for inside, bindings in found.items()
        for binding in bindings or ()
    }


def _starts_on_boot(record: Record, state: State) -> bool:
    """As dockerd would when it starts; the filter's name is podman's."""
    policy = record.document["settings"].get("restart", "no")
    return state.status != "created" and (
        policy == "always" or (policy == "unless-stopped" and not state.stopped_by_user)
    )


def _has_label(labels: dict[str, str], wanted: str) -> bool:
    name, equals, value = wanted.partition("=")
    return name in labels and (not equals or labels[name] == value)


def until(text: str) -> float:
    """The moment that ``--filter until=`` names: a time, or how long ago."""
    from fastdock.cli.logs import parse_when

    when = parse_when(text)
    if when is None:
        raise SpecError("invalid filter 'until='", hint="a time, or how long ago: 10m")
    return when
