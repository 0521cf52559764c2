#include "oci/json.h"

#include <fcntl.h>
#include <rapidjson/error/en.h>
#include <rapidjson/stringbuffer.h>
#include <rapidjson/writer.h>

#include <cerrno>

#include "base/path.h"

namespace fastdock::oci {
namespace {

constexpr std::size_t kLargestFile = 16 * 1024 * 1024;
constexpr int kDeepest = 64;  // of nested arrays and objects: what walks over them is recursive

using Value = rapidjson::Value;

bool too_deep(std::string_view text) {
  int depth = 0;
  bool in_string = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (c == '"') in_string = !in_string;
    if (in_string) {
      if (c == '\\') ++i;
    } else if (c == '{' || c == '[') {
      if (++depth > kDeepest) return true;
    } else if (c == '}' || c == ']') {
      --depth;
    }
  }
  return false;
}

// A file that turns out longer than it said, or endless, is cut off: never more than that in memory.
Result<std::string> read_bounded(int fd, const std::string& path) {
  std::string text;
  char buffer[65536];
  while (true) {
    ssize_t count = ::read(fd, buffer, sizeof buffer);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return failed(Operation::kReadFile, path);
    if (count == 0) return text;
    text.append(buffer, static_cast<std::size_t>(count));
    if (text.size() > kLargestFile) return failed_with(EFBIG, Operation::kReadFile, path);
  }
}

// Depth first, until `wanted` is met; `path` is then where it is.
bool find(const Value& at, const Value* wanted, std::string& path) {
  if (&at == wanted) return true;
  const std::size_t length = path.size();
  if (at.IsObject()) {
    for (const auto& member : at.GetObject()) {
      if (length > 0) path += '.';
      path.append(member.name.GetString(), member.name.GetStringLength());
      if (find(member.value, wanted, path)) return true;
      path.resize(length);
    }
  } else if (at.IsArray()) {
    for (rapidjson::SizeType i = 0; i < at.Size(); ++i) {
      path.append("[").append(std::to_string(i)).append("]");
      if (find(at[i], wanted, path)) return true;
      path.resize(length);
    }
  }
  return false;
}

}  // namespace

Json Json::operator[](std::string_view key) const {
  if (!*this || !expect_object()) return {nullptr, document_};
  for (const auto& member : value_->GetObject())
    if (std::string_view(member.name.GetString(), member.name.GetStringLength()) == key)
      return {&member.value, document_};
  return {nullptr, document_};
}

Json Json::required(std::string_view key) const {
  Json member = (*this)[key];
  if (!member) refuse(std::string("must have the member ").append(key));
  return member;
}

std::string_view Json::text() const {
  if (!*this || !value_->IsString()) return {};
  return {value_->GetString(), value_->GetStringLength()};
}

void Json::read(std::string& target) const {
  if (!*this) return;
  if (!value_->IsString()) return refuse("must be a string");
  target.assign(value_->GetString(), value_->GetStringLength());
  // Everything here ends as a C string in a system call, where a NUL would cut it short.
  if (target.find('\0') != std::string::npos) refuse("must not contain a NUL character");
}

void Json::read(bool& target) const {
  if (!*this) return;
  if (!value_->IsBool()) return refuse("must be true or false");
  target = value_->GetBool();
}

std::optional<__int128> Json::integer(__int128 least, __int128 most) const {
  if (!*this) return std::nullopt;
  __int128 number = 0;
  if (value_->IsInt64()) {
    number = value_->GetInt64();
  } else if (value_->IsUint64()) {
    number = value_->GetUint64();
  } else {
    refuse("must be an integer");
    return std::nullopt;
  }
  if (number < least || number > most) {
    refuse("is out of range");
    return std::nullopt;
  }
  return number;
}

bool Json::expect_array() const {
  if (!*this) return false;
  if (value_->IsArray()) return true;
  refuse("must be an array");
  return false;
}

bool Json::expect_object() const {
  if (!*this) return false;
  if (value_->IsObject()) return true;
  refuse("must be an object");
  return false;
}

std::string Json::canonical() const {
  if (value_ == nullptr) return {};
  rapidjson::StringBuffer buffer;
  rapidjson::Writer<rapidjson::StringBuffer> writer(buffer);
  value_->Accept(writer);
  return {buffer.GetString(), buffer.GetSize()};
}

void Json::refuse(std::string_view what) const {
  if (document_ != nullptr) document_->note(value_, what);
}

Result<std::unique_ptr<Document>> Document::parse(std::string text, std::string name) {
  std::unique_ptr<Document> document(new Document);
  document->text_ = std::move(text);
  document->name_ = std::move(name);
  if (document->text_.size() > kLargestFile) return failed_with(EFBIG, Operation::kParse, document->name_);
  if (too_deep(document->text_))
    return failed_with(EINVAL, Operation::kParse, document->name_ + ": nested too deeply");
  // In place: strings are not copied.  Iterative: a million nested brackets must not end our stack.
  constexpr unsigned flags =
      rapidjson::kParseInsituFlag | rapidjson::kParseIterativeFlag | rapidjson::kParseValidateEncodingFlag;
  // RapidJSON checks UTF-8 by the length that a first byte promises, also where the text ends before it.
  document->text_.append(4, '\0');
  document->document_.ParseInsitu<flags>(document->text_.data());
  if (document->document_.HasParseError()) {
    std::string what = document->name_ + " at byte " + std::to_string(document->document_.GetErrorOffset()) +
                       ": " + rapidjson::GetParseError_En(document->document_.GetParseError());
    return failed_with(EINVAL, Operation::kParse, what);
  }
  if (!document->document_.IsObject())
    return failed_with(EINVAL, Operation::kParse, document->name_ + ": not an object");
  return document;
}

void Document::note(const rapidjson::Value* value, std::string_view what) {
  if (!problem_) problem_ = name_ + ": " + place_of(value) + " " + std::string(what);
}

std::string Document::place_of(const rapidjson::Value* value) const {
  std::string path;
  if (value == nullptr || value == &document_ || !find(document_, value, path)) return "it";
  return path;
}

Result<void> Document::problem() const {
  if (!problem_) return {};
  return failed_with(EINVAL, Operation::kParse, *problem_);
}

Result<std::string> read_text(const std::string& path) {
  // O_NONBLOCK: a FIFO of that name must not make us wait.
  FASTDOCK_TRY(Fd file, open_file(path, O_RDONLY | O_NONBLOCK));
  return read_bounded(file.get(), path);
}

Result<std::unique_ptr<Document>> parse_file(const std::string& path) {
  FASTDOCK_TRY(std::string text, read_text(path));
  return Document::parse(std::move(text), path);
}

Result<std::unique_ptr<Document>> parse_descriptor(int fd, const std::string& name) {
  FASTDOCK_TRY(std::string text, read_bounded(fd, name));
  return Document::parse(std::move(text), name);
}

}  // namespace fastdock::oci
