#include "oci/config.h"

#include <linux/mount.h>

#include <array>
#include <cerrno>

namespace fastdock::oci {
namespace {

void read_annotations(Json annotations, Annotations& target) {
  annotations.members([&](std::string_view key, Json value) {
    std::string text;
    value.read(text);
    if (key.empty()) value.refuse("must have a key");
    target.emplace_back(key, std::move(text));
  });
}

void read_root(Json root, Config& config) {
  std::string path;
  root.required("path").read(path);
  if (path.empty()) root.refuse("must have a path");
  config.rootfs = path.starts_with('/') ? path : config.bundle + "/" + path;
  bool read_only = false;
  root["readonly"].read(read_only);
  rootfs::Mount mount;
  mount.type = "bind";
  mount.source = config.rootfs;
  mount.recursive = true;
  if (read_only) mount.attributes_set = MOUNT_ATTR_RDONLY;
  config.plan.root = std::move(mount);
  // Hooks look for the root where it is on the host.
  config.plan.attach_point = config.rootfs;
}

void read_hook_list(Json list, std::vector<Hook>& target) {
  list.each([&](Json entry) {
    Hook hook;
    entry.required("path").read(hook.path);
    if (!hook.path.starts_with('/')) entry["path"].refuse("must be an absolute path");
    entry["args"].read(hook.arguments);
    entry["env"].read(hook.environment);
    entry["timeout"].read(hook.timeout);
    if (hook.timeout && *hook.timeout <= 0) entry["timeout"].refuse("must be greater than zero");
    if (hook.arguments.empty()) hook.arguments.push_back(hook.path);
    target.push_back(std::move(hook));
  });
}

// SemVer 2: the specification is at 1; a config of another major version means other things.
bool is_supported(std::string_view version) {
  return version.starts_with("1.") && version.size() > 2 && version[2] >= '0' && version[2] <= '9';
}

bool makes(const launch::LaunchPlan& plan, launch::Namespace kind) {
  return plan.namespaces[static_cast<std::size_t>(kind)].mode == launch::NamespaceMode::kNew;
}
bool is_host(const launch::LaunchPlan& plan, launch::Namespace kind) {
  return plan.namespaces[static_cast<std::size_t>(kind)].mode == launch::NamespaceMode::kHost;
}

// What each member allows alone and the whole contradicts.
void check_whole(const Config& config, Json root) {
  const launch::LaunchPlan& plan = config.plan;
  Json linux = root["linux"];
  using launch::Namespace;
  if (is_host(plan, Namespace::kMount)) {
    if (!plan.masked_paths.empty() || !plan.read_only_paths.empty())  // as runc
      linux.refuse("has maskedPaths or readonlyPaths, which need a mount namespace: namespaces lists none");
    if (!is_host(plan, Namespace::kUser))
      linux.refuse("must have a mount namespace: in a user namespace nobody may mount on the host");
  }
  if (!plan.hostname.empty() && is_host(plan, Namespace::kUts))
    root["hostname"].refuse("needs a UTS namespace of the container's own");
  if (!plan.domainname.empty() && is_host(plan, Namespace::kUts))
    root["domainname"].refuse("needs a UTS namespace of the container's own");
  bool maps = !plan.uid_map.empty() || !plan.gid_map.empty();
  if (makes(plan, Namespace::kUser) && (plan.uid_map.empty() || plan.gid_map.empty()))
    linux.refuse("must have uidMappings and gidMappings for its user namespace");
  if (maps && is_host(plan, Namespace::kUser)) linux.refuse("has id mappings but no user namespace");
  if (!plan.clock_offsets.empty() && !makes(plan, Namespace::kTime))
    linux["timeOffsets"].refuse("needs a new time namespace");
  if (!config.network_devices.empty() && is_host(plan, Namespace::kNet))
    linux["netDevices"].refuse("needs a network namespace");
  for (const launch::Sysctl& sysctl : plan.sysctls) {
    std::string name = sysctl.name;
    for (char& c : name) c = c == '/' ? '.' : c;
    bool ipc = name.starts_with("fs.mqueue.") || name.starts_with("kernel.msg") ||
               name.starts_with("kernel.shm") || name.starts_with("kernel.sem");
    bool uts = name == "kernel.domainname";
    // A sysctl that is not the namespace's own is the host's.
    auto refuse = [&](const char* why) { linux["sysctl"][sysctl.name].refuse(why); };
    if (name == "kernel.hostname") refuse("is set by the member hostname");
    if (ipc && is_host(plan, Namespace::kIpc)) refuse("needs an IPC namespace");
    if (uts && is_host(plan, Namespace::kUts)) refuse("needs a UTS namespace");
    if (name.starts_with("net.") && is_host(plan, Namespace::kNet)) refuse("needs a network namespace");
    if (!ipc && !uts && !name.starts_with("net.") && name != "kernel.hostname" &&
        !(name.starts_with("user.") && !is_host(plan, Namespace::kUser)))
      refuse("belongs to no namespace: it would change the host");
  }
}

}  // namespace

void read_hooks(Json hooks, Hooks& target) {
  read_hook_list(hooks["prestart"], target.prestart);
  read_hook_list(hooks["createRuntime"], target.create_runtime);
  read_hook_list(hooks["createContainer"], target.create_container);
  read_hook_list(hooks["startContainer"], target.start_container);
  read_hook_list(hooks["poststart"], target.poststart);
  read_hook_list(hooks["poststop"], target.poststop);
}

Result<Config> read_config(std::unique_ptr<Document> document, const std::string& bundle) {
  Config config;
  config.document = std::move(document);
  config.bundle = bundle;
  Json root = config.document->root();
  root.required("ociVersion").read(config.version);
  if (root["ociVersion"] && !is_supported(config.version))
    root["ociVersion"].refuse("is not a version 1 of the specification");
  read_root(root.required("root"), config);
  root["hostname"].read(config.plan.hostname);
  root["domainname"].read(config.plan.domainname);
  read_annotations(root["annotations"], config.annotations);
  // The order matters: mounts and devices depend on the namespaces.
  read_linux(root.required("linux"), config);
  if (root["process"]) {
    read_process(root["process"], config.plan, config.terminal, config.warnings);
  } else {
    root.refuse("must have the member process");
  }
  read_mounts(root["mounts"], config);
  read_devices(root["linux"]["devices"], config);
  read_hooks(root["hooks"], config.hooks);
  // As runc and crun: engines leave it to the runtime to make an image's WORKDIR.
  config.plan.create_working_directory = true;
  check_whole(config, root);
  FASTDOCK_CHECK(config.document->problem());
  return config;
}

Result<Config> read_config(const std::string& bundle) {
  FASTDOCK_TRY(auto document, parse_file(bundle + "/config.json"));
  return read_config(std::move(document), bundle);
}

}  // namespace fastdock::oci
