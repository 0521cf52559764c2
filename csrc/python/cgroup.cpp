#include "cgroup/cgroup.h"

#include <pybind11/stl.h>

#include <map>
#include <memory>
#include <tuple>

#include "python/binding.h"

namespace fastdock::python {

namespace py = pybind11;
using namespace fastdock::cgroup;

namespace {

py::object limit_or_none(std::uint64_t limit) {
  return limit == kNoLimit ? py::object(py::none()) : py::cast(limit);
}

py::dict usage_dict(const Usage& usage) {
  py::dict out;
  out["cpu_ns"] = usage.cpu_ns;
  out["memory_peak"] = usage.memory_peak;
  out["oom_kills"] = usage.oom_kills;
  return out;
}

py::object pressure_dict(const std::optional<Pressure>& pressure) {
  if (!pressure) return py::none();
  py::dict out;
  for (const auto& [kind, line] : {std::pair("some", &pressure->some), std::pair("full", &pressure->full)}) {
    py::dict values;
    values["avg10"] = line->avg10;
    values["avg60"] = line->avg60;
    values["avg300"] = line->avg300;
    values["total_us"] = line->total_us;
    out[kind] = values;
  }
  return out;
}

py::list io_list(const std::vector<DeviceIo>& devices) {
  py::list out;
  for (const DeviceIo& io : devices) {
    py::dict entry;
    entry["major"] = io.major;
    entry["minor"] = io.minor;
    entry["read_bytes"] = io.read_bytes;
    entry["write_bytes"] = io.write_bytes;
    entry["reads"] = io.reads;
    entry["writes"] = io.writes;
    out.append(entry);
  }
  return out;
}

py::list hugetlb_list(const std::vector<HugetlbUse>& uses) {
  py::list out;
  for (const HugetlbUse& use : uses) {
    py::dict entry;
    entry["page_size"] = use.page_size;
    entry["current"] = use.current;
    entry["limit"] = limit_or_none(use.limit);
    entry["failures"] = use.failures;
    out.append(entry);
  }
  return out;
}

py::dict statistics_dict(const Statistics& statistics) {
  py::dict out = usage_dict(statistics.usage);
  out["cpu_user_ns"] = statistics.cpu_user_ns;
  out["cpu_system_ns"] = statistics.cpu_system_ns;
  out["periods"] = statistics.periods;
  out["throttled_periods"] = statistics.throttled_periods;
  out["throttled_ns"] = statistics.throttled_ns;
  out["memory_current"] = statistics.memory_current;
  out["memory_limit"] = limit_or_none(statistics.memory_limit);
  out["memory_anon"] = statistics.memory_anon;
  out["memory_cache"] = statistics.memory_cache;
  out["memory_inactive_file"] = statistics.memory_inactive_file;
  out["memory_kernel"] = statistics.memory_kernel;
  out["swap_current"] = statistics.swap_current;
  out["swap_limit"] = limit_or_none(statistics.swap_limit);
  out["memory_limit_hits"] = statistics.memory_limit_hits;
  py::dict memory_stat;
  for (const auto& [key, value] : statistics.memory_stat) memory_stat[py::str(key)] = value;
  out["memory_stat"] = memory_stat;
  out["pids_current"] = statistics.pids_current;
  out["pids_limit"] = limit_or_none(statistics.pids_limit);
  out["io"] = io_list(statistics.io);
  out["hugetlb"] = hugetlb_list(statistics.hugetlb);
  out["cpu_pressure"] = pressure_dict(statistics.cpu_pressure);
  out["memory_pressure"] = pressure_dict(statistics.memory_pressure);
  out["io_pressure"] = pressure_dict(statistics.io_pressure);
  return out;
}

// What the machine offers, for `fastdock info`.
py::dict cgroup_info() {
  const Hierarchies* machine = without_gil([] { return Hierarchies::machine(); });
  py::list hierarchies;
  for (const Hierarchy& hierarchy : machine->all()) {
    py::dict entry;
    py::list controllers;
    hierarchy.controllers.for_each(
        [&](Controller controller) { controllers.append(std::string(name(controller, hierarchy.version))); });
    entry["version"] = hierarchy.version == Version::kV1 ? 1 : 2;
    entry["controllers"] = controllers;
    entry["name"] = hierarchy.name;
    entry["mount_point"] = hierarchy.mount_point;
    entry["base"] = hierarchy.base.empty() ? py::object(py::none()) : py::cast(hierarchy.base);
    hierarchies.append(entry);
  }
  py::dict out;
  out["version"] = machine->version() == Version::kV1 ? 1 : 2;
  out["hybrid"] = machine->version() == Version::kV1 && machine->unified() != nullptr;
  out["hierarchies"] = hierarchies;
  return out;
}

// Lists of plain structs are lists of tuples in Python.
using Rate = std::tuple<std::uint32_t, std::uint32_t, std::uint64_t>;
using Weight = std::tuple<std::uint32_t, std::uint32_t, std::uint16_t>;
using Rdma = std::tuple<std::string, std::optional<std::uint32_t>, std::optional<std::uint32_t>>;

template <class Tuple, class Struct>
void list_property(py::class_<Limits>& limits, const char* name, std::vector<Struct> Limits::* member) {
  limits.def_property(
      name,
      [member](const Limits& self) {
        std::vector<Tuple> out;
        for (const auto& [first, second, third] : self.*member) out.emplace_back(first, second, third);
        return out;
      },
      [member](Limits& self, const std::vector<Tuple>& values) {
        (self.*member).clear();
        for (const auto& [first, second, third] : values) (self.*member).push_back({first, second, third});
      });
}

template <class Struct, class Value>
void map_property(py::class_<Limits>& limits, const char* name, std::vector<Struct> Limits::* member) {
  limits.def_property(
      name,
      [member](const Limits& self) {
        std::map<std::string, Value> out;
        for (const auto& [key, value] : self.*member) out.emplace(key, value);
        return out;
      },
      [member](Limits& self, const std::map<std::string, Value>& values) {
        (self.*member).clear();
        for (const auto& [key, value] : values) (self.*member).push_back({key, value});
      });
}

void register_limits(py::module_& module) {
  py::class_<DeviceRule>(module, "DeviceRule")
      .def(py::init([](char type, std::optional<std::uint32_t> major, std::optional<std::uint32_t> minor,
                       std::string access,
                       bool allow) { return DeviceRule{type, major, minor, std::move(access), allow}; }),
           py::arg("type") = 'a', py::arg("major") = py::none(), py::arg("minor") = py::none(),
           py::arg("access") = "rwm", py::arg("allow") = false)
      .def_readwrite("type", &DeviceRule::type)
      .def_readwrite("major", &DeviceRule::major)
      .def_readwrite("minor", &DeviceRule::minor)
      .def_readwrite("access", &DeviceRule::access)
      .def_readwrite("allow", &DeviceRule::allow);

  py::class_<Limits> limits(module, "Limits", "What a cgroup may use; None leaves a value as it is.");
  limits.def(py::init([](const py::kwargs& values) {
    auto made = std::make_unique<Limits>();
    py::object view = py::cast(made.get(), py::return_value_policy::reference);
    for (const auto& [key, value] : values) view.attr(py::str(key)) = value;
    return *made;
  }));
  limits.def_readwrite("memory", &Limits::memory)
      .def_readwrite("memory_swap", &Limits::memory_swap)
      .def_readwrite("memory_reservation", &Limits::memory_reservation)
      .def_readwrite("kernel_memory", &Limits::kernel_memory)
      .def_readwrite("kernel_memory_tcp", &Limits::kernel_memory_tcp)
      .def_readwrite("memory_swappiness", &Limits::memory_swappiness)
      .def_readwrite("oom_kill_disable", &Limits::oom_kill_disable)
      .def_readwrite("cpu_shares", &Limits::cpu_shares)
      .def_readwrite("cpu_quota", &Limits::cpu_quota)
      .def_readwrite("cpu_period", &Limits::cpu_period)
      .def_readwrite("cpu_burst", &Limits::cpu_burst)
      .def_readwrite("cpu_idle", &Limits::cpu_idle)
      .def_readwrite("cpu_rt_runtime", &Limits::cpu_rt_runtime)
      .def_readwrite("cpu_rt_period", &Limits::cpu_rt_period)
      .def_readwrite("cpuset_cpus", &Limits::cpuset_cpus)
      .def_readwrite("cpuset_mems", &Limits::cpuset_mems)
      .def_readwrite("pids", &Limits::pids)
      .def_readwrite("blkio_weight", &Limits::blkio_weight)
      .def_readwrite("network_class", &Limits::network_class)
      .def_readwrite("devices", &Limits::devices)
      .def_readwrite("unified", &Limits::unified);
  list_property<Weight>(limits, "blkio_weight_device", &Limits::blkio_weight_device);
  list_property<Rate>(limits, "blkio_read_bps", &Limits::blkio_read_bps);
  list_property<Rate>(limits, "blkio_write_bps", &Limits::blkio_write_bps);
  list_property<Rate>(limits, "blkio_read_iops", &Limits::blkio_read_iops);
  list_property<Rate>(limits, "blkio_write_iops", &Limits::blkio_write_iops);
  list_property<Rdma>(limits, "rdma", &Limits::rdma);
  map_property<HugetlbLimit, std::uint64_t>(limits, "hugetlb", &Limits::hugetlb);
  map_property<NetworkPriority, std::uint32_t>(limits, "network_priorities", &Limits::network_priorities);
}

std::chrono::milliseconds to_milliseconds(double seconds) {
  return std::chrono::ceil<std::chrono::milliseconds>(std::chrono::duration<double>(seconds));
}

Result<Cgroup> create(const std::string& path, const Limits& limits, CreateOptions options) {
  FASTDOCK_TRY(const Hierarchies* machine, Hierarchies::machine());
  return Cgroup::create(*machine, path, limits, options);
}

Result<Cgroup> open(const std::string& path) {
  FASTDOCK_TRY(const Hierarchies* machine, Hierarchies::machine());
  return Cgroup::open(*machine, path);
}

void register_class(py::module_& module) {
  py::class_<Cgroup>(module, "Cgroup", "One container's cgroup.  A name: it stays until remove().")
      .def_static(
          "create",
          [](const std::string& path, const Limits& limits, bool all_controllers, bool unified) {
            return without_gil([&] { return create(path, limits, {all_controllers, unified}); });
          },
          py::arg("path"), py::arg("limits") = Limits{}, py::kw_only(), py::arg("all_controllers") = false,
          py::arg("unified") = true)
      .def_static(
          "open", [](const std::string& path) { return without_gil([&] { return open(path); }); },
          py::arg("path"))
      .def_property_readonly("path", &Cgroup::path)
      .def_property_readonly("is_nowhere", &Cgroup::is_nowhere)
      .def_property_readonly("warnings", &Cgroup::warnings)
      .def("directories",
           [](const Cgroup& self) {
             py::dict out;
             for (const auto& [controller, directory] : self.directories())
               out[py::str(controller)] = directory;
             return out;
           })
      .def("join_descriptors",
           [](const Cgroup& self) {
             Join join = without_gil([&] { return self.join(); });
             std::vector<int> tasks;
             for (Fd& fd : join.tasks) tasks.push_back(fd.release());
             return py::make_tuple(join.directory.release(), join.procs.release(), tasks);
           })
      .def(
          "add", [](const Cgroup& self, pid_t pid) { without_gil([&] { return self.add(pid); }); },
          py::arg("pid"))
      .def(
          "update",
          [](Cgroup& self, const Limits& limits) { without_gil([&] { return self.update(limits); }); },
          py::arg("limits"))
      .def(
          "make_freezable", [](const Cgroup& self) { without_gil([&] { return self.make_freezable(); }); },
          "Makes what freeze() needs, if it is not there (cgroup v1).")
      .def(
          "freeze", [](const Cgroup& self, bool frozen) { without_gil([&] { return self.freeze(frozen); }); },
          py::arg("frozen") = true)
      .def("is_frozen", [](const Cgroup& self) { return without_gil([&] { return self.is_frozen(); }); })
      .def(
          "kill",
          [](const Cgroup& self, double timeout) {
            without_gil([&] { return self.kill_all(to_milliseconds(timeout)); });
          },
          py::arg("timeout") = 10.0)
      .def("processes", [](const Cgroup& self) { return without_gil([&] { return self.processes(); }); })
      .def("usage", [](const Cgroup& self) { return usage_dict(without_gil([&] { return self.usage(); })); })
      .def("statistics",
           [](const Cgroup& self) { return statistics_dict(without_gil([&] { return self.statistics(); })); })
      .def("watch_oom",
           [](const Cgroup& self) { return without_gil([&] { return self.watch_oom(); }).release(); })
      .def(
          "remove",
          [](const Cgroup& self, double timeout) {
            without_gil([&] { return self.remove(to_milliseconds(timeout)); });
          },
          py::arg("timeout") = 2.0);
}

}  // namespace

void register_cgroup(py::module_& module) {
  register_limits(module);
  register_class(module);
  module.def("cgroup_info", &cgroup_info, "The cgroup hierarchies of this machine, as fastdock sees them.");
}

}  // namespace fastdock::python
