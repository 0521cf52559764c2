// Plain values as bytes, for another process of this very build: fields in order, nothing else.
//
// A struct takes part by a function template next to it, which argument-dependent lookup must find.  In an
// unnamed namespace it does if the archive's type is of that namespace too:
//   struct PointWriter : archive::Writer {};
//   template <class Archive> void visit(Archive& archive, Point& p) { visit_all(archive, p.x, p.y); }
#pragma once

#include <array>
#include <cstdint>
#include <cstring>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

namespace fastdock::archive {

// One list of the fields serves both directions: visit(archive, value) reads or writes, as `archive` is.
class Writer {
 public:
  static constexpr bool kReading = false;
  void bytes(void* data, std::size_t size) { out.append(static_cast<const char*>(data), size); }
  bool good = true;
  std::string out;
};

class Reader {
 public:
  static constexpr bool kReading = true;
  explicit Reader(std::string_view bytes) : rest(bytes) {}
  void bytes(void* data, std::size_t size) {
    if (size > rest.size()) {
      good = false;
      std::memset(data, 0, size);
      return;
    }
    std::memcpy(data, rest.data(), size);
    rest.remove_prefix(size);
  }
  bool good = true;
  std::string_view rest;
};

template <class Archive, class T>
  requires(std::is_arithmetic_v<T> || std::is_enum_v<T>)
void visit(Archive& archive, T& value) {
  archive.bytes(&value, sizeof value);
}

template <class Archive, class Container>
void resize(Archive& archive, Container& container) {
  std::uint64_t size = container.size();
  visit(archive, size);
  if constexpr (Archive::kReading) {
    // An element is at least a byte: a size beyond what is left is damage, not a reason to allocate.
    if (size > archive.rest.size()) {
      archive.good = false;
      size = 0;
    }
    container.resize(size);
  }
}

template <class Archive>
void visit(Archive& archive, std::string& value) {
  resize(archive, value);
  archive.bytes(value.data(), value.size());
}

template <class Archive, class T>
void visit(Archive& archive, std::vector<T>& values) {
  resize(archive, values);
  for (T& value : values) visit(archive, value);
}

template <class Archive, class T, std::size_t N>
void visit(Archive& archive, std::array<T, N>& values) {
  for (T& value : values) visit(archive, value);
}

template <class Archive, class T>
void visit(Archive& archive, std::optional<T>& value) {
  bool present = value.has_value();
  visit(archive, present);
  if (!present) return;
  if (!value) value.emplace();
  visit(archive, *value);
}

template <class Archive, class First, class Second>
void visit(Archive& archive, std::pair<First, Second>& value) {
  visit(archive, value.first);
  visit(archive, value.second);
}

template <class Archive, class Key, class Value>
void visit(Archive& archive, std::map<Key, Value>& values) {
  std::vector<std::pair<Key, Value>> pairs(values.begin(), values.end());
  visit(archive, pairs);
  if constexpr (Archive::kReading) values = std::map<Key, Value>(pairs.begin(), pairs.end());
}

template <class Archive, class... T>
void visit_all(Archive& archive, T&... values) {
  (visit(archive, values), ...);
}

}  // namespace fastdock::archive
