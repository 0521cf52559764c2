// DNS messages from containers and from servers that they made us ask.
#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "net/dns/message.h"

using namespace fastdock::net::dns;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  View message(data, size);
  (void)addresses_in(message);
  (void)answers(message, message);
  auto read = read_query(message);
  if (!read) return 0;
  if (!*read) {
    if (make_refusal(message, read->error().code).size() != kHeaderSize) std::abort();
    return 0;
  }
  const Question& question = **read;
  (void)address_of_pointer(question.name);
  Answer answer{kA, {10, 0, 0, 1}};
  for (std::size_t limit : {kPlainUdpSize, question.udp_size, std::size_t{65535}}) {
    Message response = make_response(message, question, Code::kNoError, {answer, answer}, 5, limit);
    // It answers the question it was made for, and a resolver's reader finds what was put in.
    if (!answers(response, message)) std::abort();
    if (addresses_in(response).size() > 2) std::abort();
  }
  return 0;
}
