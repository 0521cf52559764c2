// seccomp: which system calls a container may make, and the BPF program that says so to the kernel.
//
// A profile is a plain value in the OCI runtime specification's terms (config-linux.md, "Seccomp").
// compile() turns it into a program for seccomp(2); seccomp_cache.h keeps compiled programs, because
// libseccomp needs 10 ms and more for a full profile.
#pragma once

#include <linux/filter.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "launch/capabilities.h"

namespace fastdock::launch {

enum class SeccompAction : std::uint8_t {
  kKillProcess,
  kKillThread,
  kTrap,
  kErrno,  // answers errno_value, EPERM unless given
  kTrace,  // tells the tracer errno_value; without a tracer ENOSYS
  kAllow,
  kLog,     // allowed, and logged
  kNotify,  // asks the process that holds the listener
};

enum class SeccompOperator : std::uint8_t {
  kNotEqual,
  kLess,
  kLessEqual,
  kEqual,
  kGreaterEqual,
  kGreater,
  kMaskedEqual,  // (argument & value) == value_two
};

// A condition on one argument.  The kernel shows filters all 64 bits of an argument, and so are they
// compared.  Where the kernel itself looks at 32 bits only (an int or unsigned argument), a condition
// without a mask can be evaded by setting a higher bit (CVE-2019-10063): use kMaskedEqual.
struct SeccompArgument {
  std::uint32_t index = 0;  // 0..5
  std::uint64_t value = 0;
  std::uint64_t value_two = 0;
  SeccompOperator op = SeccompOperator::kEqual;
};

// All arguments must match; but as in runc, if two conditions name the same argument, each condition is a
// rule of its own.  Names that do not exist on an architecture are skipped there, unknown names everywhere.
struct SeccompRule {
  std::vector<std::string> names;
  SeccompAction action = SeccompAction::kAllow;
  std::optional<std::uint32_t> errno_value;  // for kErrno and kTrace only
  std::vector<SeccompArgument> arguments;
};

enum class SeccompArchitecture : std::uint32_t {};  // a libseccomp token, SCMP_ARCH_*

// The bits of seccomp(2)'s flags argument that a profile may ask for.
constexpr std::uint32_t kSeccompTsync = 1U << 0;
constexpr std::uint32_t kSeccompLog = 1U << 1;
constexpr std::uint32_t kSeccompSpecAllow = 1U << 2;
constexpr std::uint32_t kSeccompNewListener = 1U << 3;
constexpr std::uint32_t kSeccompWaitKillable = 1U << 5;

struct SeccompProfile {
  SeccompAction default_action = SeccompAction::kErrno;
  std::optional<std::uint32_t> default_errno;
  // The native architecture is always part of it; these come on top.
  std::vector<SeccompArchitecture> architectures;
  // kSeccomp*; see load_flags().  A profile without a list of flags gets this one, as in runc: no tax on
  // speculative store bypass (kernels before 5.16 take it for granted that a filter wants it).
  std::uint32_t flags = kSeccompSpecAllow;
  std::vector<SeccompRule> rules;
  // Looked at before `rules`, in order; where none matches, `rules` decide.  libseccomp has no "all but":
  // kMaskedEqual has no opposite, and an unconditional rule swallows conditional ones.
  std::vector<SeccompRule> exceptions;
  // The errno that calls of other ABIs get; none: the thread is killed (as libseccomp and runc do).
  std::optional<std::uint32_t> foreign_abi_errno;
  // Where the descriptor of the listener goes, and what is sent along with it (kNotify).
  std::string listener_path;
  std::string listener_metadata;
};

// The program for seccomp(SECCOMP_SET_MODE_FILTER).  Fails with EINVAL where the profile contradicts itself
// or would stop the runtime from handing over the listener, with the offending name in `path`.
//
// System calls with a higher number than any that the profile names answer ENOSYS instead of the default
// action, unless that lets calls through: who wrote the profile could not know them, and C libraries fall
// back to older calls on ENOSYS but not on EPERM (runc issue 2151, pull request 2750).
Result<std::vector<sock_filter>> compile(const SeccompProfile& profile);

// The flags for seccomp(2): the profile's own, and the listener where a rule asks for one.
std::uint32_t load_flags(const SeccompProfile& profile);

// fastdock's own allow-list for containers with these capabilities: refusals answer EPERM, what is obsolete
// or better done otherwise answers ENOSYS, nothing is killed.  Only the native ABI; `with_i386` adds 32-bit
// programs, for which address families of socketcall(2) cannot be filtered (they are behind a pointer).
SeccompProfile default_profile(CapabilitySet capabilities, bool with_i386);

// The words of the specification: "SCMP_ACT_ERRNO", "SCMP_CMP_EQ", "SCMP_ARCH_X86_64",
// "SECCOMP_FILTER_FLAG_LOG".  Nothing for unknown ones.
std::optional<SeccompAction> parse_seccomp_action(std::string_view word);
std::optional<SeccompOperator> parse_seccomp_operator(std::string_view word);
std::optional<SeccompArchitecture> parse_seccomp_architecture(std::string_view word);
std::optional<std::uint32_t> parse_seccomp_flag(std::string_view word);

}  // namespace fastdock::launch
