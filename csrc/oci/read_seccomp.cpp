// "linux.seccomp" of config.json.
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>

#include "launch/seccomp_cache.h"
#include "oci/config.h"

namespace fastdock::oci {
namespace {

using launch::SeccompProfile;
using launch::SeccompRule;

void read_arguments(Json arguments, SeccompRule& rule) {
  arguments.each([&](Json entry) {
    launch::SeccompArgument argument;
    entry.required("index").read(argument.index);
    entry.required("value").read(argument.value);
    entry["valueTwo"].read(argument.value_two);
    auto op = launch::parse_seccomp_operator(entry.required("op").text());
    if (!op) return entry["op"].refuse("is not a known operator");
    argument.op = *op;
    rule.arguments.push_back(argument);
  });
}

void read_rule(Json entry, SeccompProfile& profile) {
  SeccompRule rule;
  entry.required("names").read(rule.names);
  if (rule.names.empty()) entry["names"].refuse("must name a system call");
  auto action = launch::parse_seccomp_action(entry.required("action").text());
  if (!action) return entry["action"].refuse("is not a known action");
  rule.action = *action;
  // launch::compile() knows why; here the entry can be named, in runc's words.
  if (rule.action == launch::SeccompAction::kNotify &&
      std::ranges::find(rule.names, "write") != rule.names.end())
    return entry.refuse("SCMP_ACT_NOTIFY cannot be used for the write syscall");
  entry["errnoRet"].read(rule.errno_value);
  read_arguments(entry["args"], rule);
  profile.rules.push_back(std::move(rule));
}

std::uint32_t read_flags(Json flags) {
  std::uint32_t bits = 0;
  flags.each([&](Json entry) {
    auto flag = launch::parse_seccomp_flag(entry.text());
    if (!flag) return entry.refuse("is not a known seccomp flag");
    bits |= *flag;
  });
  return bits;
}

std::string cache_directory() {
  if (::geteuid() == 0) return "/run/fastdock/seccomp";
  const char* own = std::getenv("XDG_RUNTIME_DIR");
  return own == nullptr || *own == '\0' ? "" : std::string(own) + "/fastdock/seccomp";
}

bool notifies(Json seccomp) {
  bool found = false;
  seccomp["syscalls"].each([&](Json entry) { found = found || entry["action"].text() == "SCMP_ACT_NOTIFY"; });
  return found;
}

}  // namespace

Result<SeccompProfile> read_seccomp(Json seccomp, Document& document) {
  SeccompProfile profile;
  auto action = launch::parse_seccomp_action(seccomp.required("defaultAction").text());
  if (action) {
    profile.default_action = *action;
  } else {
    seccomp["defaultAction"].refuse("is not a known action");
  }
  seccomp["defaultErrnoRet"].read(profile.default_errno);
  seccomp["architectures"].each([&](Json entry) {
    auto architecture = launch::parse_seccomp_architecture(entry.text());
    if (!architecture) return entry.refuse("is not a known architecture");
    profile.architectures.push_back(*architecture);
  });
  profile.flags = read_flags(seccomp["flags"]);
  seccomp["syscalls"].each([&](Json entry) { read_rule(entry, profile); });
  seccomp["listenerPath"].read(profile.listener_path);
  seccomp["listenerMetadata"].read(profile.listener_metadata);
  FASTDOCK_CHECK(document.problem());
  return profile;
}

Result<SeccompListener> add_seccomp(Json seccomp, launch::LaunchPlan& plan) {
  SeccompListener listener;
  if (!seccomp) return listener;
  Document& document = *seccomp.document();
  std::string key = seccomp.canonical();
  auto program = launch::cached_program(cache_directory(), std::as_bytes(std::span(key)),
                                        [&]() -> Result<std::vector<sock_filter>> {
                                          FASTDOCK_TRY(auto profile, read_seccomp(seccomp, document));
                                          return launch::compile(profile);
                                        });
  if (!program) return std::unexpected(program.error());
  plan.seccomp = std::move(*program);
  SeccompProfile flags;
  flags.flags = read_flags(seccomp["flags"]);
  seccomp["listenerPath"].read(listener.path);
  seccomp["listenerMetadata"].read(listener.metadata);
  if (notifies(seccomp)) {
    flags.rules.push_back({{}, launch::SeccompAction::kNotify, {}, {}});
    if (listener.path.empty()) seccomp.refuse("notifies, but has no listenerPath");
  }
  plan.seccomp_flags = launch::load_flags(flags);
  FASTDOCK_CHECK(document.problem());
  return listener;
}

}  // namespace fastdock::oci
