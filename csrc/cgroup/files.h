// The control files of one cgroup directory, with errors that name the limit.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.h"

namespace fastdock::cgroup {

// What single-valued files held before they were written, so that an update that fails half way can be
// taken back.
class Journal {
 public:
  void note(std::string file, std::string old_value) {
    entries_.emplace_back(std::move(file), std::move(old_value));
  }
  void take_back();  // newest first; as far as the kernel lets it

 private:
  std::vector<std::pair<std::string, std::string>> entries_;
};

class Files {
 public:
  explicit Files(std::string directory, Journal* journal = nullptr)
      : directory_(std::move(directory)), journal_(journal) {}

  [[nodiscard]] const std::string& directory() const { return directory_; }
  [[nodiscard]] std::string path(std::string_view file) const { return (directory_ + "/").append(file); }
  [[nodiscard]] bool has(std::string_view file) const;
  [[nodiscard]] Result<std::string> read(std::string_view file) const;
  // The number in a file; kNoLimit for "max".
  [[nodiscard]] Result<std::uint64_t> read_number(std::string_view file) const;

  // Sets a limit; what was there before goes into the journal.
  Result<void> set(std::string_view file, std::string_view value) const;
  // The same for a file of many values ("8:0 rbps=…"), whose old one is not kept.
  Result<void> set_keyed(std::string_view file, std::string_view value) const;

 private:
  std::string directory_;
  Journal* journal_;
};

// Files that a kernel or a controller does not have read as nothing.
std::string text_of(const Files& files, std::string_view file);
std::uint64_t number_of(const Files& files, std::string_view file, std::uint64_t otherwise = 0);

}  // namespace fastdock::cgroup
