// Compiled seccomp programs, kept as files and shared by all processes of this user: to read one costs tens
// of microseconds, to compile one ten milliseconds and more.
#pragma once

#include <linux/filter.h>

#include <cstddef>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "base/error.h"
#include "launch/seccomp.h"

namespace fastdock::launch {

// The program for `key`, from `directory` or else from `compile`, whose answer is then kept there.
//
// `key` holds everything that the program depends on: the bytes of a JSON profile, and whatever else the
// caller puts into it (capabilities); libseccomp's version and this code's are added here.
//
// The cache only ever saves time.  A file is used if the directory and it belong to this user and nobody else
// may write or read them (0700, 0600), it is a regular file with one name, and length, checksum and every
// instruction are in order; anything else is compiled anew, and replaced by rename(2), so that readers see
// the old file or the new one.  If the directory cannot be made or trusted, nothing is kept.
Result<std::vector<sock_filter>> cached_program(
    const std::string& directory, std::span<const std::byte> key,
    const std::function<Result<std::vector<sock_filter>>()>& compile);

// default_profile(), compiled or from the cache.
Result<std::vector<sock_filter>> cached_default_program(const std::string& directory,
                                                        CapabilitySet capabilities, bool with_i386);

}  // namespace fastdock::launch
