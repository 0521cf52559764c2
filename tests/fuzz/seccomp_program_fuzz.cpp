// Bytes of a cache file as a program: what is_seccomp_program() takes always ends, by a return, inside of it;
// and the optimizer's program answers the same.
#include <linux/bpf_common.h>
#include <linux/seccomp.h>

#include <cstdlib>
#include <cstring>

#include "launch/seccomp_optimize.h"
#include "launch/seccomp_program.h"

namespace {

using fastdock::launch::BpfProgram;

unsigned run(const BpfProgram& program, const seccomp_data& call) {
  unsigned a = 0;
  for (std::size_t i = 0;; ++i) {
    if (i >= program.size()) std::abort();
    const sock_filter& instruction = program[i];
    bool holds = false;
    switch (instruction.code) {
      case BPF_RET | BPF_K:
        return instruction.k;
      case BPF_LD | BPF_W | BPF_ABS:
        if (instruction.k > sizeof call - 4) std::abort();
        std::memcpy(&a, reinterpret_cast<const char*>(&call) + instruction.k, sizeof a);
        continue;
      case BPF_ALU | BPF_AND | BPF_K:
        a &= instruction.k;
        continue;
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
        std::abort();
    }
    i += holds ? instruction.jt : instruction.jf;
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const unsigned char* data, std::size_t size) {
  if (size < sizeof(seccomp_data)) return 0;
  seccomp_data call;
  std::memcpy(&call, data, sizeof call);
  data += sizeof call;
  size -= sizeof call;
  BpfProgram program(size / sizeof(sock_filter));
  if (program.empty() || program.size() > 300) return 0;
  std::memcpy(program.data(), data, program.size() * sizeof(sock_filter));
  if (!fastdock::launch::is_seccomp_program(program)) return 0;
  const BpfProgram better = fastdock::launch::optimized(program);
  if (better.size() > program.size()) std::abort();
  if (run(program, call) != run(better, call)) std::abort();
  return 0;
}
