"""The asyncio twins of an engine's images, networks and volumes: ``fastdock.aio.Images(engine.images)``.

Each method is made from the one that it awaits, signature and all, so the two faces cannot drift apart.  It runs in
the loop's executor: so do the callbacks that it is given (``progress``, ``keep``).  Who stops waiting for it
(``asyncio.wait_for``) does not stop it, but a pull, a push or a question to a registry, which ends at once.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

from fastdock.containers.twin import in_executor
from fastdock.image import Image as _Image
from fastdock.image import Images as _Images
from fastdock.network import Networks as _Networks
from fastdock.registry.face import Remote
from fastdock.volumes import Volumes as _Volumes

if TYPE_CHECKING:
    from fastdock.image import Source
    from fastdock.store.record import ImageRecord

_P = ParamSpec("_P")
_T = TypeVar("_T")
_S = TypeVar("_S")
_Awaited = Callable[Concatenate[Any, _P], Coroutine[Any, Any, _T]]


def _awaited(method: Callable[Concatenate[Any, _P], _T]) -> _Awaited[_P, _T]:
    """The method of a twin that awaits this one of its ``sync``."""

    @functools.wraps(method)
    async def call(self: Any, /, *args: _P.args, **keywords: _P.kwargs) -> _T:
        return await in_executor(method, self.sync, *args, **keywords)

    return call


def _awaited_as(method: Callable[Concatenate[Any, _P], _T], twin_of: Callable[[_T], _S]) -> _Awaited[_P, _S]:
    """The same, of one whose answer has a twin, too."""

    @functools.wraps(method)
    async def call(self: Any, /, *args: _P.args, **keywords: _P.kwargs) -> _S:
        return twin_of(await in_executor(method, self.sync, *args, **keywords))

    return call


def _asked(method: Callable[Concatenate[Any, _P], _T]) -> _Awaited[_P, _T]:
    """The same, of one that speaks to a registry: cancelling it ends the conversation, and waits for that."""

    @functools.wraps(method)
    async def call(self: Any, /, *args: _P.args, **keywords: _P.kwargs) -> _T:
        remote = Remote()
        begun = functools.partial(method, self.sync, *args, **keywords)
        answer = asyncio.ensure_future(in_executor(remote.context.run, begun))
        try:
            return await asyncio.shield(answer)
        except asyncio.CancelledError:
            remote.cancel()
            await asyncio.wait([answer])
            if not answer.cancelled():
                answer.exception()  # looked at: it is the cancelling that counts
            raise

    return call


class Image:
    """One image, awaited: the methods of :class:`fastdock.Image`."""

    def __init__(self, image: _Image) -> None:
        self.sync = image

    def __repr__(self) -> str:
        return repr(self.sync)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Image) and other.sync == self.sync

    def __hash__(self) -> int:
        return hash(self.sync)

    @property
    def record(self) -> ImageRecord:
        return self.sync.record

    @property
    def id(self) -> str:
        return self.sync.id

    @property
    def short_id(self) -> str:
        return self.sync.short_id

    @property
    def tags(self) -> list[str]:
        return self.sync.tags

    @property
    def digests(self) -> list[str]:
        return self.sync.digests

    @property
    def config(self) -> dict[str, Any]:
        return self.sync.config

    @property
    def labels(self) -> dict[str, str]:
        return self.sync.labels

    @property
    def size(self) -> int:
        return self.sync.size

    tag = _awaited(_Image.tag)
    remove = _awaited(_Image.remove)
    history = _awaited(_Image.history)
    inspect = _awaited(_Image.inspect)

    async def save(self, output: Source, **options: Any) -> None:
        await in_executor(self.sync.save, output, **options)


def _images(images: Sequence[_Image]) -> Sequence[Image]:
    return [Image(image) for image in images]


def _loaded(loaded: Sequence[tuple[_Image, Sequence[str]]]) -> Sequence[tuple[Image, Sequence[str]]]:
    return [(Image(image), names) for image, names in loaded]


class Images:
    """The images of an engine, awaited: the methods of :class:`fastdock.Images`."""

    def __init__(self, images: _Images) -> None:
        self.sync = images

    get = _awaited_as(_Images.get, Image)
    list = _awaited_as(_Images.list, _images)
    tags_of = _awaited(_Images.tags_of)
    history = _awaited(_Images.history)
    disk_use = _awaited(_Images.disk_use)
    space = _awaited(_Images.space)
    tag = _awaited_as(_Images.tag, Image)
    remove = _awaited(_Images.remove)
    prune = _awaited(_Images.prune)
    import_tar = _awaited_as(_Images.import_tar, Image)
    commit = _awaited_as(_Images.commit, Image)
    save = _awaited(_Images.save)
    load = _awaited_as(_Images.load, _loaded)
    bootstrap = _awaited_as(_Images.bootstrap, Image)
    check = _awaited(_Images.check)
    pull = _asked(_Images.pull)
    push = _asked(_Images.push)
    remote_tags = _asked(_Images.remote_tags)
    remote_manifest = _asked(_Images.remote_manifest)
    referrers = _asked(_Images.referrers)
    login = _asked(_Images.login)
    logout = _awaited(_Images.logout)


class Networks:
    """The networks of an engine, awaited: the methods of ``engine.networks``."""

    def __init__(self, networks: _Networks) -> None:
        self.sync = networks

    create = _awaited(_Networks.create)
    get = _awaited(_Networks.get)
    list = _awaited(_Networks.list)
    ensure_default = _awaited(_Networks.ensure_default)
    endpoints = _awaited(_Networks.endpoints)
    host_gateways = _awaited(_Networks.host_gateways)
    running = _awaited(_Networks.running)
    remove = _awaited(_Networks.remove)
    prune = _awaited(_Networks.prune)
    connect = _awaited(_Networks.connect)
    disconnect = _awaited(_Networks.disconnect)
    collect = _awaited(_Networks.collect)
    repair = _awaited(_Networks.repair)
    take_down = _awaited(_Networks.take_down)


class Volumes:
    """The volumes of an engine, awaited: the methods of ``engine.volumes``."""

    def __init__(self, volumes: _Volumes) -> None:
        self.sync = volumes

    create = _awaited(_Volumes.create)
    get = _awaited(_Volumes.get)
    list = _awaited(_Volumes.list)
    users = _awaited(_Volumes.users)
    remove = _awaited(_Volumes.remove)
    prune = _awaited(_Volumes.prune)
