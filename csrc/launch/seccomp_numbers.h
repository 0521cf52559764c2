// The numbers of system calls by name: libseccomp's tables, and what is newer than them.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace fastdock::launch {

// Marks the numbers of the x32 ABI (asm/unistd.h, __X32_SYSCALL_BIT).
constexpr std::uint32_t kX32Bit = 0x40000000;

// Nothing if the call does not exist there.  `architecture` is one of SCMP_ARCH_X86_64, _X32 and _X86; x32
// numbers carry kX32Bit.  Calls that 32-bit x86 reaches through socketcall(2) as well as directly have the
// number of the direct one.
std::optional<std::uint32_t> syscall_number(std::uint32_t architecture, const char* name);

// Whether only this table knows the name, and libseccomp does not.
bool newer_than_libseccomp(const char* name);

}  // namespace fastdock::launch
