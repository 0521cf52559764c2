// Running from something that a container cannot write to (CVE-2019-5736).
#pragma once

#include "base/error.h"

namespace fastdock::oci {

// Makes sure that /proc/self/exe is read-only for everybody, executing this program anew if need be, and that
// nobody can trace this process.  Called before a process is made that is on its way into a container.
Result<void> run_sealed(char** argv);

}  // namespace fastdock::oci
