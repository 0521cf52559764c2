"""What the C++ core offers.  Sizes are bytes; paths and names are str (surrogateescape for odd bytes).

Every function may raise ``KernelError`` (a system call failed); those that read archives raise
``ImageError`` for damaged or unsafe ones.
"""

from typing_extensions import Buffer
"""The C++ core: plain values in, plain values or a KernelError out.  One section per file of csrc/python."""
# errors.cpp

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
        destination: str,
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
    destination: str,
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
