// Reading JSON that others wrote: a view of a value that remembers the first thing that is wrong.
//
// Missing members read as absent and leave what they are read into alone; a member of the wrong type, or out
// of range, is a problem, which says where it is ("process.user.uid must be ...").  So readers are a list of
// fields, and look at Document::problem() once, at the end.
#pragma once

#include <rapidjson/document.h>

#include <concepts>
#include <cstdint>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"

namespace fastdock::oci {

class Document;

class Json {
 public:
  Json() = default;
  Json(const rapidjson::Value* value, Document* document) : value_(value), document_(document) {}

  // Present and not null.
  explicit operator bool() const { return value_ != nullptr && !value_->IsNull(); }
  // A member; absent where this is absent or has none.  A problem where this is no object.
  Json operator[](std::string_view key) const;
  // The same, and a problem where it is absent.
  [[nodiscard]] Json required(std::string_view key) const;

  void read(std::string& target) const;
  void read(bool& target) const;
  template <std::integral T>
    requires(!std::same_as<T, bool>)
  void read(T& target) const {
    if (auto number = integer(std::numeric_limits<T>::min(), std::numeric_limits<T>::max()))
      target = static_cast<T>(*number);
  }
  template <class T>
  void read(std::optional<T>& target) const {
    if (!*this) return;
    T value{};
    read(value);
    target = std::move(value);
  }
  template <class T>
  void read(std::vector<T>& target) const {
    each([&](Json element) {
      T value{};
      element.read(value);
      target.push_back(std::move(value));
    });
  }
  [[nodiscard]] std::string_view text() const;  // "" unless it is a string
  [[nodiscard]] std::uint64_t unsigned_number() const {
    std::uint64_t number = 0;
    read(number);
    return number;
  }

  // Elements of an array, members of an object.
  template <class Function>
  void each(Function function) const {
    if (!expect_array()) return;
    for (const auto& element : value_->GetArray()) function(Json(&element, document_));
  }
  template <class Function>
  void members(Function function) const {
    if (!expect_object()) return;
    for (const auto& member : value_->GetObject())
      function(std::string_view(member.name.GetString(), member.name.GetStringLength()),
               Json(&member.value, document_));
  }
  // The same JSON, without the white space: what it means, as bytes.
  [[nodiscard]] std::string canonical() const;

  [[nodiscard]] Document* document() const { return document_; }
  // Notes a problem with this value: "<where> <what>".
  void refuse(std::string_view what) const;

 private:
  // Wide enough for every integer type's range.
  [[nodiscard]] std::optional<__int128> integer(__int128 least, __int128 most) const;
  [[nodiscard]] bool expect_array() const;
  [[nodiscard]] bool expect_object() const;

  const rapidjson::Value* value_ = nullptr;
  Document* document_ = nullptr;
};

// A parsed text.  Views point into it: it must stay.
class Document {
 public:
  // `name` is what errors call it: "config.json".
  static Result<std::unique_ptr<Document>> parse(std::string text, std::string name);
  [[nodiscard]] Json root() { return {&document_, this}; }
  // The first problem that was noted.
  [[nodiscard]] Result<void> problem() const;

 private:
  friend class Json;
  Document() = default;
  void note(const rapidjson::Value* value, std::string_view what);
  [[nodiscard]] std::string place_of(const rapidjson::Value* value) const;

  std::string text_, name_;
  rapidjson::Document document_;
  std::optional<std::string> problem_;
};

// A whole file, of at most 16 MiB; EFBIG.
Result<std::string> read_text(const std::string& path);
Result<std::unique_ptr<Document>> parse_file(const std::string& path);
Result<std::unique_ptr<Document>> parse_descriptor(int fd, const std::string& name);

}  // namespace fastdock::oci
