// What a floor program prepares once, and the small helpers of its parent side.
#pragma once

#include <string>

#include "launch.h"

namespace floor_bench {

// The result of a system call; a failure ends the program with `what` on stderr.
long must(const std::string& what, long result);
void write_file(const std::string& path, const std::string& text);
void write_maps(long pid);
int open_user_namespace(long pid);
int map_lower(const Shared& shared, int user_namespace);  // a detached id-mapped mount of the layer

Shared set_up(const Options& options);
void tear_down(const Shared& shared);

}  // namespace floor_bench
