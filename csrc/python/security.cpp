// Seccomp profiles and capabilities.
#include <linux/filter.h>
#include <pybind11/stl.h>
#include <sys/utsname.h>

#include <cerrno>
#include <cstdio>

#include "launch/capabilities.h"
#include "launch/seccomp.h"
#include "launch/seccomp_cache.h"
#include "python/binding.h"

namespace fastdock::python {
namespace {

namespace py = pybind11;
using namespace fastdock::launch;

[[noreturn]] void malformed(const std::string& what) {
  raise(Error{EINVAL, Operation::kCompileSeccomp, what, Hint::kNone});
}

// A key of a JSON object that may be absent or null; Go's encoders write null for empty lists.
py::object get(const py::dict& object, const char* key) {
  return object.contains(key) ? py::object(object[key]) : py::none();
}

py::list get_list(const py::dict& object, const char* key) {
  py::object value = get(object, key);
  if (value.is_none()) return py::list();
  if (!py::isinstance<py::list>(value) && !py::isinstance<py::tuple>(value))
    malformed(std::string(key) + " is not a list");
  return py::list(value);
}

py::dict as_dict(const py::handle& value, const char* what) {
  if (!py::isinstance<py::dict>(value)) malformed(std::string(what) + " is not an object");
  return py::reinterpret_borrow<py::dict>(value);
}

std::string as_text(const py::handle& value, const char* what) {
  if (!py::isinstance<py::str>(value)) malformed(std::string(what) + " is not a string");
  return value.cast<std::string>();
}

// Go's uint64 and uint: neither negative nor a fraction, and bool is no number.
std::uint64_t as_number(const py::handle& value, std::uint64_t largest, const char* what) {
  if (!py::isinstance<py::int_>(value) || py::isinstance<py::bool_>(value))
    malformed(std::string(what) + " is not a number");
  const std::uint64_t number = PyLong_AsUnsignedLongLong(value.ptr());
  if (PyErr_Occurred() != nullptr) {
    PyErr_Clear();
    malformed(std::string(what) + " is out of range");
  }
  if (number > largest) malformed(std::string(what) + " is out of range");
  return number;
}

std::optional<std::uint32_t> get_errno(const py::dict& object, const char* key) {
  py::object value = get(object, key);
  if (value.is_none()) return std::nullopt;
  return static_cast<std::uint32_t>(as_number(value, 0xffff, key));
}

SeccompAction get_action(const py::dict& object, const char* key) {
  py::object value = get(object, key);
  if (value.is_none()) malformed(std::string("no ") + key);
  const std::string word = as_text(value, key);
  auto action = parse_seccomp_action(word);
  if (!action) malformed("unknown action " + word);
  return *action;
}

SeccompArchitecture as_architecture(const py::handle& value) {
  const std::string word = as_text(value, "an architecture");
  auto architecture = parse_seccomp_architecture(word);
  if (!architecture) malformed("unknown architecture " + word);
  return *architecture;
}

// "4.8" against uname(2).  Docker's profiles ask for it where an older kernel had a hole.
bool kernel_is_at_least(const std::string& version) {
  unsigned wanted[2];
  unsigned running[2];
  char rest = 0;
  if (std::sscanf(version.c_str(), "%u.%u%c", &wanted[0], &wanted[1], &rest) != 2)
    malformed("minKernel " + version);
  struct utsname name{};
  if (::uname(&name) != 0 || std::sscanf(name.release, "%u.%u", &running[0], &running[1]) != 2) return false;
  return running[0] != wanted[0] ? running[0] > wanted[0] : running[1] >= wanted[1];
}

// Whether any / all of the names are capabilities of the set; an unknown name is in no set.
bool holds(const py::handle& name, CapabilitySet capabilities) {
  auto number = capability_number(as_text(name, "a capability"));
  return number && has_capability(capabilities, *number);
}

bool is_this_machine(const py::handle& name) { return as_text(name, "an architecture") == "amd64"; }

// Docker's `includes` (every listed capability, one of the architectures, the kernel) and `excludes` (none of
// them): moby, profiles/seccomp/seccomp_linux.go, setupSeccomp.
bool applies(const py::dict& rule, CapabilitySet capabilities) {
  if (py::object filter = get(rule, "includes"); !filter.is_none()) {
    py::dict includes = as_dict(filter, "includes");
    py::list arches = get_list(includes, "arches");
    bool arch = py::len(arches) == 0;
    for (const py::handle& name : arches) arch = arch || is_this_machine(name);
    if (!arch) return false;
    for (const py::handle& name : get_list(includes, "caps"))
      if (!holds(name, capabilities)) return false;
    if (py::object kernel = get(includes, "minKernel"); !kernel.is_none())
      if (!kernel_is_at_least(as_text(kernel, "minKernel"))) return false;
  }
  if (py::object filter = get(rule, "excludes"); !filter.is_none()) {
    py::dict excludes = as_dict(filter, "excludes");
    for (const py::handle& name : get_list(excludes, "arches"))
      if (is_this_machine(name)) return false;
    for (const py::handle& name : get_list(excludes, "caps"))
      if (holds(name, capabilities)) return false;
    if (py::object kernel = get(excludes, "minKernel"); !kernel.is_none())
      if (kernel_is_at_least(as_text(kernel, "minKernel"))) return false;
  }
  return true;
}

SeccompArgument as_argument(const py::handle& value) {
  py::dict object = as_dict(value, "an argument");
  constexpr std::uint64_t any = ~std::uint64_t{0};
  SeccompArgument argument;
  py::object index = get(object, "index");
  py::object first = get(object, "value");
  py::object second = get(object, "valueTwo");
  if (!index.is_none()) argument.index = static_cast<std::uint32_t>(as_number(index, 5, "index"));
  if (!first.is_none()) argument.value = as_number(first, any, "value");
  if (!second.is_none()) argument.value_two = as_number(second, any, "valueTwo");
  const std::string word = as_text(get(object, "op"), "op");
  auto op = parse_seccomp_operator(word);
  if (!op) malformed("unknown operator " + word);
  argument.op = *op;
  return argument;
}

SeccompRule as_rule(const py::dict& object) {
  SeccompRule rule;
  // "name" is Docker's older spelling of a rule for one call.
  if (py::object name = get(object, "name"); !name.is_none()) rule.names.push_back(as_text(name, "name"));
  for (const py::handle& name : get_list(object, "names")) rule.names.push_back(as_text(name, "a name"));
  if (rule.names.empty()) malformed("a rule without names");
  rule.action = get_action(object, "action");
  rule.errno_value = get_errno(object, "errnoRet");
  for (const py::handle& argument : get_list(object, "args")) rule.arguments.push_back(as_argument(argument));
  return rule;
}

void add_architectures(SeccompProfile& profile, const py::dict& object) {
  py::list plain = get_list(object, "architectures");
  py::list map = get_list(object, "archMap");
  if (py::len(plain) != 0 && py::len(map) != 0) malformed("both architectures and archMap");
  for (const py::handle& each : plain) profile.architectures.push_back(as_architecture(each));
  for (const py::handle& each : map) {
    py::dict entry = as_dict(each, "an entry of archMap");
    if (as_text(get(entry, "architecture"), "architecture") != "SCMP_ARCH_X86_64") continue;
    for (const py::handle& sub : get_list(entry, "subArchitectures"))
      profile.architectures.push_back(as_architecture(sub));
  }
}

SeccompProfile as_profile(const py::dict& object, CapabilitySet capabilities) {
  SeccompProfile profile;
  profile.default_action = get_action(object, "defaultAction");
  profile.default_errno = get_errno(object, "defaultErrnoRet");
  add_architectures(profile, object);
  if (!get(object, "flags").is_none()) profile.flags = 0;
  for (const py::handle& each : get_list(object, "flags")) {
    const std::string word = as_text(each, "a flag");
    auto flag = parse_seccomp_flag(word);
    if (!flag) malformed("unknown flag " + word);
    profile.flags |= *flag;
  }
  for (const py::handle& each : get_list(object, "syscalls")) {
    py::dict rule = as_dict(each, "a rule");
    if (applies(rule, capabilities)) profile.rules.push_back(as_rule(rule));
  }
  return profile;
}

py::bytes as_bytes(const std::vector<sock_filter>& program) {
  return {reinterpret_cast<const char*>(program.data()), program.size() * sizeof(sock_filter)};
}

CapabilitySet capability_set(const std::vector<std::string>& names) {
  std::string unknown;
  auto set = parse_capabilities(names, &unknown);
  if (!set) raise(Error{EINVAL, Operation::kParse, unknown, Hint::kNone});
  return *set;
}

}  // namespace

void register_security(py::module_& module) {
  module.def(
      "default_seccomp",
      [](CapabilitySet capabilities, bool i386, const std::string& cache) {
        return as_bytes(without_gil([&] {
          return cache.empty() ? compile(default_profile(capabilities, i386))
                               : cached_default_program(cache, capabilities, i386);
        }));
      },
      py::arg("capabilities"), py::arg("i386") = false, py::arg("cache") = "");
  module.def(
      "compile_seccomp",
      [](const py::dict& object, CapabilitySet capabilities) {
        SeccompProfile profile = as_profile(object, capabilities);
        py::bytes program = as_bytes(without_gil([&] { return compile(profile); }));
        return py::make_tuple(program, load_flags(profile));
      },
      py::arg("profile"), py::arg("capabilities"));
  module.def("capability_set", &capability_set, py::arg("names"));
  module.def("capability_names", &capability_names, py::arg("capabilities"));
  module.def("bounding_set", &bounding_set);
  module.def("last_capability",
             [] { return without_gil([]() -> Result<int> { return last_capability(); }); });
  module.attr("DEFAULT_CAPABILITIES") = kDefaultCapabilities;
}

}  // namespace fastdock::python
