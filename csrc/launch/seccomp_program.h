// BPF instructions for seccomp: what libseccomp cannot express, put before its program; and the check that
// bytes from a file are such a program.
#pragma once

#include <linux/filter.h>

#include <cstdint>
#include <map>
#include <span>
#include <vector>

#include "launch/seccomp.h"

namespace fastdock::launch {

using BpfProgram = std::vector<sock_filter>;

// One rule for one system call number, with its action as the kernel wants it (SECCOMP_RET_*).
struct NumberedRule {
  std::uint32_t result = 0;
  std::vector<SeccompArgument> arguments;
};

// What is decided about one ABI before libseccomp's program runs.
struct AbiPrefix {
  std::uint32_t audit_architecture = 0;  // AUDIT_ARCH_*
  std::uint32_t mode_bit = 0;            // kX32Bit for x32, which shares its AUDIT_ARCH with x86-64
  // Numbers above it answer ENOSYS.
  std::optional<std::uint32_t> last_number;
  // In order; where none matches, libseccomp's program decides.
  std::map<std::uint32_t, std::vector<NumberedRule>> exceptions;
  // Calls that libseccomp does not know: where none matches, default_result.
  std::map<std::uint32_t, std::vector<NumberedRule>> new_calls;
};

// `filter` behind the prefixes.
BpfProgram with_prefix(std::span<const AbiPrefix> prefixes, std::uint32_t default_result,
                       std::span<const sock_filter> filter);

// Whether the kernel would take these instructions, and nothing in them is out of the ordinary: loads of
// aligned words of struct seccomp_data, comparisons, masks, jumps that stay inside and returns; the last one
// a return.  The kernel checks again (kernel/seccomp.c, seccomp_check_filter); this is for bytes of a file.
bool is_seccomp_program(std::span<const sock_filter> program);

}  // namespace fastdock::launch
