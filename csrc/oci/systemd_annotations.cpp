// GVariant text, as far as properties of scopes need it:
// https://docs.gtk.org/glib/gvariant-text-format.html
#include <array>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <limits>
#include <optional>

#include "oci/systemd_properties.h"

namespace fastdock::oci {
namespace {

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && text.front() == ' ') text.remove_prefix(1);
  while (!text.empty() && text.back() == ' ') text.remove_suffix(1);
  return text;
}

// A string in ' or " at the start of `text`, which is taken off.
std::optional<std::string> take_quoted(std::string_view& text) {
  if (text.empty() || (text.front() != '\'' && text.front() != '"')) return std::nullopt;
  const char quote = text.front();
  std::string value;
  for (std::size_t i = 1; i < text.size(); ++i) {
    char c = text[i];
    if (c == quote) {
      text.remove_prefix(i + 1);
      return value;
    }
    if (c == '\\') {
      if (++i == text.size()) return std::nullopt;
      constexpr std::string_view kEscapes = "abfnrtv";
      constexpr std::string_view kMeanings = "\a\b\f\n\r\t\v";
      auto which = kEscapes.find(text[i]);
      if (text[i] == 'u' || text[i] == 'U') return std::nullopt;
      c = which == std::string_view::npos ? text[i] : kMeanings[which];
    }
    if (c == '\0') return std::nullopt;
    value += c;
  }
  return std::nullopt;
}

struct NumberType {
  std::string_view keyword;
  char type;
  __int128 least, most;
};
template <class T>
constexpr NumberType number_type(std::string_view keyword, char type) {
  return {keyword, type, std::numeric_limits<T>::min(), std::numeric_limits<T>::max()};
}
constexpr auto kNumberTypes = std::to_array<NumberType>({
    number_type<std::int32_t>("int32", 'i'),  // the first: of a number without a type
    number_type<std::uint8_t>("byte", 'y'),
    number_type<std::int16_t>("int16", 'n'),
    number_type<std::uint16_t>("uint16", 'q'),
    number_type<std::uint32_t>("uint32", 'u'),
    number_type<std::int64_t>("int64", 'x'),
    number_type<std::uint64_t>("uint64", 't'),
});

struct Number {
  char type = 'i';
  std::uint64_t bits = 0;  // two's complement
  bool negative = false;
};

std::optional<Number> parse_number(std::string_view text) {
  const NumberType* type = &kNumberTypes.front();
  for (const NumberType& each : kNumberTypes)
    if (text.starts_with(std::string(each.keyword) + " ")) {
      type = &each;
      text = trimmed(text.substr(each.keyword.size()));
    } else if (text.size() > 3 && text[0] == '@' && text[1] == each.type && text[2] == ' ') {
      type = &each;
      text = trimmed(text.substr(2));
    }
  Number number{type->type, 0, text.starts_with('-')};
  if (number.negative) text.remove_prefix(1);
  int base = text.starts_with("0x") ? 16 : text.size() > 1 && text.starts_with('0') ? 8 : 10;
  if (base == 16) text.remove_prefix(2);
  std::uint64_t magnitude = 0;
  auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), magnitude, base);
  if (text.empty() || problem != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  __int128 value = number.negative ? -static_cast<__int128>(magnitude) : static_cast<__int128>(magnitude);
  if (value < type->least || value > type->most) return std::nullopt;
  number.bits = static_cast<std::uint64_t>(value);
  return number;
}

void put(const std::string& name, const Number& number, Properties& properties) {
  dbus::Writer& writer = properties.value(name, std::string_view(&number.type, 1));
  switch (number.type) {
    case 'y':
      writer.byte(static_cast<std::uint8_t>(number.bits));
      break;
    case 'n':
    case 'q':
      writer.u16(static_cast<std::uint16_t>(number.bits));
      break;
    case 'i':
    case 'u':
      writer.u32(static_cast<std::uint32_t>(number.bits));
      break;
    default:
      writer.u64(number.bits);
  }
}

// "['a', 'b']", "@as []"
bool put_array(const std::string& name, std::string_view text, Properties& properties) {
  if (text.starts_with("@as ")) text = trimmed(text.substr(4));
  if (text.size() < 2 || !text.starts_with('[') || !text.ends_with(']')) return false;
  text = trimmed(text.substr(1, text.size() - 2));
  std::vector<std::string> values;
  while (!text.empty()) {
    auto value = take_quoted(text);
    text = trimmed(text);
    if (!value) return false;
    values.push_back(std::move(*value));
    if (text.empty()) break;
    if (text.front() != ',') return false;
    text = trimmed(text.substr(1));
    if (text.empty()) return false;
  }
  dbus::Writer& writer = properties.value(name, "as");
  auto array = writer.open_array(4);
  for (const std::string& value : values) writer.text(value);
  writer.close_array(array);
  return true;
}

// runc's convertSecToUSec: seconds in the annotation, microseconds of type t to systemd.
bool put_seconds(std::string name, std::string_view text, Properties& properties) {
  auto number = parse_number(text);
  std::uint64_t microseconds = 0;
  if (!number || number->negative ||
      __builtin_mul_overflow(number->bits, std::uint64_t{1000000}, &microseconds))
    return false;
  name.replace(name.size() - 3, 3, "USec");
  properties.u64(name, microseconds);
  return true;
}

bool put_value(const std::string& name, std::string_view text, Properties& properties) {
  text = trimmed(text);
  if (text == "true" || text == "false") {
    properties.boolean(name, text == "true");
    return true;
  }
  if (text.starts_with('[') || text.starts_with("@as ")) return put_array(name, text, properties);
  if (std::string_view rest = text; auto value = take_quoted(rest)) {
    if (!trimmed(rest).empty()) return false;
    properties.text(name, *value);
    return true;
  }
  auto number = parse_number(text);
  if (number) put(name, *number, properties);
  return number.has_value();
}

}  // namespace

Result<void> add_annotations(const Annotations& annotations, Properties& properties) {
  constexpr std::string_view kPrefix = "org.systemd.property.";
  for (const auto& [key, value] : annotations) {
    if (!key.starts_with(kPrefix)) continue;
    std::string name = key.substr(kPrefix.size());
    bool good = name.size() >= 3;
    for (char c : name) good = good && ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'));
    if (good)
      good = name.ends_with("Sec") && !name.ends_with("USec") ? put_seconds(name, value, properties)
                                                              : put_value(name, value, properties);
    if (!good)
      return failed_with(EINVAL, Operation::kUseContainer,
                         "annotation " + key + " is no property of systemd: " + value);
  }
  return {};
}

}  // namespace fastdock::oci
