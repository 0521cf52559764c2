// What a monitor is sent: requests, updates and plans of any bytes give an error or a value, never more.
#include <string>
#include <string_view>

#include "launch/wire.h"
#include "monitor/json.h"
#include "monitor/request.h"

extern "C" int LLVMFuzzerTestOneInput(const unsigned char* data, std::size_t size) {
  using namespace fastdock;
  // Past the mark of the build, which stops nearly everything else.
  std::string marked(launch::wire_format());
  marked.append(reinterpret_cast<const char*>(data), size);
  std::string_view bytes = marked;
  if (auto request = monitor::from_bytes(bytes)) (void)monitor::to_bytes(*request);
  (void)monitor::update_from_bytes(bytes);
  (void)launch::from_bytes(bytes);
  std::string escaped;
  monitor::append_escaped(escaped, bytes);
  monitor::append_base64(escaped, bytes);
  return 0;
}
