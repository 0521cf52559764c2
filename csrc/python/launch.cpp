#include <fcntl.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>

#include "base/path.h"
#include "launch/capabilities.h"
#include "launch/container.h"
#include "launch/helper.h"
#include "launch/helper/helper_program.h"
#include "launch/launcher_thread.h"
#include "launch/wire.h"
#include "net/attach.h"
#include "python/binding.h"
#include "rootfs/id_map.h"
#include "rootfs/prepare.h"

namespace fastdock::python {

namespace py = pybind11;
using namespace fastdock::launch;

namespace {

// A value class whose constructor takes any of its properties by keyword.
template <class T>
py::class_<T> value_class(py::module_& module, const char* name, const char* text) {
  py::class_<T> made(module, name, text);
  made.def(py::init([](const py::kwargs& values) {
    T value;
    py::object view = py::cast(&value, py::return_value_policy::reference);
    for (const auto& [key, item] : values) view.attr(py::str(key)) = item;
    return value;
  }));
  made.def("copy", [](const T& self) { return self; });
  return made;
}

using Mapping = std::tuple<std::uint32_t, std::uint32_t, std::uint32_t>;

std::vector<IdMapping> to_mappings(const std::vector<Mapping>& tuples) {
  std::vector<IdMapping> mappings;
  for (const auto& [inside, outside, count] : tuples) mappings.push_back({inside, outside, count});
  return mappings;
}

void register_mount(py::module_& module) {
  value_class<Mount>(module, "Mount", "One mount below the root, or the root itself: csrc/rootfs/mount.h.")
      .def_readwrite("type", &Mount::type)
      .def_readwrite("source", &Mount::source)
      .def_readwrite("destination", &Mount::destination)
      .def_readwrite("options", &Mount::options)
      .def_readwrite("attributes_set", &Mount::attributes_set)
      .def_readwrite("attributes_clear", &Mount::attributes_clear)
      .def_readwrite("recursive_set", &Mount::recursive_set)
      .def_readwrite("recursive_clear", &Mount::recursive_clear)
      .def_readwrite("propagation", &Mount::propagation)
      .def_readwrite("recursive", &Mount::recursive)
      .def_readwrite("map_ids", &Mount::map_ids)
      .def_readwrite("layers", &Mount::layers)
      .def_readwrite("directory", &Mount::directory)
      .def_readwrite("in_memory", &Mount::in_memory);
  value_class<Device>(module, "Device", "A device node in the container.")
      .def_readwrite("path", &Device::path)
      .def_readwrite("kind", &Device::kind)
      .def_readwrite("major", &Device::major)
      .def_readwrite("minor", &Device::minor)
      .def_readwrite("mode", &Device::mode)
      .def_readwrite("uid", &Device::uid)
      .def_readwrite("gid", &Device::gid)
      .def_readwrite("host_path", &Device::host_path);
}

template <class First, class Second, class Struct>
auto pair_list(std::vector<Struct> LaunchPlan::* member, First Struct::* first, Second Struct::* second) {
  return [=](LaunchPlan& plan, const std::vector<std::pair<First, Second>>& values) {
    (plan.*member).clear();
    for (const auto& value : values) {
      Struct item;
      item.*first = value.first;
      item.*second = value.second;
      (plan.*member).push_back(std::move(item));
    }
  };
}

void set_namespace(LaunchPlan& plan, const std::string& name, const std::string& mode,
                   const std::string& path) {
  static const std::vector<std::string> kNames = {"user", "mount",  "uts",  "ipc",
                                                  "net",  "cgroup", "time", "pid"};
  auto found = std::find(kNames.begin(), kNames.end(), name);
  if (found == kNames.end()) throw py::value_error("no such namespace: " + name);
  NamespacePlan& wanted = plan.namespaces[static_cast<std::size_t>(found - kNames.begin())];
  if (mode == "host")
    wanted = {NamespaceMode::kHost, ""};
  else if (mode == "new")
    wanted = {NamespaceMode::kNew, ""};
  else if (mode == "join")
    wanted = {NamespaceMode::kJoin, path};
  else
    throw py::value_error("namespace mode must be host, new or join");
}

void register_plan(py::module_& module) {
  value_class<LaunchPlan>(module, "LaunchPlan",
                          "Everything that decides how a process starts: csrc/launch/plan.h.")
      .def_readwrite("argv", &LaunchPlan::argv)
      .def_readwrite("environment", &LaunchPlan::environment)
      .def_readwrite("working_directory", &LaunchPlan::working_directory)
      .def_readwrite("create_working_directory", &LaunchPlan::create_working_directory)
      .def(
          "set_user",
          [](LaunchPlan& plan, std::string name, std::vector<std::string> groups) {
            plan.user.name = std::move(name);
            plan.user.group_names = std::move(groups);
          },
          py::arg("name"), py::arg("groups") = std::vector<std::string>{})
      .def("set_umask", [](LaunchPlan& plan, mode_t mask) { plan.user.umask = mask; })
      .def("set_namespace", &set_namespace, py::arg("name"), py::arg("mode"), py::arg("path") = "")
      .def("set_id_maps",
           [](LaunchPlan& plan, const std::vector<Mapping>& uids, const std::vector<Mapping>& gids) {
             plan.uid_map = to_mappings(uids);
             plan.gid_map = to_mappings(gids);
           })
      .def("set_clock_offset",
           [](LaunchPlan& plan, int clock, std::int64_t seconds, std::uint32_t nanoseconds) {
             plan.clock_offsets.push_back({clock, seconds, nanoseconds});
           })
      .def_readwrite("root", &LaunchPlan::root)
      .def_readwrite("attach_point", &LaunchPlan::attach_point)
      .def_readwrite("mounts", &LaunchPlan::mounts)
      .def_readwrite("devices", &LaunchPlan::devices)
      .def("set_links", pair_list(&LaunchPlan::links, &Link::target, &Link::path))
      .def_readwrite("masked_paths", &LaunchPlan::masked_paths)
      .def_readwrite("read_only_paths", &LaunchPlan::read_only_paths)
      .def("set_sysctls", pair_list(&LaunchPlan::sysctls, &Sysctl::name, &Sysctl::value))
      .def_readwrite("hostname", &LaunchPlan::hostname)
      .def_readwrite("domainname", &LaunchPlan::domainname)
      .def_readwrite("raise_loopback", &LaunchPlan::raise_loopback)
      .def(
          "set_capabilities",
          [](LaunchPlan& plan, std::uint64_t bounding, std::uint64_t effective, std::uint64_t permitted,
             std::uint64_t inheritable, std::uint64_t ambient) {
            plan.capabilities = {bounding, effective, permitted, inheritable, ambient};
          },
          py::arg("bounding"), py::arg("effective"), py::arg("permitted"), py::arg("inheritable") = 0,
          py::arg("ambient") = 0)
      .def_readwrite("no_new_privileges", &LaunchPlan::no_new_privileges)
      .def("set_seccomp",
           [](LaunchPlan& plan, const py::bytes& program) {
             std::string_view bytes = program;
             if (bytes.size() % sizeof(sock_filter) != 0) throw py::value_error("not a seccomp program");
             plan.seccomp.resize(bytes.size() / sizeof(sock_filter));
             std::memcpy(plan.seccomp.data(), bytes.data(), bytes.size());
           })
      .def("add_limit", [](LaunchPlan& plan, int resource, std::uint64_t soft,
                           std::uint64_t hard) { plan.limits.push_back({resource, soft, hard}); })
      .def_readwrite("oom_score_adjustment", &LaunchPlan::oom_score_adjustment)
      .def_readwrite("stdio", &LaunchPlan::stdio)
      .def("set_terminal", [](LaunchPlan& plan, std::uint16_t rows,
                              std::uint16_t columns) { plan.terminal = Terminal{rows, columns}; })
      .def_readwrite("apparmor_profile", &LaunchPlan::apparmor_profile)
      .def_readwrite("selinux_label", &LaunchPlan::selinux_label)
      .def(
          "to_bytes", [](const LaunchPlan& plan) { return py::bytes(to_bytes(plan)); },
          "The plan for another process of this very build (csrc/launch/wire.h).")
      .def_readwrite("init", &LaunchPlan::init)
      .def_readwrite("new_session", &LaunchPlan::new_session)
      .def_readwrite("parent_death_signal", &LaunchPlan::parent_death_signal);
}

py::object status_or_none(const std::optional<ExitStatus>& status) {
  if (!status) return py::none();
  return py::make_tuple(status->code, status->signal);
}

// A signal's Python handler runs (and may raise: KeyboardInterrupt); else the waiting goes on, for what is
// left.
py::object wait_interruptibly(Container& container, int timeout_ms) {
  using Clock = std::chrono::steady_clock;
  auto deadline = Clock::now() + std::chrono::milliseconds(timeout_ms);
  while (true) {
    auto status = [&] {
      py::gil_scoped_release release;
      return container.wait(timeout_ms);
    }();
    if (status || status.error().number != EINTR) return status_or_none(unwrap(std::move(status)));
    if (PyErr_CheckSignals() != 0) throw py::error_already_set();
    if (timeout_ms < 0) continue;
    auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now());
    timeout_ms = std::max(0, static_cast<int>(left.count()));
  }
}

// Asks `plan_for` (Python) what the new process is attached to, and does it.  What it raises is put into
// `raised`.
Result<void> attach(const py::object& plan_for, pid_t pid, std::optional<py::error_already_set>& raised) {
  net::AttachPlan plan;
  {
    py::gil_scoped_acquire acquire;
    try {
      plan = plan_for(pid).cast<net::AttachPlan>();
    } catch (py::error_already_set& error) {
      raised.emplace(std::move(error));
      return failed_with(ECANCELED, Operation::kNone, {});
    }
  }
  return net::attach_process(plan, pid);
}

void register_container(py::module_& module) {
  py::class_<Session, std::shared_ptr<Session>>(module, "Session", "The containers that this process owns.")
      .def_static(
          "current",
          [](std::string state, std::string run, std::string cgroup_parent) {
            Places places{std::move(state), std::move(run), std::move(cgroup_parent)};
            return without_gil([&] { return Session::current(places); });
          },
          py::arg("state"), py::arg("run"), py::arg("cgroup_parent"))
      .def("new_id", &Session::new_id, "For Container.start().")
      .def_static(
          "remove_abandoned",
          [](std::string state, std::string run, std::string cgroup_parent) {
            Places places{std::move(state), std::move(run), std::move(cgroup_parent)};
            return without_gil([&] { return remove_abandoned(places); });
          },
          py::arg("state"), py::arg("run"), py::arg("cgroup_parent"));

  py::class_<Container>(module, "Container",
                        "A container from its start to its end: csrc/launch/container.h.")
      .def_static(
          "start",
          [](const std::shared_ptr<Session>& session, const LaunchPlan& plan, const cgroup::Limits& limits,
             bool own_ids, bool in_memory, bool keep_memory, bool outlive_thread, std::string id,
             const py::object& network, std::string network_of, bool held, bool held_in_filter) {
            ContainerOptions options{std::move(id), limits, own_ids, in_memory, keep_memory, held_in_filter};
            Observer observer;
            std::optional<py::error_already_set> raised;
            if (!network.is_none())
              observer.created = [&](pid_t pid) { return attach(network, pid, raised); };
            auto start = [&]() -> Result<std::unique_ptr<Container>> {
              if (held) return Container::prepare(session, plan, options, observer);
              if (network_of.empty()) return Container::start(session, plan, options, observer);
              FASTDOCK_TRY(auto target, open_file(network_of, O_RDONLY));
              FASTDOCK_TRY(auto visit, net::NamespaceVisit::begin(target.get()));
              return Container::start(session, plan, options, observer);
            };
            Result<std::unique_ptr<Container>> started;
            {
              py::gil_scoped_release release;
              if (outlive_thread && network_of.empty()) observer.cloning = run_on_launcher_thread;
              // A network namespace belongs to the user namespace it was made in, so a container with its own
              // ids cannot join another's: it is born there, of a thread that is there.
              if (outlive_thread && !network_of.empty())
                run_on_launcher_thread([&] { started = start(); });
              else
                started = start();
            }
            if (raised) throw std::move(*raised);
            return unwrap(std::move(started));
          },
          py::arg("session"), py::arg("plan"), py::kw_only(), py::arg("limits") = cgroup::Limits{},
          py::arg("own_ids") = true, py::arg("in_memory") = true, py::arg("keep_memory") = false,
          py::arg("outlive_thread") = true, py::arg("id") = "", py::arg("network") = nullptr,
          py::arg("network_of") = "", py::arg("held") = false, py::arg("held_in_filter") = false,
          "`held`: all but the execve, which begin() does; the plan's command is not used.")
      .def(
          "begin",
          [](Container& self, std::vector<std::string> argv, std::vector<std::string> environment,
             std::string working_directory, std::array<int, 3> stdio) {
            launch::HeldProgram program{std::move(argv), std::move(environment), std::move(working_directory),
                                        stdio};
            without_gil([&] { return self.begin(std::move(program)); });
          },
          py::arg("argv"), py::arg("environment"), py::arg("working_directory"), py::arg("stdio"),
          "Starts the program of a held one.")
      .def_property_readonly("id", &Container::id)
      .def_property_readonly("pid", [](const Container& self) { return self.pid(); })
      .def_property_readonly("pidfd", [](const Container& self) { return self.process().pidfd.get(); })
      .def_property_readonly("memory", [](const Container& self) { return self.process().memory.get(); })
      .def(
          "take_terminal", [](Container& self) { return self.process().terminal.release(); },
          "The descriptor of the terminal's other side; the caller's to close.")
      .def_property_readonly("warnings", &Container::warnings)
      .def(
          "wait", [](Container& self, int timeout_ms) { return wait_interruptibly(self, timeout_ms); },
          py::arg("timeout_ms") = -1)
      .def("kill", [](Container& self, int signal) { without_gil([&] { return self.kill(signal); }); })
      .def("finish", [](Container& self) {
        cgroup::Usage usage = without_gil([&] { return self.finish(); });
        return py::make_tuple(usage.cpu_ns, usage.memory_peak, usage.oom_kills);
      });
}

}  // namespace

void register_launch(py::module_& module) {
  set_helper_program(helper_program());
  register_mount(module);
  register_plan(module);
  register_container(module);
  module.def(
      "release_kept",
      [] {
        release_kept_ids();
        rootfs::release_kept_layers();
        rootfs::release_kept_user_namespaces();
      },
      "Closes what is kept for further starts: id ranges, layers' mounts, user namespaces.");
  module.def("memory_holds_upper", &rootfs::memory_holds_upper,
             "Whether a tmpfs can hold an overlay's upper directory here (Linux 6.6).");
}

}  // namespace fastdock::python
