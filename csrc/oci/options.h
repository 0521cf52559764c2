// The command line: runc's global flags, and its flags per command.
#pragma once

#include <cerrno>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.h"

namespace fastdock::oci {

struct Flag {
  std::string_view name;  // "bundle"
  char letter = 0;        // 'b', or none
  bool takes_value = false;
  std::string_view help;
};

// What was given, in order.
class Arguments {
 public:
  std::vector<std::string> positional;

  [[nodiscard]] bool has(std::string_view flag) const;
  [[nodiscard]] std::optional<std::string> value(std::string_view flag) const;  // the last one
  [[nodiscard]] std::vector<std::string> values(std::string_view flag) const;
  [[nodiscard]] std::string text(std::string_view flag, std::string otherwise = {}) const;
  // EINVAL where it is no number.
  [[nodiscard]] Result<std::optional<std::int64_t>> number(std::string_view flag) const;

 private:
  friend class Parser;
  std::vector<std::pair<std::string_view, std::string>> given_;
};

// "true", "1", "F" … as Go's strconv.ParseBool.
std::optional<bool> parse_truth(std::string_view word);

// How far flags are looked for.
enum class FlagsEnd : std::uint8_t {
  kNever,            // anywhere; "--" ends them
  kFirstPositional,  // the rest belongs to somebody else: a command, the program of `exec`
};

// The number of the error that carries a command's help (-h): main() prints it, and that is no failure.
inline constexpr int kHelpWanted = ECANCELED;

// As Go's flag package and urfave/cli read it: "--name value", "--name=value", "-name value", "-n value", and
// "--name=false" for what takes no value.  `words` are consumed as far as they were read.
Result<Arguments> parse_flags(std::span<const Flag> flags, std::span<char* const>& words, FlagsEnd end,
                              std::string_view command);

}  // namespace fastdock::oci
