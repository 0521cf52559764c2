// The namespaces of one user, and how they come about.
#pragma once

#include <string>

#include "base/error.h"
#include "base/fd.h"

namespace fastdock::rootless {

// A file's number in nsfs tells one namespace from another while it lives.
struct NamespaceNumbers {
  std::uint64_t user = 0, mount = 0, net = 0;
};

// The namespaces of a holder that has died, which its containers' monitors still are in.
struct Survivors {
  Fd user, mount, net;
};

// Empty descriptors: none is left of them.
Survivors find_survivors(const NamespaceNumbers& numbers);

Result<NamespaceNumbers> read_numbers(const std::string& path);
Result<void> write_numbers(const std::string& path, const NamespaceNumbers& numbers);
std::uint64_t number_of(const std::string& path);

}  // namespace fastdock::rootless
