#include "oci/context.h"

#include <fcntl.h>
#include <rapidjson/stringbuffer.h>
#include <rapidjson/writer.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "base/path.h"
#include "oci/state.h"

namespace fastdock::oci {
namespace {

// logrus's JSON formatter: containerd and conmon read the last line of level error.
std::string json_line(std::string_view level, std::string_view message) {
  rapidjson::StringBuffer buffer;
  rapidjson::Writer<rapidjson::StringBuffer> writer(buffer);
  auto put = [&](const char* key, std::string_view value) {
    writer.Key(key);
    writer.String(value.data(), static_cast<rapidjson::SizeType>(value.size()));
  };
  writer.StartObject();
  put("level", level);
  put("msg", message);
  put("time", timestamp());
  writer.EndObject();
  return std::string(buffer.GetString(), buffer.GetSize()) + "\n";
}

std::string text_line(std::string_view level, std::string_view message) {
  std::string line = "time=\"" + timestamp() + "\" level=";
  line.append(level).append(" msg=\"");
  for (char c : message) {
    if (c == '"' || c == '\\') line += '\\';
    line += c == '\n' ? ' ' : c;
  }
  return line + "\"\n";
}

// In runc's words: Docker and Podman find their exit codes (126, 127) by looking for them.
std::string message_of_execute(const Error& error) {
  // runc says it differently of a program that is there, and whose interpreter is not.
  const bool is_there =
      error.number == ENOENT && error.hint != Hint::kNone && error.path.find('/') != std::string::npos;
  const std::string what = is_there ? " " + error.path + ": " : ": \"" + error.path + "\": ";
  std::string message = "unable to start container process: exec" + what;
  if (error.number == ENOENT && error.path.find('/') == std::string::npos)
    return message + "executable file not found in $PATH";
  std::string reason = std::strerror(error.number);
  if (!reason.empty() && reason[0] >= 'A' && reason[0] <= 'Z')
    reason[0] = static_cast<char>(reason[0] - 'A' + 'a');
  message += reason;
  if (error.hint != Hint::kNone) message.append(" (").append(text(error.hint)).append(")");
  return message;
}

}  // namespace

void Context::log(std::string_view level, std::string_view message) const {
  if (!log_file) return;
  std::string line = log_json ? json_line(level, message) : text_line(level, message);
  // One write: lines of several runtimes do not mix.
  if (::write(log_file.get(), line.data(), line.size()) < 0) return;
}

void Context::debug_log(std::string_view message) const {
  if (!debug) return;
  if (log_file) return log("debug", message);
  std::string line = log_json ? json_line("debug", message) : text_line("debug", message);
  if (::write(STDERR_FILENO, line.data(), line.size()) < 0) return;
}

std::string message_of(const Error& error) {
  if (error.operation == Operation::kExecute) return message_of_execute(error);
  return error.operation == Operation::kUseContainer ? error.path : describe(error);
}

void report(const Context& context, const Error& error) {
  std::string message = message_of(error);
  context.log("error", message);
  message.insert(0, "fastdock-oci: ").append("\n");
  (void)!::write(STDERR_FILENO, message.data(), message.size());
}

Result<void> expect_arguments(const Arguments& arguments, std::size_t count, std::string_view usage) {
  if (arguments.positional.size() == count) return {};
  return failed_with(EINVAL, Operation::kUseContainer, "usage: fastdock-oci " + std::string(usage));
}

Result<std::string> current_directory() {
  char path[4096];
  if (::getcwd(path, sizeof path) == nullptr) return failed(Operation::kOpenFile, ".");
  return std::string(path);
}

Result<void> print(std::string_view text) {
  while (!text.empty()) {
    ssize_t count = ::write(STDOUT_FILENO, text.data(), text.size());
    if (count < 0 && errno != EINTR) return failed(Operation::kWriteFile, "standard output");
    if (count > 0) text.remove_prefix(static_cast<std::size_t>(count));
  }
  return {};
}

}  // namespace fastdock::oci
