// features: what this runtime can do (features.md of the specification).
#include <rapidjson/prettywriter.h>
#include <rapidjson/stringbuffer.h>
#include <unistd.h>

#include <string>

#include "launch/capabilities.h"
#include "oci/config.h"
#include "oci/context.h"

namespace fastdock::oci {
namespace {

class Printer {
 public:
  Printer() : writer_(buffer_) { writer_.StartObject(); }
  void key(const char* name) { writer_.Key(name); }
  void begin(const char* name) {
    writer_.Key(name);
    writer_.StartObject();
  }
  void end() { writer_.EndObject(); }
  void put(const char* name, const char* value) {
    writer_.Key(name);
    writer_.String(value);
  }
  void put(const char* name, bool value) {
    writer_.Key(name);
    writer_.Bool(value);
  }
  template <class List>
  void list(const char* name, const List& words) {
    writer_.Key(name);
    writer_.StartArray();
    for (const auto& word : words) writer_.String(std::string(word).c_str());
    writer_.EndArray();
  }
  void list(const char* name, std::initializer_list<const char*> words) {
    list<std::initializer_list<const char*>>(name, words);
  }
  std::string finish() {
    writer_.EndObject();
    return std::string(buffer_.GetString(), buffer_.GetSize()) + "\n";
  }

 private:
  rapidjson::StringBuffer buffer_;
  rapidjson::PrettyWriter<rapidjson::StringBuffer> writer_;
};

void put_seccomp(Printer& out) {
  out.begin("seccomp");
  out.put("enabled", true);
  out.list("actions",
           {"SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO", "SCMP_ACT_KILL", "SCMP_ACT_KILL_PROCESS",
            "SCMP_ACT_KILL_THREAD", "SCMP_ACT_LOG", "SCMP_ACT_NOTIFY", "SCMP_ACT_TRACE", "SCMP_ACT_TRAP"});
  out.list("operators", {"SCMP_CMP_EQ", "SCMP_CMP_GE", "SCMP_CMP_GT", "SCMP_CMP_LE", "SCMP_CMP_LT",
                         "SCMP_CMP_MASKED_EQ", "SCMP_CMP_NE"});
  out.list("archs", {"SCMP_ARCH_X32", "SCMP_ARCH_X86", "SCMP_ARCH_X86_64"});
  const std::initializer_list<const char*> flags = {
      "SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW", "SECCOMP_FILTER_FLAG_TSYNC",
      "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"};
  out.list("knownFlags", flags);
  out.list("supportedFlags", flags);
  out.end();
}

void put_linux(Printer& out) {
  out.begin("linux");
  std::vector<std::string> namespaces = {"cgroup", "ipc", "mount", "network", "pid", "user", "uts"};
  if (::access("/proc/self/ns/time", F_OK) == 0) namespaces.insert(namespaces.begin() + 5, "time");
  out.list("namespaces", namespaces);
  std::vector<std::string> capabilities;
  for (int number = 0; number <= launch::last_capability(); ++number)
    if (auto name = launch::capability_name(number); !name.empty()) capabilities.emplace_back(name);
  out.list("capabilities", capabilities);
  out.begin("cgroup");
  out.put("v1", true);
  out.put("v2", true);
  out.put("systemd", true);
  out.put("systemdUser", true);
  out.put("rdma", true);
  out.end();
  put_seccomp(out);
  for (const char* name : {"apparmor", "selinux"}) {
    out.begin(name);
    out.put("enabled", true);
    out.end();
  }
  out.begin("intelRdt");
  out.put("enabled", false);
  out.end();
  out.begin("mountExtensions");
  out.begin("idmap");
  out.put("enabled", true);
  out.end();
  out.end();
  out.begin("memoryPolicy");
  out.list("modes", memory_policy_modes());
  out.list("flags", memory_policy_flags());
  out.end();
  out.begin("netDevices");
  out.put("enabled", true);
  out.end();
  out.end();
}

}  // namespace

Result<int> command_features(const Context&, Words words) {
  FASTDOCK_TRY(Arguments arguments, parse_flags({}, words, FlagsEnd::kNever, "features"));
  FASTDOCK_CHECK(expect_arguments(arguments, 0, "features"));
  Printer out;
  out.put("ociVersionMin", "1.0.0");
  out.put("ociVersionMax", kSpecificationVersion);
  out.list("hooks",
           {"prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"});
  out.list("mountOptions", mount_options());
  put_linux(out);
  out.begin("annotations");
  out.put("org.opencontainers.runc.checkpoint.enabled", "false");
  out.end();
  out.list("potentiallyUnsafeConfigAnnotations", {});
  FASTDOCK_CHECK(print(out.finish()));
  return 0;
}

}  // namespace fastdock::oci
