#include "cgroup/files.h"

#include <unistd.h>

#include <cerrno>

#include "base/path.h"
#include "cgroup/parse.h"

namespace fastdock::cgroup {
namespace {

// What the kernel means by its errno for a limit.
Hint hint_for(int number, std::string_view file) {
  switch (number) {
    case ENOENT:
      return Hint::kControllerAbsent;
    case EACCES:
    case EPERM:
    case EROFS:
      return Hint::kNeedsRoot;
    case EBUSY:
      return file.starts_with("memory.") ? Hint::kLimitBelowUse : Hint::kLimitRefused;
    default:
      return Hint::kLimitRefused;
  }
}

}  // namespace

void Journal::take_back() {
  for (auto entry = entries_.rbegin(); entry != entries_.rend(); ++entry)
    (void)write_file(entry->first, entry->second);
  entries_.clear();
}

bool Files::has(std::string_view file) const { return ::access(path(file).c_str(), F_OK) == 0; }

Result<std::string> Files::read(std::string_view file) const {
  auto text = read_file(path(file));
  if (!text) return failed_with(text.error().number, Operation::kReadCgroup, path(file));
  return text;
}

Result<std::uint64_t> Files::read_number(std::string_view file) const {
  FASTDOCK_TRY(std::string text, read(file));
  auto number = parse_number(text);
  if (!number) return failed_with(EPROTO, Operation::kReadCgroup, path(file));
  return *number;
}

Result<void> Files::set(std::string_view file, std::string_view value) const {
  std::string old_value;
  if (journal_ != nullptr) {
    if (auto text = read(file)) old_value = std::move(*text);
  }
  FASTDOCK_CHECK(set_keyed(file, value));
  if (journal_ != nullptr) journal_->note(path(file), std::move(old_value));
  return {};
}

Result<void> Files::set_keyed(std::string_view file, std::string_view value) const {
  auto written = write_file(path(file), value);
  if (written) return {};
  int number = written.error().number;
  return failed_with(number, Operation::kSetCgroupLimit, std::string(file).append("=").append(value),
                     hint_for(number, file));
}

std::string text_of(const Files& files, std::string_view file) { return files.read(file).value_or(""); }

std::uint64_t number_of(const Files& files, std::string_view file, std::uint64_t otherwise) {
  return parse_number(text_of(files, file)).value_or(otherwise);
}

}  // namespace fastdock::cgroup
