#include "client/python_command.h"

#include <unistd.h>

#include <array>
#include <cerrno>

#include "base/path.h"

namespace fastdock::client {
namespace {

constexpr std::string_view kVersion = FASTDOCK_PYTHON_VERSION;  // 3.11: _core fits this one only

std::string parent(const std::string& path) { return path.substr(0, path.rfind('/')); }

std::string_view first_line(std::string_view text) { return text.substr(0, text.find('\n')); }

// The package's own start, wherever the installation scheme puts packages in relation to its scripts.
std::string package_start(const std::string& prefix) {
  std::string python = "python" + std::string(kVersion);
  const std::array<std::string, 5> places = {
      prefix + "/lib/" + python + "/site-packages",    // venv, pip --user, pip --prefix, pyenv
      prefix + "/lib/" + python + "/dist-packages",    // Debian's /usr/local
      prefix + "/lib64/" + python + "/site-packages",  // Fedora
      prefix + "/lib/python3/dist-packages",           // a package of Debian
      prefix,                                          // pip --target
  };
  for (const auto& place : places) {
    std::string start = place + "/fastdock/_start.py";
    if (access(start.c_str(), R_OK) == 0) return start;
  }
  return {};
}

// pip writes the interpreter that it installs for into each Python script: fastdock-python lies beside us.
std::string interpreter(const std::string& directory) {
  if (auto script = read_file(directory + "/fastdock-python")) {
    std::string found = interpreter_of_script(*script);
    if (!found.empty() && access(found.c_str(), X_OK) == 0) return found;
  }
  // A virtual environment that was moved, or an installer without scripts.
  for (const auto& name : {"/python" + std::string(kVersion), std::string("/python3")}) {
    if (access((directory + name).c_str(), X_OK) == 0) return directory + name;
  }
  return {};
}

}  // namespace

std::string interpreter_of_script(std::string_view script) {
  if (!script.starts_with("#!")) return {};
  std::string_view line = first_line(script);
  std::string_view path = line.substr(2);
  if (path == "/bin/sh") {
    constexpr std::string_view kExec = "'''exec' ";
    std::string_view second = script.size() > line.size() ? first_line(script.substr(line.size() + 1)) : "";
    if (!second.starts_with(kExec)) return {};
    path = second.substr(kExec.size());
    path = path.starts_with('"') ? path.substr(1, path.find('"', 1) - 1) : path.substr(0, path.find(' '));
  } else {
    path = path.substr(0, path.find(' '));
  }
  return path.starts_with('/') ? std::string(path) : std::string();
}

Result<std::vector<std::string>> python_command(const std::string& executable, const std::string& chosen) {
  // -I: neither PYTHON* variables nor the current directory may bring in code; a ./click.py is not ours.
  if (!chosen.empty()) return std::vector<std::string>{chosen, "-I", "-m", "fastdock"};
  std::string directory = parent(executable);
  std::string python = interpreter(directory);
  if (python.empty()) {
    return failed_with(ENOENT, Operation::kFindPython, directory, Hint::kChoosePython);
  }
  std::string start = package_start(parent(directory));
  // Not beside us (pip install --editable): the interpreter knows.
  if (start.empty()) return std::vector<std::string>{python, "-I", "-m", "fastdock"};
  // -S: _start.py does without `site` unless something is missing, which saves 3 of 13 ms.
  return std::vector<std::string>{python, "-I", "-S", start};
}

}  // namespace fastdock::client
