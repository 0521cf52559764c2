// Which devices a cgroup may use: control files on v1, an eBPF program of our own making on v2.
#pragma once

#include <linux/bpf.h>

#include <string>
#include <vector>

#include "base/error.h"
#include "cgroup/files.h"
#include "cgroup/limits.h"

namespace fastdock::cgroup {

// v1: one write to devices.allow or devices.deny for each rule, in order.
Result<void> apply_device_files(const Files& files, const std::vector<DeviceRule>& rules);

// What v1 takes for one rule: "c 1:3 rwm", "a", or a line for each of both types.
std::vector<std::string> device_file_lines(const DeviceRule& rule);

// The BPF_PROG_TYPE_CGROUP_DEVICE program for the rules.  For each of the requested accesses (read,
// write, mknod) the last rule that matches decides; what no rule matches is denied.  The request is
// granted if all of its accesses are.
std::vector<bpf_insn> device_program(const std::vector<DeviceRule>& rules);

// v2: loads the program and attaches it to the directory, in place of the programs that are there.
Result<void> attach_device_program(const std::string& directory, const std::vector<DeviceRule>& rules);

}  // namespace fastdock::cgroup
