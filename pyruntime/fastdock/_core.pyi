"""What the C++ core offers.  Sizes are bytes; paths and names are str (surrogateescape for odd bytes).

Every function may raise ``KernelError`` (a system call failed); those that read archives raise
``ImageError`` for damaged or unsafe ones.
"""

import os
from collections.abc import Sequence

from typing_extensions import Buffer
"""The C++ core: plain values in, plain values or a KernelError out.  One section per file of csrc/python."""
# errors.cpp

StrPath = str | os.PathLike[str]

def operations() -> list[str]:
    """The text of each operation that an error can name."""

# --- layers (csrc/layer) ---

class LayerResult:
    """A layer that went through."""

    @property
    def digest(self) -> str:
        """``sha256:…`` of the bytes as transferred."""
    @property
    def diff_id(self) -> str:
        """``sha256:…`` of the tar."""
    @property
    def compressed_size(self) -> int: ...
    @property
    def size(self) -> int:
        """Of the tar."""
    @property
    def entries(self) -> int:
        """Files, links, directories and whiteouts in the tar."""
    @property
    def skipped_attributes(self) -> int:
        """Extended attributes that the file system does not take."""
    @property
    def repairs(self) -> bytes:
        """What only the layers below can complete; keep it for ``repair_layers``."""

class LayerWriter:
    """One layer, unpacked into an empty directory as its bytes arrive.

    gzip (any number of members), zstd (any number of frames) and plain tar are told apart by the first bytes.
    After an error the directory holds what was made until then, and the caller removes it.
    """

    def __init__(
        self,
        destination: StrPath,
        *,
        max_entries: int = ...,
        max_size: int = ...,
        max_name: int = ...,
        max_xattr: int = ...,
    ) -> None: ...
    def write(self, data: Buffer) -> None:
        """Takes the next compressed bytes; waits while unpacking is behind (without the GIL)."""
    def finish(self) -> LayerResult:
        """Waits until everything is unpacked."""
    def abort(self) -> None:
        """Stops, from any thread; the directory is left to the caller."""

def apply_layer(
    source_fd: int,
    destination: StrPath,
    *,
    max_entries: int = ...,
    max_size: int = ...,
    max_name: int = ...,
    max_xattr: int = ...,
) -> LayerResult:
    """Unpacks all that can be read from a descriptor."""
# security.cpp
DEFAULT_CAPABILITIES: int
"""The 14 capabilities that Docker gives a container, as a set."""
def default_seccomp(capabilities: int, i386: bool = False, cache: str = "") -> bytes:
    """The BPF program (struct sock_filter[]) of fastdock's own profile.
    :param capabilities: the container's bounding set; some system calls come with a capability.
    :param i386: let 32-bit programs run as well.
    :param cache: a directory of this user alone (0700) where compiled programs are kept; "" compiles anew.
    :raises KernelError: libseccomp or the kernel refuses.
def compile_seccomp(profile: dict[str, object], capabilities: int) -> tuple[bytes, int]:
    """The BPF program of a profile in Docker's or the OCI specification's JSON, and seccomp(2)'s flags for it.
    Docker's ``includes``, ``excludes``, ``archMap`` and ``minKernel`` are honoured for this machine and
    ``capabilities``.  Unknown system calls are skipped, as in runc.
    :raises KernelError: EINVAL, with what is malformed or contradictory in ``path``.
def capability_set(names: list[str]) -> int:
    """The set of the names, with or without ``CAP_``, in any case; ``ALL`` is all of them.
    :raises KernelError: EINVAL, with the unknown name in ``path``.
def capability_names(capabilities: int) -> list[str]:
    """``["CAP_CHOWN", …]``, by number."""
def bounding_set() -> int:
    """What this process may pass on at most."""
def last_capability() -> int:
    """The highest capability that this kernel knows."""

def repair_layers(layers: Sequence[tuple[StrPath, bytes]], destination: StrPath) -> int:
    """What a lone layer cannot know: hard links into lower layers, attributes of directories it does not list.

    ``layers`` are (path, ``LayerResult.repairs``) from the bottom to the top of one image.  Fills
    ``destination``, an empty directory, to be stacked above all of them (kept by chain ID), and returns how
    many files that took; 0: nothing is needed, and the directory is to be left out.
    """

def write_diff(
    upper: StrPath, output_fd: int, *, uid_offset: int = 0, gid_offset: int = 0, compression: str = "none"
) -> LayerResult:
    """Writes an overlay's upper directory as an OCI layer, the same bytes for the same files.

    Offsets are taken from owners (the first ids of the container's user namespace).  ``compression`` is none,
    gzip or zstd.
    """

def write_directory_diff(
    before: StrPath,
    after: StrPath,
    output_fd: int,
    *,
    uid_offset: int = 0,
    gid_offset: int = 0,
    compression: str = "none",
) -> LayerResult:
    """Writes the layer that turns the tree ``before`` into the tree ``after``."""

def write_tar(
    directory: StrPath, output_fd: int, *, uid_offset: int = 0, gid_offset: int = 0, compression: str = "none"
) -> LayerResult:
    """Writes a whole directory, without what is mounted in it."""

def recompress(source_fd: int, output_fd: int, compression: str) -> LayerResult:
    """Writes the same tar (gzip, zstd or plain) in another compression: none, gzip or zstd.

    The result's digests and sizes are those of what was written; ``entries`` is 0.
    """

def changes(upper: StrPath, lower: Sequence[StrPath]) -> list[tuple[str, str]]:
    """What an upper directory changes in the layers below (bottom to top): ("A" | "C" | "D", "/path")."""
