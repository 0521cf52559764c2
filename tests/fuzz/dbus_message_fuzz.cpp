// What a bus sends: any bytes give an error or a message.
#include <string_view>

#include "dbus/message.h"

extern "C" int LLVMFuzzerTestOneInput(const unsigned char* data, std::size_t size) {
  using namespace fastdock::dbus;
  std::string_view bytes(reinterpret_cast<const char*>(data), size);
  (void)size_of_message(bytes);
  if (auto message = parse_message(bytes)) (void)message->error_text();
  return 0;
}
