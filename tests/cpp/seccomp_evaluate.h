// Tests' own interpreter of seccomp programs.
#pragma once

#include <gtest/gtest.h>
#include <linux/audit.h>
#include <linux/bpf_common.h>
#include <linux/seccomp.h>

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "launch/seccomp_program.h"

namespace fastdock::launch {

// What the kernel would answer: the instructions that seccomp allows, one by one (Documentation/networking/
// filter.rst).
inline std::uint32_t evaluate(const BpfProgram& program, const seccomp_data& data) {
  std::uint32_t a = 0;
  for (std::size_t i = 0; i < program.size(); ++i) {
    const sock_filter& instruction = program[i];
    bool holds = false;
    switch (instruction.code) {
      case BPF_LD | BPF_W | BPF_ABS:
        std::memcpy(&a, reinterpret_cast<const char*>(&data) + instruction.k, sizeof a);
        continue;
      case BPF_ALU | BPF_AND | BPF_K:
        a &= instruction.k;
        continue;
      case BPF_RET | BPF_K:
        return instruction.k;
      case BPF_JMP | BPF_JA:
        i += instruction.k;
        continue;
      case BPF_JMP | BPF_JEQ | BPF_K:
        holds = a == instruction.k;
        break;
      case BPF_JMP | BPF_JGT | BPF_K:
        holds = a > instruction.k;
        break;
      case BPF_JMP | BPF_JGE | BPF_K:
        holds = a >= instruction.k;
        break;
      case BPF_JMP | BPF_JSET | BPF_K:
        holds = (a & instruction.k) != 0;
        break;
      default:
        ADD_FAILURE() << "instruction " << instruction.code;
        return 0;
    }
    i += holds ? instruction.jt : instruction.jf;
  }
  ADD_FAILURE() << "ran off the end";
  return 0;
}

struct Call {
  std::uint32_t number;
  std::uint64_t arguments[6] = {};
  std::uint32_t architecture = AUDIT_ARCH_X86_64;
};

inline std::uint32_t answer(const BpfProgram& program, const Call& call) {
  seccomp_data data{};
  data.nr = static_cast<int>(call.number);
  data.arch = call.architecture;
  std::copy(std::begin(call.arguments), std::end(call.arguments), data.args);
  return evaluate(program, data);
}

constexpr std::uint32_t kAllowed = SECCOMP_RET_ALLOW;
constexpr std::uint32_t error(int number) { return SECCOMP_RET_ERRNO | static_cast<std::uint32_t>(number); }

}  // namespace fastdock::launch
