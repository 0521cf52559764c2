// Bytes of a cache file as a program: what is_seccomp_program() takes always ends, by a return, inside of it;
// and the optimizer's program answers the same.
#include <linux/seccomp.h>

#include <cstdlib>
#include <cstring>

#include "../support/seccomp_interpreter.h"
#include "launch/seccomp_optimize.h"
#include "launch/seccomp_program.h"

using fastdock::launch::BpfProgram;

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
  const auto answer = fastdock::launch::interpret(program, call);
  if (!answer || answer != fastdock::launch::interpret(better, call)) std::abort();
  return 0;
}
