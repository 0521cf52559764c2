#include "dbus/message.h"

#include <bit>
#include <cerrno>

#include "dbus/reader.h"

namespace fastdock::dbus {
namespace {

constexpr char kByteOrder = std::endian::native == std::endian::little ? 'l' : 'B';
constexpr std::uint8_t kProtocol = 1;

// "Header Fields"
enum Field : std::uint8_t {
  kPath = 1,
  kInterface,
  kMember,
  kErrorName,
  kReplySerial,
  kDestination,
  kSender,
  kSignature,
};

std::unexpected<Error> bad_message(std::string_view what) {
  return failed_with(EBADMSG, Operation::kTalkToBus, what);
}

void put_field(Writer& writer, Field field, std::string_view type, std::string_view value) {
  if (value.empty()) return;
  writer.structure().byte(field).signature(type);
  if (type == "g")
    writer.signature(value);
  else
    writer.text(value);
}

Result<void> read_text(Reader& reader, std::string_view found, std::string_view wanted, std::string& target) {
  if (found != wanted) return bad_message("a header field of the wrong type");
  FASTDOCK_TRY(target, wanted == "g" ? reader.signature() : reader.text());
  return {};
}

Result<void> read_field(Reader& reader, Message& message) {
  FASTDOCK_CHECK(reader.align(8));
  FASTDOCK_TRY(std::uint8_t field, reader.byte());
  FASTDOCK_TRY(std::string type, reader.signature());
  switch (field) {
    case kPath:
      return read_text(reader, type, "o", message.path);
    case kInterface:
      return read_text(reader, type, "s", message.interface);
    case kMember:
      return read_text(reader, type, "s", message.member);
    case kErrorName:
      return read_text(reader, type, "s", message.error_name);
    case kDestination:
      return read_text(reader, type, "s", message.destination);
    case kSender:
      return read_text(reader, type, "s", message.sender);
    case kSignature:
      return read_text(reader, type, "g", message.signature);
    case kReplySerial: {
      if (type != "u") return bad_message("a header field of the wrong type");
      FASTDOCK_TRY(message.reply_serial, reader.u32());
      return {};
    }
    default:
      break;
  }
  FASTDOCK_TRY(std::size_t length, length_of_type(type));
  if (length != type.size()) return bad_message("a header field of more than one value");
  return reader.skip(type);
}

}  // namespace

std::string Message::error_text() const {
  if (signature.starts_with('s'))
    if (auto words = Reader(body).text()) return *words;
  return error_name;
}

std::string to_bytes(const Message& message) {
  Writer writer;
  writer.byte(static_cast<std::uint8_t>(kByteOrder)).byte(static_cast<std::uint8_t>(message.type));
  writer.byte(0).byte(kProtocol);
  writer.u32(static_cast<std::uint32_t>(message.body.size())).u32(message.serial);
  auto fields = writer.open_array(8);
  put_field(writer, kPath, "o", message.path);
  put_field(writer, kInterface, "s", message.interface);
  put_field(writer, kMember, "s", message.member);
  put_field(writer, kErrorName, "s", message.error_name);
  if (message.reply_serial != 0)
    writer.structure().byte(kReplySerial).signature("u").u32(message.reply_serial);
  put_field(writer, kDestination, "s", message.destination);
  put_field(writer, kSender, "s", message.sender);
  put_field(writer, kSignature, "g", message.signature);
  writer.close_array(fields);
  return writer.align(8).bytes() + message.body;
}

Result<std::size_t> size_of_message(std::string_view fixed_header) {
  if (fixed_header.size() < kFixedHeader) return bad_message("a message that ends too soon");
  if (fixed_header[0] != kByteOrder) return bad_message("a message in another byte order");
  Reader reader(fixed_header.substr(0, kFixedHeader));
  FASTDOCK_CHECK(reader.skip("yyy"));
  FASTDOCK_TRY(std::uint8_t protocol, reader.byte());
  if (protocol != kProtocol) return bad_message("a message of another version of D-Bus");
  FASTDOCK_TRY(std::uint32_t body, reader.u32());
  FASTDOCK_CHECK(reader.u32());
  FASTDOCK_TRY(std::uint32_t fields, reader.u32());
  std::uint64_t size = kFixedHeader + (std::uint64_t{fields} + 7) / 8 * 8 + body;
  if (size > kLargestMessage) return bad_message("a message that is too large");
  return static_cast<std::size_t>(size);
}

Result<Message> parse_message(std::string_view bytes) {
  FASTDOCK_TRY(std::size_t size, size_of_message(bytes));
  if (size != bytes.size()) return bad_message("a message that does not end where it says");
  Message message;
  Reader reader(bytes);
  FASTDOCK_CHECK(reader.byte());
  FASTDOCK_TRY(std::uint8_t type, reader.byte());
  message.type = static_cast<MessageType>(type);  // "Unknown types must be ignored": by who asked
  FASTDOCK_CHECK(reader.skip("yy"));
  FASTDOCK_TRY(std::uint32_t body, reader.u32());
  FASTDOCK_TRY(message.serial, reader.u32());
  if (message.serial == 0) return bad_message("a message without a serial number");
  FASTDOCK_TRY(std::size_t fields, reader.open_array(8));
  const std::size_t end = reader.position() + fields;
  while (reader.position() < end) FASTDOCK_CHECK(read_field(reader, message));
  if (reader.position() != end) return bad_message("header fields that do not end where they say");
  FASTDOCK_CHECK(reader.align(8));
  message.body = bytes.substr(reader.position());
  if (message.body.size() != body) return bad_message("a message that does not end where it says");
  // The whole of the body is what its signature says.
  Reader content(message.body);
  FASTDOCK_CHECK(content.skip(message.signature));
  if (!content.at_end()) return bad_message("a body that is not what its signature says");
  return message;
}

}  // namespace fastdock::dbus
