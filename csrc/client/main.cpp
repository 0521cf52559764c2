// fastdock: the native launcher.  It runs the Python command line that belongs to it.
#include <unistd.h>

#include <climits>
#include <cstdio>
#include <cstdlib>

#include "client/python_command.h"

namespace {

using fastdock::Operation;
using fastdock::Result;

// docker run: 125 is a failure of the engine itself.
constexpr int kFailed = 125;

Result<std::string> own_path() {
  char path[PATH_MAX];
  ssize_t length = readlink("/proc/self/exe", path, sizeof path);
  if (length < 0) return fastdock::failed(Operation::kReadFile, "/proc/self/exe");
  return std::string(path, static_cast<std::size_t>(length));
}

// Returns only if it fails.
Result<void> run_python(char** arguments) {
  const char* chosen = secure_getenv("FASTDOCK_PYTHON");
  FASTDOCK_TRY(std::string path, own_path());
  FASTDOCK_TRY(auto words, fastdock::client::python_command(path, chosen ? chosen : ""));
  std::vector<char*> argv;
  for (auto& word : words) argv.push_back(word.data());
  for (; *arguments != nullptr; ++arguments) argv.push_back(*arguments);
  argv.push_back(nullptr);
  execv(argv[0], argv.data());
  return fastdock::failed(Operation::kExecute, words[0], fastdock::Hint::kChoosePython);
}

}  // namespace

int main(int argc, char** argv) {
  auto result = run_python(argv + (argc > 0 ? 1 : 0));
  std::fprintf(stderr, "fastdock: %s\n", describe(result.error()).c_str());
  return kFailed;
}
