#include "options.h"

#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <sstream>

namespace floor_bench {
namespace {

[[noreturn]] void usage(const std::string& complaint) {
  std::fprintf(
      stderr,
      "fastdock_floor: %s\n"
      "usage: fastdock_floor --rootfs DIR --state DIR [--iterations N] [--warmup N] [--spacing MS]\n"
      "  [--threads N] [--seccomp FILE] [--without GROUP,...] [--dev bind|parent] [--mask each|shared|host]\n"
      "  [--sync futex|socket] [--lower fresh|cached] [--overlay child|parent]\n"
      "  [--prepare before|during] [--namespaces clone|unshare] [--upper disk|own] [--wait pidfd|sigchld]\n"
      "  [--hold none|mnt] [--view bind|mount|one] [--root pivot|shallow] [--serve no|yes] [--cgroup NAME]\n"
      "  [-- PROGRAM ARGUMENT...]\n",
      complaint.c_str());
  std::exit(2);
}

std::set<std::string> split(const std::string& list) {
  std::set<std::string> words;
  std::stringstream stream(list);
  for (std::string word; std::getline(stream, word, ',');) words.insert(word);
  return words;
}

}  // namespace

Options parse_options(int argc, char** argv) {
  Options o;
  const std::pair<const char*, int*> numbers[] = {{"--iterations", &o.iterations},
                                                  {"--warmup", &o.warmup},
                                                  {"--threads", &o.threads},
                                                  {"--spacing", &o.spacing_ms}};
  const std::pair<const char*, std::string*> words[] = {
      {"--rootfs", &o.rootfs},   {"--state", &o.state},
      {"--seccomp", &o.seccomp}, {"--dev", &o.dev},
      {"--mask", &o.mask},       {"--sync", &o.sync},
      {"--lower", &o.lower},     {"--overlay", &o.overlay},
      {"--prepare", &o.prepare}, {"--namespaces", &o.namespaces},
      {"--upper", &o.upper},     {"--wait", &o.wait},
      {"--hold", &o.hold},       {"--view", &o.view},
      {"--root", &o.root},       {"--serve", &o.serve},
      {"--cgroup", &o.cgroup}};
  for (int i = 1; i < argc; ++i) {
    const std::string name = argv[i];
    if (name == "--") {
      o.argv.assign(argv + i + 1, argv + argc);
      break;
    }
    if (i + 1 >= argc) usage(name + ": a value is missing");
    const char* value = argv[++i];
    bool known = name == "--without";
    if (known) o.without = split(value);
    for (auto& [option, number] : numbers) {
      if (name == option) known = true, *number = std::atoi(value);
    }
    for (auto& [option, word] : words) {
      if (name == option) known = true, *word = value;
    }
    if (!known) usage(name + ": unknown option");
  }
  if (o.rootfs.empty() || o.state.empty()) usage("--rootfs and --state are needed");
  if (o.argv.empty()) usage("no program to run");
  return o;
}

}  // namespace floor_bench
