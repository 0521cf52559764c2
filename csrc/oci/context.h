// What the global flags said, and how results and errors leave the program.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "base/error.h"
#include "base/fd.h"
#include "oci/options.h"

namespace fastdock::oci {

inline constexpr const char* kDefaultRoot = "/run/fastdock-oci";

struct Context {
  std::string root = kDefaultRoot;
  Fd log_file;  // --log, if given
  bool log_json = false;
  bool debug = false;
  bool systemd_cgroup = false;
  std::optional<bool> rootless;  // --rootless; nothing: as the caller's rights are
  char** argv = nullptr;         // of the whole program, to be executed anew

  // "level" is logrus's: error, warning, debug.  To --log, in its format, if there is one.
  void log(std::string_view level, std::string_view message) const;
  // A warning goes to the log only: callers read standard error as what the container said.
  void warn(std::string_view message) const { log("warning", message); }
  // With --debug: to --log, or without one to standard error, as runc does.
  void debug_log(std::string_view message) const;
};

// The sentence for an error.
std::string message_of(const Error& error);

// To the log and to standard error.
void report(const Context& context, const Error& error);

// A command: `words` are what follows its name.  The answer is the exit code.
using Words = std::span<char* const>;
struct Command {
  std::string_view name;
  Result<int> (*run)(const Context& context, Words words);
  std::string_view help;
  int exit_code_of_errors = 1;
};

Result<int> command_checkpoint(const Context&, Words);
Result<int> command_create(const Context&, Words);
Result<int> command_delete(const Context&, Words);
Result<int> command_events(const Context&, Words);
Result<int> command_exec(const Context&, Words);
Result<int> command_features(const Context&, Words);
Result<int> command_kill(const Context&, Words);
Result<int> command_list(const Context&, Words);
Result<int> command_pause(const Context&, Words);
Result<int> command_ps(const Context&, Words);
Result<int> command_restore(const Context&, Words);
Result<int> command_resume(const Context&, Words);
Result<int> command_run(const Context&, Words);
Result<int> command_spec(const Context&, Words);
Result<int> command_start(const Context&, Words);
Result<int> command_state(const Context&, Words);
Result<int> command_update(const Context&, Words);

// Exactly `count` of them.
Result<void> expect_arguments(const Arguments& arguments, std::size_t count, std::string_view usage);

Result<std::string> current_directory();

// Writes to standard output; an error where nobody reads it.
Result<void> print(std::string_view text);

}  // namespace fastdock::oci
