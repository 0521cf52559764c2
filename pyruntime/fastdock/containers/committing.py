"""Making an image of a container."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from fastdock._errors import SpecError
from fastdock.containers.creation import origin_of
from fastdock.containers.settings import load_options

if TYPE_CHECKING:
    from fastdock.containers.container import Container


def commit(
    container: Container,
    reference: str | None = None,
    *,
    author: str = "",
    message: str = "",
    changes: Sequence[str] = (),
    pause: bool = True,
) -> Any:
    """:meth:`Container.commit`."""
    containers, record = container._containers, container.record
    if record.image_id.startswith("builtin:"):
        raise SpecError(
            f"the image {record.image} shows this machine's own files: a container of it cannot become an image",
            hint="bootstrap an image ('fastdock image bootstrap'), and work in a container of that",
        )
    paused = pause and container.state.status == "running"
    if paused:
        container.pause()
    try:
        with container._upper() as upper:
            image = containers.engine.images.commit(
                upper,
                record.image_id,
                reference,
                config=_config(container),
                changes=changes,
                author=author,
                message=message,
                created_by=" ".join(record.command),
                uid_offset=container.first_id,
                gid_offset=container.first_id,
            )
    finally:
        if paused:
            container.unpause()
    containers.event("commit", record, [("imageID", image.id)])
    return image


def _config(container: Container) -> dict[str, Any]:
    """What the container was run with, over its image's configuration, as docker commit keeps it."""
    options = load_options(container.record.document["options"])
    config = dict(origin_of(container._containers, container.record).config)
    environment = dict(item.split("=", 1) for item in config.get("Env") or () if "=" in item)
    environment.update(options.env)
    config["Env"] = [f"{name}={value}" for name, value in environment.items()]
    command = container.record.command
    arguments = int(container.record.document["arguments"])
    if options.entrypoint is not None:
        config["Entrypoint"] = list(options.entrypoint)
    config["Cmd"] = command[len(command) - arguments :]
    for key, value in (
        ("User", options.user),
        ("WorkingDir", options.cwd),
        ("StopSignal", options.stop_signal),
    ):
        if value:
            config[key] = value
    config["Labels"] = container.record.labels or None
    return config
