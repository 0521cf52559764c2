// spec: a config.json to start from, the same that runc writes.
#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cerrno>

#include "base/path.h"
#include "oci/context.h"
#include "oci/state.h"

namespace fastdock::oci {
namespace {

constexpr std::string_view kConfig = R"json({
	"ociVersion": "1.2.1",
	"process": {
		"terminal": true,
		"user": {
			"uid": 0,
			"gid": 0
		},
		"args": [
			"sh"
		],
		"env": [
			"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
			"TERM=xterm"
		],
		"cwd": "/",
		"capabilities": {
			"bounding": [
				"CAP_AUDIT_WRITE",
				"CAP_KILL",
				"CAP_NET_BIND_SERVICE"
			],
			"effective": [
				"CAP_AUDIT_WRITE",
				"CAP_KILL",
				"CAP_NET_BIND_SERVICE"
			],
			"permitted": [
				"CAP_AUDIT_WRITE",
				"CAP_KILL",
				"CAP_NET_BIND_SERVICE"
			]
		},
		"rlimits": [
			{
				"type": "RLIMIT_NOFILE",
				"hard": 1024,
				"soft": 1024
			}
		],
		"noNewPrivileges": true
	},
	"root": {
		"path": "rootfs",
		"readonly": true
	},
	"hostname": "fastdock",
	"mounts": [
		{
			"destination": "/proc",
			"type": "proc",
			"source": "proc"
		},
		{
			"destination": "/dev",
			"type": "tmpfs",
			"source": "tmpfs",
			"options": [
				"nosuid",
				"strictatime",
				"mode=755",
				"size=65536k"
			]
		},
		{
			"destination": "/dev/pts",
			"type": "devpts",
			"source": "devpts",
			"options": [
				"nosuid",
				"noexec",
				"newinstance",
				"ptmxmode=0666",
				"mode=0620",
				"gid=5"
			]
		},
		{
			"destination": "/dev/shm",
			"type": "tmpfs",
			"source": "shm",
			"options": [
				"nosuid",
				"noexec",
				"nodev",
				"mode=1777",
				"size=65536k"
			]
		},
		{
			"destination": "/dev/mqueue",
			"type": "mqueue",
			"source": "mqueue",
			"options": [
				"nosuid",
				"noexec",
				"nodev"
			]
		},
		{
			"destination": "/sys",
			"type": "sysfs",
			"source": "sysfs",
			"options": [
				"nosuid",
				"noexec",
				"nodev",
				"ro"
			]
		},
		{
			"destination": "/sys/fs/cgroup",
			"type": "cgroup",
			"source": "cgroup",
			"options": [
				"nosuid",
				"noexec",
				"nodev",
				"relatime",
				"ro"
			]
		}
	],
	"linux": {
		"resources": {
			"devices": [
				{
					"allow": false,
					"access": "rwm"
				}
			]
		},
		"namespaces": [
			{
				"type": "pid"
			},
			{
				"type": "network"
			},
			{
				"type": "ipc"
			},
			{
				"type": "uts"
			},
			{
				"type": "mount"
			}
		],
		"maskedPaths": [
			"/proc/acpi",
			"/proc/asound",
			"/proc/kcore",
			"/proc/keys",
			"/proc/latency_stats",
			"/proc/timer_list",
			"/proc/timer_stats",
			"/proc/sched_debug",
			"/sys/firmware",
			"/proc/scsi"
		],
		"readonlyPaths": [
			"/proc/bus",
			"/proc/fs",
			"/proc/irq",
			"/proc/sys",
			"/proc/sysrq-trigger"
		]
	}
}
)json";

// Replaces the one place where `from` is.
void replace(std::string& text, std::string_view from, std::string_view to) {
  if (auto at = text.find(from); at != std::string::npos) text.replace(at, from.size(), to);
}

// For an ordinary user: a user namespace with the own id as root, and nothing that needs more.
std::string rootless_config() {
  std::string text(kConfig);
  replace(text, "\t\t\t\t\"type\": \"network\"\n\t\t\t},\n\t\t\t{\n", "");
  replace(text, "\"namespaces\": [\n", "\"namespaces\": [\n\t\t\t{\n\t\t\t\t\"type\": \"user\"\n\t\t\t},\n");
  auto mapping = [](const char* name, unsigned id) {
    return std::string("\t\t\"") + name +
           "\": [\n\t\t\t{\n\t\t\t\t\"containerID\": 0,\n\t\t\t\t\"hostID\": " + std::to_string(id) +
           ",\n\t\t\t\t\"size\": 1\n\t\t\t}\n\t\t],\n";
  };
  replace(text, "\t\"linux\": {\n",
          "\t\"linux\": {\n" + mapping("uidMappings", ::geteuid()) + mapping("gidMappings", ::getegid()));
  replace(text, ",\n\t\t\t\t\"gid=5\"", "");
  // A new sysfs needs a network namespace of the own.
  replace(text, "\"type\": \"sysfs\",\n\t\t\t\"source\": \"sysfs\",\n\t\t\t\"options\": [\n",
          "\"type\": \"none\",\n\t\t\t\"source\": \"/sys\",\n\t\t\t\"options\": [\n\t\t\t\t\"rbind\",\n");
  return text;
}

}  // namespace

Result<int> command_spec(const Context&, Words words) {
  constexpr auto kFlags = std::to_array<Flag>(
      {{"bundle", 'b', true, "where to write it"}, {"rootless", 0, false, "for an ordinary user"}});
  FASTDOCK_TRY(Arguments arguments, parse_flags(kFlags, words, FlagsEnd::kNever, "spec"));
  FASTDOCK_CHECK(expect_arguments(arguments, 0, "spec [--bundle directory] [--rootless]"));
  std::string path = arguments.text("bundle", ".") + "/config.json";
  if (::access(path.c_str(), F_OK) == 0)
    return failed_with(EEXIST, Operation::kUseContainer, "File " + path + " exists. Remove it first");
  FASTDOCK_CHECK(
      write_whole(path, arguments.has("rootless") ? rootless_config() : std::string(kConfig), 0666));
  return 0;
}

}  // namespace fastdock::oci
