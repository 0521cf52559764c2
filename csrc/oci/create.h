// Making a container out of a bundle, and taking it away.
#pragma once

#include <optional>
#include <string>

#include "base/error.h"
#include "launch/launch.h"
#include "oci/context.h"
#include "oci/notify_socket.h"
#include "oci/state.h"

namespace fastdock::oci {

struct CreateRequest {
  std::string id, bundle;   // the bundle is absolute
  std::string config_file;  // absolute
  std::string console_socket, pidfd_socket, pid_file;
  int preserve_descriptors = 0;
  bool pivot = true;
  bool new_keyring = true;
  bool start = false;       // run: no waiting for `start`
  bool foreground = false;  // the terminal stays with us
};

struct Created {
  Container container;
  launch::Process process;
  Hooks hooks;
  std::optional<NotifySocket> notify;  // of `run`: somebody is to be told that it is ready
};

// On failure nothing is left but what hooks did.
Result<Created> create_container(const Context& context, const CreateRequest& request);

// That the caller has given us as many descriptors from 3 on.  Those of our own close at execve.
Result<void> check_preserved(int count);

// Kills what runs, removes cgroup and state, runs the poststop hooks.
Result<void> remove_container(const Context& context, Container& container, const Hooks& hooks);

// The config.json that the container was created from.
Result<Config> saved_config(const Container& container);

// Where the container's own credentials apply: `exec` and startContainer hooks.
Result<launch::LaunchPlan> place_in_container(const Container& container, const Config& config);

}  // namespace fastdock::oci
