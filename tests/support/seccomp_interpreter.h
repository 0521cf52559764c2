// An interpreter of seccomp programs, for tests and fuzz targets.
#pragma once

#include <linux/bpf_common.h>
#include <linux/seccomp.h>

#include <cstdint>
#include <cstring>
#include <optional>

#include "launch/seccomp_program.h"

namespace fastdock::launch {

// What the kernel would answer: the instructions that seccomp allows, one by one (Documentation/networking/
// filter.rst).  nullopt: it would not have taken the program.
inline std::optional<std::uint32_t> interpret(const BpfProgram& program, const seccomp_data& data) {
  std::uint32_t a = 0;
  for (std::size_t i = 0; i < program.size(); ++i) {
    const sock_filter& instruction = program[i];
    bool holds = false;
    switch (instruction.code) {
      case BPF_LD | BPF_W | BPF_ABS:
        if (instruction.k > sizeof data - sizeof a) return std::nullopt;
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
        return std::nullopt;
    }
    i += holds ? instruction.jt : instruction.jf;
  }
  return std::nullopt;
}

}  // namespace fastdock::launch
