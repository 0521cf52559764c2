// config.json of the OCI runtime specification, read into the values that the core works with.
//
// What fastdock-oci or this kernel cannot do is an error that names the member; nothing is dropped in
// silence.  Unknown members are ignored, as the specification wants it.
#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "cgroup/limits.h"
#include "launch/plan.h"
#include "launch/seccomp.h"
#include "oci/json.h"

namespace fastdock::oci {

inline constexpr const char* kSpecificationVersion = "1.3.0";

struct Hook {
  std::string path;
  std::vector<std::string> arguments, environment;
  std::optional<std::int32_t> timeout;  // seconds
};

struct Hooks {
  std::vector<Hook> prestart, create_runtime, create_container, start_container, poststart, poststop;
};

struct NetDevice {
  std::string host_name, name;  // of the device outside and inside
};

using Annotations = std::vector<std::pair<std::string, std::string>>;

struct Config {
  std::unique_ptr<Document> document;  // `seccomp` points into it
  std::string version;
  launch::LaunchPlan plan;  // without what depends on the machine: cgroup, seccomp program, descriptors
  bool terminal = false;
  std::string bundle, rootfs;  // absolute
  std::string cgroups_path;
  cgroup::Limits limits;
  Hooks hooks;
  Annotations annotations;
  std::vector<NetDevice> network_devices;
  Json seccomp;
  std::vector<std::string> warnings;
};

// The bundle's config.json, checked.  `bundle` is absolute.
Result<Config> read_config(const std::string& bundle);
Result<Config> read_config(std::unique_ptr<Document> document, const std::string& bundle);

// "process", of config.json or of `exec --process`: into the plan and `terminal`.
void read_process(Json process, launch::LaunchPlan& plan, bool& terminal, std::vector<std::string>& warnings);

// getenv(3) finds the first of two variables with one name; runc and crun set the last.  An empty HOME is
// none: the launch fills it in, as runc does.
void keep_last_of_each_name(std::vector<std::string>& environment);

void read_mounts(Json mounts, Config& config);
// In a user namespace a bind may not take away what its source has on the host: see reset_unnamed().
Result<void> check_locked_attributes(const launch::LaunchPlan& plan);
void read_linux(Json linux, Config& config);
void read_devices(Json devices, Config& config);
void read_hooks(Json hooks, Hooks& target);

// "linux.resources", of config.json or of `update --resources`.
void read_resources(Json resources, cgroup::Limits& limits);
// No process at all cannot be meant: as runc 1.4.0, 0 is the least that there is, 1; -1 is no limit.
std::optional<std::int64_t> pids_limit(std::optional<std::int64_t> given);
// The devices that every container may use, whatever "linux.resources.devices" says.
void allow_default_devices(cgroup::Limits& limits);

// "linux.seccomp": the compiled program, from the cache where it is there.  The flags go to the plan, too.
struct SeccompListener {
  std::string path, metadata;
};
Result<SeccompListener> add_seccomp(Json seccomp, launch::LaunchPlan& plan);
// Without the cache: the profile as it is written.
Result<launch::SeccompProfile> read_seccomp(Json seccomp, Document& document);

// Every mount option that means something here, sorted: for `features`.
std::vector<std::string> mount_options();

// As runc: what the caller may use (systemd's CPUAffinity= of an engine) is not for the container.  Its
// cpuset decides: the kernel leaves out what is not in there, and what the machine has not.
std::vector<int> every_cpu();

// What "linux.memoryPolicy" may say: for `features`.
std::vector<std::string> memory_policy_modes();
std::vector<std::string> memory_policy_flags();

// "0-2,7" -> 0 1 2 7; nothing where it is no such list.
std::optional<std::vector<int>> parse_cpu_list(std::string_view text);

}  // namespace fastdock::oci
