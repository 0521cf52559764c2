// Copies a directory's content, in the child (see base/child.h for what code there may use).
#pragma once

#include "base/child.h"

namespace fastdock::rootfs {

// Directories, regular files and symbolic links, with mode and owner, from one directory to another; other
// kinds of files are left out, as runc does.  Links are copied, never followed.  `name` is for the error.
bool copy_tree(int from, int to, const char* name, child::Failure& failure);

}  // namespace fastdock::rootfs
