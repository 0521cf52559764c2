// Bytes of a cache file as a program: what is_seccomp_program() takes always ends, by a return, inside of it.
#include <linux/bpf_common.h>
#include <linux/seccomp.h>

#include <cstdlib>
#include <cstring>

#include "launch/seccomp_program.h"

extern "C" int LLVMFuzzerTestOneInput(const unsigned char* data, std::size_t size) {
  fastdock::launch::BpfProgram program(size / sizeof(sock_filter));
  if (program.empty()) return 0;
  std::memcpy(program.data(), data, program.size() * sizeof(sock_filter));
  if (!fastdock::launch::is_seccomp_program(program)) return 0;
  unsigned char call[sizeof(seccomp_data)] = {};
  std::memcpy(call, data, size < sizeof call ? size : sizeof call);
  unsigned a = 0;
  for (std::size_t i = 0;; ++i) {
    const sock_filter& instruction = program.at(i);  // aborts outside
    bool holds = false;
    switch (instruction.code) {
      case BPF_RET | BPF_K: return 0;
      case BPF_LD | BPF_W | BPF_ABS:
        if (instruction.k > sizeof call - 4) std::abort();
        std::memcpy(&a, call + instruction.k, sizeof a);
        continue;
      case BPF_ALU | BPF_AND | BPF_K: a &= instruction.k; continue;
      case BPF_JMP | BPF_JA: i += instruction.k; continue;
      case BPF_JMP | BPF_JEQ | BPF_K: holds = a == instruction.k; break;
      case BPF_JMP | BPF_JGT | BPF_K: holds = a > instruction.k; break;
      case BPF_JMP | BPF_JGE | BPF_K: holds = a >= instruction.k; break;
      case BPF_JMP | BPF_JSET | BPF_K: holds = (a & instruction.k) != 0; break;
      default: std::abort();
    }
    i += holds ? instruction.jt : instruction.jf;
  }
}
