#include "base/sealed.h"
#include "launch/init/init_program.h"
#include "launch/init_descriptor.h"

namespace fastdock::launch {

Result<int> init_descriptor() {
  static const Result<Fd> memory = sealed_memory("fastdock-init", init_program());
  if (!memory) return std::unexpected(memory.error());
  return memory->get();
}

}  // namespace fastdock::launch
