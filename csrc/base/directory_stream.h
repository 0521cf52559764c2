// A directory that is being read: opendir(3), fdopendir(3), readdir(3).
#pragma once

#include <dirent.h>

#include <memory>

namespace fastdock {

struct CloseDirectory {
  void operator()(DIR* directory) const { ::closedir(directory); }
};

using DirectoryStream = std::unique_ptr<DIR, CloseDirectory>;

}  // namespace fastdock
