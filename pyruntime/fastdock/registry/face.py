"""What an engine's images offer towards registries: pull, push, login, questions."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from fastdock.registry.reference import Reference, parse
from fastdock.store import Store

if TYPE_CHECKING:
    from fastdock.registry.client import RegistryClient
    from fastdock.registry.progress import ProgressCallback
    from fastdock.registry.pull import PullResult, Transfer
    from fastdock.registry.push import PushResult

_T = TypeVar("_T")


class RemoteImages:
    """The part of :class:`fastdock.Images` that speaks to registries; imports the client when it is used."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def pull(
        self,
        reference: str,
        *,
        platform: str | None = None,
        progress: ProgressCallback | None = None,
        transfer: Transfer | None = None,
    ) -> PullResult:
        """Brings an image here from its registry.  ImageNotFound, RegistryError, ImageError.

        ``platform`` is ``os/architecture[/variant]``; ``progress`` is called with each step.
        """
        from fastdock.registry.progress import ignore
        from fastdock.registry.pull import pull

        name = parse(reference)
        return run_async(
            pull(self.store, name, platform=platform, progress=progress or ignore, transfer=transfer)
        )

    def push(
        self,
        reference: str,
        *,
        compression: str | None = None,
        progress: ProgressCallback | None = None,
        transfer: Transfer | None = None,
    ) -> PushResult:
        """Sends an image to the registry of its name.  ``compression``: gzip or zstd, else as it was pulled."""
        from fastdock.registry.progress import ignore
        from fastdock.registry.push import push

        name = parse(reference)
        return run_async(
            push(self.store, name, compression=compression, progress=progress or ignore, transfer=transfer)
        )

    def remote_tags(self, repository: str, *, transfer: Transfer | None = None) -> Sequence[str]:
        """The tags that a registry has of a repository."""
        from fastdock.registry.pull import list_tags

        name = parse(repository)
        return run_async(_ask(name, transfer, lambda client: list_tags(client, name.path)))

    def remote_manifest(self, reference: str, *, transfer: Transfer | None = None) -> tuple[bytes, str, str]:
        """What a registry has under a reference: (bytes, media type, digest)."""
        from fastdock.registry.pull import fetch_manifest

        name = parse(reference)
        fetched = run_async(
            _ask(name, transfer, lambda client: fetch_manifest(client, name.path, name.selector))
        )
        return fetched.data, fetched.media_type, fetched.digest

    def referrers(self, reference: str, *, transfer: Transfer | None = None) -> Sequence[dict[str, Any]]:
        """What a registry has that refers to a manifest (signatures, attestations): OCI descriptors."""
        import msgspec

        from fastdock.registry.pull import fetch_manifest, fetch_referrers

        name = parse(reference)

        async def ask(client: Any) -> Any:
            digest = name.digest or (await fetch_manifest(client, name.path, name.selector)).digest
            return await fetch_referrers(client, name.path, digest)

        index = run_async(_ask(name, transfer, ask))
        return [msgspec.to_builtins(entry) for entry in index.manifests]

    def login(
        self, username: str, password: str, registry: str = "docker.io", *, transfer: Transfer | None = None
    ) -> str:
        """Keeps credentials that the registry accepts; where they went, in words.  RegistryError if it refuses."""
        from fastdock.registry.client import RegistryClient
        from fastdock.registry.credentials import Credentials
        from fastdock.registry.pull import Transfer

        transfer = transfer or Transfer.default()
        credentials = Credentials(username, password)

        async def attempt() -> None:
            settings, retry = transfer.settings, transfer.retry
            async with RegistryClient(
                registry, settings=settings, credentials=credentials, retry=retry
            ) as client:
                await client.check_login()

        run_async(attempt())
        return transfer.credentials.put(registry, credentials)

    def logout(self, registry: str = "docker.io", *, transfer: Transfer | None = None) -> bool:
        """Forgets credentials; whether there were any."""
        from fastdock.registry.credentials import CredentialStore

        return (transfer.credentials if transfer else CredentialStore()).erase(registry)


def run_async(coroutine: Coroutine[Any, Any, _T]) -> _T:
    """Runs a coroutine to its end; in a thread of its own where this one has a loop running already."""
    import asyncio

    if remote := _remote.get():
        return asyncio.run(remote.follow(coroutine))
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(coroutine)
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as executor:
        return executor.submit(asyncio.run, coroutine).result()


class Remote:
    """What is asked of registries in ``context`` (in another thread), and can be cancelled from this one."""

    def __init__(self) -> None:
        self.context = contextvars.copy_context()
        self.context.run(_remote.set, self)
        self._lock = threading.Lock()
        self._cancelled = False
        self._stop: Callable[[], object] | None = None

    async def follow(self, coroutine: Coroutine[Any, Any, _T]) -> _T:
        """Runs it, as a task that ``cancel`` reaches."""
        import asyncio

        loop, task = asyncio.get_running_loop(), asyncio.ensure_future(coroutine)
        with self._lock:
            self._stop = lambda: loop.call_soon_threadsafe(task.cancel)
            if self._cancelled:
                task.cancel()
        try:
            return await task
        finally:
            with self._lock:  # from here on the loop may be closed
                self._stop = None

    def cancel(self) -> None:
        with self._lock:
            self._cancelled = True
            if self._stop is not None:
                self._stop()


_remote: contextvars.ContextVar[Remote | None] = contextvars.ContextVar("remote", default=None)


async def _ask(
    name: Reference,
    transfer: Transfer | None,
    question: Callable[[RegistryClient], Coroutine[Any, Any, _T]],
) -> _T:
    from fastdock.registry.pull import Transfer, connect

    async with connect(name, transfer or Transfer.default()) as client:
        return await question(client)
