// ps.
#include <unistd.h>

#include <array>
#include <cerrno>
#include <charconv>
#include <set>

#include "base/path.h"
#include "cgroup/cgroup.h"
#include "launch/launch.h"
#include "oci/context.h"
#include "oci/hooks.h"
#include "oci/seal.h"
#include "oci/state.h"

namespace fastdock::oci {
namespace {

std::string_view take_line(std::string_view& text) {
  std::string_view line = text.substr(0, text.find('\n'));
  text.remove_prefix(std::min(line.size() + 1, text.size()));
  return line;
}

std::vector<std::string_view> columns(std::string_view line) {
  std::vector<std::string_view> words;
  for (std::size_t at = line.find_first_not_of(' '); at != std::string_view::npos;) {
    std::size_t end = std::min(line.find(' ', at), line.size());
    words.push_back(line.substr(at, end - at));
    at = line.find_first_not_of(' ', end);
  }
  return words;
}

// The lines of the host's ps that are about these processes.
Result<std::string> rows_for(std::string_view text, const std::set<pid_t>& wanted) {
  std::string_view header = take_line(text);
  auto names = columns(header);
  std::size_t pid_column = names.size();
  for (std::size_t i = 0; i < names.size(); ++i)
    if (names[i] == "PID") pid_column = i;
  if (pid_column == names.size())
    return failed_with(EINVAL, Operation::kUseContainer, "couldn't find PID field in ps output");
  std::string rows = std::string(header) + "\n";
  while (!text.empty()) {
    std::string_view line = take_line(text);
    auto words = columns(line);
    pid_t pid = 0;
    if (words.size() <= pid_column) continue;
    std::from_chars(words[pid_column].data(), words[pid_column].data() + words[pid_column].size(), pid);
    if (wanted.contains(pid)) rows.append(line).append("\n");
  }
  return rows;
}

Result<std::string> output_of_ps(Words arguments) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return failed(Operation::kCreatePipe);
  Fd ours(ends[0]);
  Fd theirs(ends[1]);
  launch::LaunchPlan plan = runtime_place("/");
  plan.argv = {"ps"};
  for (const char* word : arguments) plan.argv.emplace_back(word);
  if (arguments.empty()) plan.argv.emplace_back("-ef");
  for (char** variable = environ; *variable != nullptr; ++variable) plan.environment.emplace_back(*variable);
  plan.stdio = {0, theirs.get(), 2};
  FASTDOCK_TRY(auto process, launch::launch(plan));
  theirs.reset();
  FASTDOCK_TRY(std::string text, read_all(ours.get(), "ps"));
  FASTDOCK_TRY(auto ended, launch::wait(process, -1));
  if (ended->code != 0)
    return failed_with(EINVAL, Operation::kUseContainer,
                       "ps ended with status " + std::to_string(ended->code));
  return text;
}

}  // namespace

Result<int> command_ps(const Context& context, Words words) {
  constexpr auto kFlags = std::to_array<Flag>({{"format", 'f', true, "table or json"}});
  FASTDOCK_TRY(Arguments arguments, parse_flags(kFlags, words, FlagsEnd::kFirstPositional, "ps"));
  if (words.empty())
    FASTDOCK_CHECK(expect_arguments(arguments, 1, "ps [--format table|json] <container-id> [ps flags]"));
  std::string format = arguments.text("format", "table");
  if (format != "table" && format != "json")
    return failed_with(EINVAL, Operation::kUseContainer, "--format must be table or json");
  FASTDOCK_TRY(Container container, Container::open(context.root, words.front()));
  FASTDOCK_TRY(const cgroup::Hierarchies* hierarchies, cgroup::Hierarchies::machine());
  FASTDOCK_TRY(auto group, cgroup::Cgroup::open(*hierarchies, container.state.cgroup));
  if (group.is_nowhere())
    return failed_with(EACCES, Operation::kReadCgroup, container.state.id, Hint::kNotDelegated);
  FASTDOCK_TRY(auto processes, group.processes());
  std::set<pid_t> wanted(processes.begin(), processes.end());
  if (format == "json") {
    std::string json = "[";
    for (pid_t pid : wanted) json += (json.size() > 1 ? "," : "") + std::to_string(pid);
    FASTDOCK_CHECK(print(json + "]\n"));
    return 0;
  }
  FASTDOCK_CHECK(run_sealed(context.argv));
  FASTDOCK_TRY(std::string text, output_of_ps(words.subspan(1)));
  FASTDOCK_TRY(std::string rows, rows_for(text, wanted));
  FASTDOCK_CHECK(print(rows));
  return 0;
}

}  // namespace fastdock::oci
