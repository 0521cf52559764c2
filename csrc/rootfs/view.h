// A container's files as the host sees them when it does not run: its layers and upper directory, stacked.
#pragma once

#include <string>
#include <vector>

#include "base/error.h"
#include "base/fd.h"
#include "rootfs/mount.h"

namespace fastdock::rootfs {

// A detached mount, which goes with its descriptor.  `layers`, the lowest first, show their ids through `maps`;
// `directory` holds upper/ and work/; without it the view is read-only.  EINVAL kKernelTooOld: before Linux 6.15
// with maps.
Result<Fd> open_view(const std::vector<std::string>& layers, const std::string& directory, const IdMaps& maps);

}  // namespace fastdock::rootfs
