// Said in plans and read by the child, which includes nothing that could allocate.
#pragma once

#include <cstdint>

namespace fastdock::rootfs {

// How the root becomes the root directory.
enum class RootChange : std::uint8_t {
  kPivot,   // pivot_root(2); what was there before is gone
  kMove,    // a moved mount and chroot(2), for a host whose root is the initramfs, which cannot pivot
  kChroot,  // chroot(2) alone, in the caller's mount namespace
};

}  // namespace fastdock::rootfs
