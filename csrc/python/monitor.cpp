#include <pybind11/stl.h>
#include <sys/inotify.h>

#include "base/path.h"
#include "launch/ids.h"
#include "launch/wire.h"
#include "monitor/connect.h"
#include "monitor/events.h"
#include "monitor/exec.h"
#include "monitor/places.h"
#include "monitor/program/monitor_program.h"
#include "monitor/request.h"
#include "monitor/start.h"
#include "monitor/state.h"
#include "python/binding.h"
#include "rootfs/view.h"

namespace fastdock::python {

namespace py = pybind11;
using namespace fastdock::monitor;

namespace {

Restart restart_of(const std::string& name, std::uint32_t maximum) {
  if (name == "no" || name.empty()) return {RestartPolicy::kNo, 0};
  if (name == "on-failure") return {RestartPolicy::kOnFailure, maximum};
  if (name == "always") return {RestartPolicy::kAlways, 0};
  if (name == "unless-stopped") return {RestartPolicy::kUnlessStopped, 0};
  throw py::value_error("no such restart policy: " + name);
}

LogDriver driver_of(const std::string& name) {
  if (name == "json-file") return LogDriver::kJsonFile;
  if (name == "local") return LogDriver::kLocal;
  if (name == "none") return LogDriver::kNone;
  throw py::value_error("no such log driver: " + name);
}

void register_request(py::module_& module) {
  py::class_<Request>(module, "MonitorRequest",
                      "One container, as its monitor is told: csrc/monitor/request.h.")
      .def(py::init([](std::string state, std::string run, std::string cgroup_parent, std::string id,
                       const LaunchPlan& plan, const cgroup::Limits& limits) {
             Request request;
             request.places = {std::move(state), std::move(run), std::move(cgroup_parent)};
             request.id = std::move(id);
             request.plan = plan;
             request.limits = limits;
             return request;
           }),
           py::arg("state"), py::arg("run"), py::arg("cgroup_parent"), py::arg("id"), py::arg("plan"),
           py::arg("limits"))
      .def_readwrite("attributes", &Request::attributes)
      .def_readwrite("files", &Request::files, "(name, text): in the run directory, for binds.")
      .def_readwrite("stop_signal", &Request::stop_signal)
      .def_readwrite("stop_timeout", &Request::stop_timeout, "Milliseconds; -1: for ever.")
      .def_readwrite("open_stdin", &Request::open_stdin)
      .def_readwrite("stdin_once", &Request::stdin_once)
      .def_readwrite("remove", &Request::remove)
      .def_readwrite("ids", &Request::ids)
      .def_readwrite("network_of", &Request::network_of)
      .def(
          "set_network", [](Request& request, const net::AttachPlan& plan) { request.network = plan; },
          "Attached at each start, detached at each end.")
      .def("set_restart", [](Request& request, const std::string& name,
                             std::uint32_t maximum) { request.restart = restart_of(name, maximum); })
      .def(
          "set_log",
          [](Request& request, const std::string& driver, std::string path, std::uint64_t maximum_size,
             std::uint32_t maximum_files, bool compress) {
            request.log = {driver_of(driver), std::move(path), maximum_size, maximum_files, compress};
          },
          py::arg("driver"), py::arg("path"), py::arg("maximum_size"), py::arg("maximum_files"),
          py::arg("compress"))
      .def(
          "set_health",
          [](Request& request, const LaunchPlan& probe, std::int64_t interval, std::int64_t timeout,
             std::int64_t start_period, std::int64_t start_interval, std::uint32_t retries) {
            request.health = {probe, interval, timeout, start_period, start_interval, retries};
          },
          py::arg("probe"), py::kw_only(), py::arg("interval"), py::arg("timeout"), py::arg("start_period"),
          py::arg("start_interval"), py::arg("retries"), "Times are milliseconds.");

  module.def(
      "start_monitor",
      [](const Request& request, int attached) {
        Started started = without_gil([&] { return start(request, attached); });
        return py::make_tuple(started.pid, started.warnings, started.socket.release());
      },
      py::arg("request"), py::arg("attached") = 0,
      "Starts the container; (pid, warnings, descriptor of a control connection, the caller's to close).");
}

void register_exec(py::module_& module) {
  py::class_<Exec>(module, "Exec", "A further process in a running container: csrc/monitor/exec.h.")
      .def_static(
          "start",
          [](std::string state, std::string run, std::string cgroup_parent, const std::string& id,
             const LaunchPlan& plan, pid_t target, bool own_group) {
            Places places{std::move(state), std::move(run), std::move(cgroup_parent)};
            return without_gil([&] { return Exec::start(places, id, plan, {target, own_group}); });
          },
          py::arg("state"), py::arg("run"), py::arg("cgroup_parent"), py::arg("id"), py::arg("plan"),
          py::arg("target"), py::arg("own_group") = false)
      .def_property_readonly("pid", [](Exec& self) { return self.process().pid; })
      .def_property_readonly("pidfd", [](Exec& self) { return self.process().pidfd.get(); })
      .def("take_terminal", [](Exec& self) { return self.process().terminal.release(); })
      .def(
          "wait",
          [](Exec& self, int timeout_ms) -> py::object {
            auto status = without_gil([&] { return launch::wait(self.process(), timeout_ms); });
            if (!status) return py::none();
            return py::make_tuple(status->code, status->signal);
          },
          py::arg("timeout_ms") = -1, "(code, signal) once, or None when the time is up.")
      .def("kill",
           [](Exec& self, int signal) {
             without_gil([&] { return launch::send_signal(self.process(), signal); });
           })
      .def("kill_all", [](Exec& self) { without_gil([&] { return self.kill_all(); }); })
      .def("remove_group", [](Exec& self) { without_gil([&] { return self.remove_group(); }); });
}

void register_places(py::module_& module) {
  module.def(
      "reserve_ids",
      [](std::string state, std::string run, const std::string& id) {
        Places places{std::move(state), std::move(run), ""};
        return without_gil([&] { return reserve_ids(places, id); });
      },
      "A range of 65,536 ids for a container that is kept: its number.");
  module.def("first_id",
             [](std::uint32_t number) { return launch::kFirstId + number * launch::kIdsPerRange; });
  module.attr("IDS_PER_RANGE") = launch::kIdsPerRange;
  module.def(
      "repair",
      [](std::string state, std::string run, std::string cgroup_parent) {
        Places places{std::move(state), std::move(run), std::move(cgroup_parent)};
        return without_gil([&] { return repair(places); });
      },
      "Ends what monitors that were killed left; the containers' ids.");
  module.def(
      "take_run_directory",
      [](std::string state, std::string run, const std::string& id) {
        Places places{std::move(state), std::move(run), ""};
        return without_gil([&] { return take_run_directory(places, id); }).release();
      },
      "A container's run directory, made and locked: the descriptor of it, the caller's to close.");
  module.def(
      "live_states",
      [](std::string run) {
        Places places{"", std::move(run), ""};
        py::dict states;
        for (const auto& [id, json] : without_gil([&] { return live_states(places); }))
          states[py::str(id)] = py::bytes(json);
        return states;
      },
      "What each monitor says of its container now: the JSON of csrc/monitor/state.h by id.");
  module.def("remove_cgroup",
             [](std::string state, std::string run, std::string cgroup_parent, const std::string& id) {
               Places places{std::move(state), std::move(run), std::move(cgroup_parent)};
               without_gil([&] { return remove_cgroup(places, id); });
             });
  module.def("write_state", [](const std::string& directory, const std::string& json, bool sync) {
    without_gil([&] { return write_state(directory, json, sync); });
  });
}

void register_files(py::module_& module) {
  module.def(
      "open_in_root",
      [](int root, const std::string& path, int flags, mode_t mode) {
        return without_gil([&] { return open_in_root(root, path, flags, mode); }).release();
      },
      py::arg("root"), py::arg("path"), py::arg("flags"), py::arg("mode") = 0,
      "Opens a path as if the directory `root` were \"/\": no link leads out of it.  openat2(2).");
  module.def(
      "remove_tree",
      [](const std::string& path) { without_gil([&] { return remove_tree(AT_FDCWD, path); }); },
      "rm -rf; never follows a link.  A missing path is success.");
  module.def(
      "open_view",
      [](const std::vector<std::string>& layers, const std::string& directory, std::int64_t first_id) {
        rootfs::IdMaps maps;
        if (first_id >= 0)
          maps.uids = maps.gids = {{0, static_cast<std::uint32_t>(first_id), launch::kIdsPerRange}};
        return without_gil([&] { return rootfs::open_view(layers, directory, maps); }).release();
      },
      py::arg("layers"), py::arg("directory") = "", py::arg("first_id") = -1,
      "A detached mount of a container's files that does not run: csrc/rootfs/view.h.");
}

void register_threads(py::module_& module) {
  module.def(
      "connect_in",
      [](pid_t pid, std::uint16_t port) {
        auto connected = [&] {
          py::gil_scoped_release release;
          return connect_in(pid, port);
        }();
        return connected ? connected->release() : -1;
      },
      "A connection to 127.0.0.1:port in the process's network namespace; -1 if there is none.");
  module.def(
      "own_files_as", [](uid_t uid, gid_t gid) { unwrap(own_files_as(uid, gid)); },
      "From now on what this thread creates belongs to these ids: csrc/monitor/connect.h.");
}

Result<Fd> open_watch(const std::vector<std::string>& paths, std::uint32_t mask) {
  Fd watch(::inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
  if (!watch) return failed(Operation::kOpenFile, "inotify");
  for (const std::string& path : paths)
    if (::inotify_add_watch(watch.get(), path.c_str(), mask) < 0) return failed(Operation::kOpenFile, path);
  return watch;
}

}  // namespace

void register_monitor(py::module_& module) {
  set_monitor_program(monitor_program());
  register_request(module);
  register_exec(module);
  register_places(module);
  register_files(module);
  register_threads(module);
  module.def("exec_plan", &exec_plan,
             "A plan for further processes in a container that was started by this one.");
  module.def("plan_bytes", [](const LaunchPlan& plan) { return py::bytes(launch::to_bytes(plan)); });
  module.def(
      "update_bytes",
      [](const cgroup::Limits& limits, const std::optional<std::string>& restart, std::uint32_t maximum) {
        Update update{limits, std::nullopt, std::nullopt};
        if (restart) update.restart = restart_of(*restart, maximum);
        return py::bytes(to_bytes(update));
      },
      py::arg("limits"), py::arg("restart") = py::none(), py::arg("maximum") = 0);
  module.def(
      "network_update_bytes",
      [](const net::AttachPlan& network) { return py::bytes(to_bytes(Update{{}, std::nullopt, network})); },
      "What a container with a monitor is attached to from its next start on.");
  module.def("append_event", [](const std::string& directory, std::string type, std::string action,
                                std::string id, std::vector<std::pair<std::string, std::string>> attributes) {
    Event event{std::move(type), std::move(action), std::move(id), std::move(attributes)};
    without_gil([&] { return append_event(directory, event); });
  });
  module.def(
      "watch_files",
      [](const std::vector<std::string>& paths) {
        constexpr std::uint32_t kMask =
            IN_MODIFY | IN_CREATE | IN_MOVED_TO | IN_MOVE_SELF | IN_DELETE_SELF | IN_DELETE;
        return without_gil([&] { return open_watch(paths, kMask); }).release();
      },
      "A descriptor (inotify) that becomes readable when one of the files or directories changes.");
  module.def(
      "error_of",
      [](int number, int operation, int hint, std::string path) {
        raise(Error{number, static_cast<Operation>(operation), std::move(path), static_cast<Hint>(hint)});
      },
      "Raises the exception for an error that a monitor reported.");
}

}  // namespace fastdock::python
