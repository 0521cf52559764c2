// The instructions of classic BPF that filters are made of (linux/bpf_common.h), by names of our own.
#pragma once

#include <linux/bpf_common.h>
#include <linux/filter.h>
#include <linux/seccomp.h>

#include <cstddef>
#include <cstdint>

namespace fastdock::launch {

inline constexpr std::uint16_t kLoad = BPF_LD | BPF_W | BPF_ABS;
inline constexpr std::uint16_t kAnd = BPF_ALU | BPF_AND | BPF_K;
inline constexpr std::uint16_t kReturn = BPF_RET | BPF_K;
inline constexpr std::uint16_t kJump = BPF_JMP | BPF_JA;
inline constexpr std::uint16_t kIfEqual = BPF_JMP | BPF_JEQ | BPF_K;
inline constexpr std::uint16_t kIfGreater = BPF_JMP | BPF_JGT | BPF_K;
inline constexpr std::uint16_t kIfGreaterEqual = BPF_JMP | BPF_JGE | BPF_K;
inline constexpr std::uint16_t kIfAnySet = BPF_JMP | BPF_JSET | BPF_K;

// Where a filter finds what it looks at.
inline constexpr std::uint32_t kNumberOffset = offsetof(seccomp_data, nr);
inline constexpr std::uint32_t kArchitectureOffset = offsetof(seccomp_data, arch);

constexpr sock_filter statement(std::uint16_t code, std::uint32_t k) { return {code, 0, 0, k}; }

}  // namespace fastdock::launch
