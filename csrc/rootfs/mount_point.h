// Places below a container's root, made where they are missing; in the child.
#pragma once

#include "base/child.h"

namespace fastdock::rootfs {

// Opens the directory that holds the last component of `path`, making what is missing; `name` is that
// component.  -1 with `failure` set.
int open_parent(int root, const char* path, const char*& name, child::Failure& failure);

// An O_PATH descriptor of `path` in the root; missing directories (and the file, unless `directory`) are
// made, also where a symbolic link names them.
int open_or_create(int root, const char* path, bool directory, child::Failure& failure);

// The same for what the kernel's own file systems are mounted on: never through a link in its last place
// (CVE-2019-19921).
int open_plain_directory(int root, const char* path, child::Failure& failure);

}  // namespace fastdock::rootfs
