"""What the C++ core offers.  Sizes are bytes; paths and names are str (surrogateescape for odd bytes).

Every function may raise ``KernelError`` (a system call failed); those that read archives raise
``ImageError`` for damaged or unsafe ones.
"""

from typing_extensions import Buffer

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
