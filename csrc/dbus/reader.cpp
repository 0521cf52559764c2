#include "dbus/reader.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace fastdock::dbus {
namespace {

// "Valid Signatures": arrays and structs may be nested 32 deep each; a variant may hold another.
constexpr int kDeepest = 64;

std::unexpected<Error> bad_value(std::string_view what) {
  return failed_with(EBADMSG, Operation::kTalkToBus, what);
}

// 0: no type.
std::size_t alignment_of(char type) {
  switch (type) {
    case 'y':
    case 'g':
    case 'v':
      return 1;
    case 'n':
    case 'q':
      return 2;
    case 'b':
    case 'i':
    case 'u':
    case 's':
    case 'o':
    case 'a':
    case 'h':
      return 4;
    case 'x':
    case 't':
    case 'd':
    case '(':
    case '{':
      return 8;
    default:
      return 0;
  }
}

Result<std::size_t> type_length(std::string_view signature, int depth) {
  if (signature.empty() || alignment_of(signature.front()) == 0 || depth > kDeepest)
    return bad_value("signature of a message");
  if (signature.front() == 'a') {
    FASTDOCK_TRY(std::size_t element, type_length(signature.substr(1), depth + 1));
    return element + 1;
  }
  const char open = signature.front();
  if (open != '(' && open != '{') return 1;
  const char close = open == '(' ? ')' : '}';
  std::size_t at = 1;
  while (at < signature.size() && signature[at] != close) {
    FASTDOCK_TRY(std::size_t member, type_length(signature.substr(at), depth + 1));
    at += member;
  }
  if (at == 1 || at >= signature.size()) return bad_value("signature of a message");
  return at + 1;
}

}  // namespace

Result<std::size_t> length_of_type(std::string_view signature) { return type_length(signature, 0); }

Result<std::string_view> Reader::take(std::size_t count) {
  if (count > bytes_.size() - at_) return bad_value("a message that ends too soon");
  std::string_view taken = bytes_.substr(at_, count);
  at_ += count;
  return taken;
}

Result<void> Reader::align(std::size_t alignment) {
  FASTDOCK_TRY(std::string_view padding, take((alignment - at_ % alignment) % alignment));
  if (padding.find_first_not_of('\0') != std::string_view::npos) return bad_value("padding that is not zero");
  return {};
}

template <class T>
Result<T> Reader::number() {
  FASTDOCK_CHECK(align(sizeof(T)));
  FASTDOCK_TRY(std::string_view bytes, take(sizeof(T)));
  T value;
  std::memcpy(&value, bytes.data(), sizeof value);
  return value;
}
template Result<std::uint16_t> Reader::number();
template Result<std::uint32_t> Reader::number();
template Result<std::uint64_t> Reader::number();

Result<std::uint8_t> Reader::byte() {
  FASTDOCK_TRY(std::string_view bytes, take(1));
  return static_cast<std::uint8_t>(bytes.front());
}

Result<bool> Reader::boolean() {
  FASTDOCK_TRY(std::uint32_t value, u32());
  if (value > 1) return bad_value("a boolean that is neither true nor false");
  return value == 1;
}

Result<std::string> Reader::text() {
  FASTDOCK_TRY(std::uint32_t length, u32());
  FASTDOCK_TRY(std::string_view bytes, take(std::size_t{length} + 1));
  if (bytes.find('\0') != length) return bad_value("a string that does not end where it says");
  return std::string(bytes.substr(0, length));
}

Result<std::string> Reader::signature() {
  FASTDOCK_TRY(std::uint8_t length, byte());
  FASTDOCK_TRY(std::string_view bytes, take(std::size_t{length} + 1));
  if (bytes.find('\0') != length) return bad_value("a signature that does not end where it says");
  std::string_view types = bytes.substr(0, length);
  for (std::size_t at = 0; at < types.size();) {
    FASTDOCK_TRY(std::size_t type, length_of_type(types.substr(at)));
    at += type;
  }
  return std::string(types);
}

Result<std::size_t> Reader::open_array(std::size_t alignment_of_elements) {
  FASTDOCK_TRY(std::uint32_t length, u32());
  FASTDOCK_CHECK(align(alignment_of_elements));
  if (length > bytes_.size() - at_) return bad_value("an array that is longer than its message");
  return length;
}

Result<void> Reader::skip_one(std::string_view type, int depth) {
  if (depth > kDeepest) return bad_value("values that are nested too deep");
  auto done = [](const auto& result) -> Result<void> {
    if (!result) return std::unexpected(result.error());
    return {};
  };
  switch (type.front()) {
    case 'y':
      return done(byte());
    case 'b':
      return done(boolean());
    case 'n':
    case 'q':
      return done(u16());
    case 'i':
    case 'u':
    case 'h':
      return done(u32());
    case 'x':
    case 't':
    case 'd':
      return done(u64());
    case 's':
    case 'o':
      return done(text());
    case 'g':
      return done(signature());
    case 'v': {
      auto inner = signature();
      if (!inner) return std::unexpected(std::move(inner.error()));
      FASTDOCK_TRY(std::size_t length, length_of_type(*inner));
      if (length != inner->size()) return bad_value("a variant of more than one value");
      return skip_one(*inner, depth + 1);
    }
    case 'a': {
      std::string_view element = type.substr(1);
      FASTDOCK_TRY(std::size_t length, open_array(alignment_of(element.front())));
      const std::size_t end = at_ + length;
      while (at_ < end) FASTDOCK_CHECK(skip_one(element, depth + 1));
      return at_ == end ? Result<void>{} : bad_value("an array that does not end where it says");
    }
    default:
      break;
  }
  FASTDOCK_CHECK(align(8));
  std::string_view members = type.substr(1, type.size() - 2);
  while (!members.empty()) {
    FASTDOCK_TRY(std::size_t length, length_of_type(members));
    FASTDOCK_CHECK(skip_one(members.substr(0, length), depth + 1));
    members.remove_prefix(length);
  }
  return {};
}

Result<void> Reader::skip(std::string_view signature) {
  while (!signature.empty()) {
    FASTDOCK_TRY(std::size_t length, length_of_type(signature));
    FASTDOCK_CHECK(skip_one(signature.substr(0, length), 0));
    signature.remove_prefix(length);
  }
  return {};
}

Result<std::string> Reader::text_variant() {
  auto type = signature();
  if (!type) return std::unexpected(std::move(type.error()));
  if (*type != "s" && *type != "o") return bad_value("a value that is no string");
  return text();
}

}  // namespace fastdock::dbus
