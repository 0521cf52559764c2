"""The C++ core: plain values in, plain values or a KernelError out.  One section per file of csrc/python."""

# errors.cpp

def operations() -> list[str]:
    """The text of each operation that an error can name."""

# security.cpp

DEFAULT_CAPABILITIES: int
"""The 14 capabilities that Docker gives a container, as a set."""

def default_seccomp(capabilities: int, i386: bool = False, cache: str = "") -> bytes:
    """The BPF program (struct sock_filter[]) of fastdock's own profile.

    :param capabilities: the container's bounding set; some system calls come with a capability.
    :param i386: let 32-bit programs run as well.
    :param cache: a directory of this user alone (0700) where compiled programs are kept; "" compiles anew.
    :raises KernelError: libseccomp or the kernel refuses.
    """

def compile_seccomp(profile: dict[str, object], capabilities: int) -> tuple[bytes, int]:
    """The BPF program of a profile in Docker's or the OCI specification's JSON, and seccomp(2)'s flags for it.

    Docker's ``includes``, ``excludes``, ``archMap`` and ``minKernel`` are honoured for this machine and
    ``capabilities``.  Unknown system calls are skipped, as in runc.

    :raises KernelError: EINVAL, with what is malformed or contradictory in ``path``.
    """

def capability_set(names: list[str]) -> int:
    """The set of the names, with or without ``CAP_``, in any case; ``ALL`` is all of them.

    :raises KernelError: EINVAL, with the unknown name in ``path``.
    """

def capability_names(capabilities: int) -> list[str]:
    """``["CAP_CHOWN", …]``, by number."""

def bounding_set() -> int:
    """What this process may pass on at most."""

def last_capability() -> int:
    """The highest capability that this kernel knows."""
