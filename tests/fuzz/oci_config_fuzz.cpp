// config.json is a stranger's: whatever it holds, reading it ends with a value or an error, within bounds.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>

#include "oci/config.h"

using namespace fastdock;
using namespace fastdock::oci;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::string text(reinterpret_cast<const char*>(data), size);
  auto document = Document::parse(text, "config.json");
  if (!document) {
    if (document.error().number == 0 || document.error().path.empty()) std::abort();
    return 0;
  }
  auto config = read_config(std::move(*document), "/bundle");
  if (!config) {
    // Every error says where.
    if (config.error().path.find("config.json") == std::string::npos) std::abort();
    return 0;
  }
  if (config->plan.argv.empty() || config->plan.working_directory[0] != '/' || !config->plan.root)
    std::abort();
  for (const auto& mount : config->plan.mounts)
    if (mount.destination[0] != '/') std::abort();
  // What is accepted is the same when it is written again.
  std::string again = config->document->root().canonical();
  auto second = Document::parse(again, "config.json");
  if (!second || !read_config(std::move(*second), "/bundle")) std::abort();
  if (config->seccomp) (void)read_seccomp(config->seccomp, *config->document);
  return 0;
}
