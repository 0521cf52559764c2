#include "oci/figures.h"

#include <string_view>

namespace fastdock::oci {
namespace {

void put(Writer& writer, const char* key, std::uint64_t number) {
  writer.Key(key);
  writer.Uint64(number);
}

template <class Function>
void object(Writer& writer, const char* key, Function members) {
  writer.Key(key);
  writer.StartObject();
  members();
  writer.EndObject();
}

template <class Numbers>
void put_list(Writer& writer, const char* key, const Numbers& numbers) {
  if (numbers.empty()) return;
  writer.Key(key);
  writer.StartArray();
  for (std::uint64_t number : numbers) writer.Uint64(number);
  writer.EndArray();
}

void put_pressure(Writer& writer, const std::optional<cgroup::Pressure>& pressure) {
  if (!pressure) return;
  object(writer, "psi", [&] {
    auto line = [&](const char* key, const cgroup::PressureLine& figures) {
      object(writer, key, [&] {
        auto share = [&](const char* name, double percent) {
          writer.Key(name);
          writer.Double(percent);
        };
        share("avg10", figures.avg10);
        share("avg60", figures.avg60);
        share("avg300", figures.avg300);
        put(writer, "total", figures.total_us);
      });
    };
    line("some", pressure->some);
    line("full", pressure->full);
  });
}

void put_cpu(Writer& writer, const Figures& figures) {
  const cgroup::Statistics& statistics = figures.statistics;
  object(writer, "cpu", [&] {
    object(writer, "usage", [&] {
      put(writer, "total", statistics.usage.cpu_ns);
      put_list(writer, "percpu", figures.details.cpu_ns);
      put_list(writer, "percpu_kernel", figures.details.cpu_kernel_ns);
      put_list(writer, "percpu_user", figures.details.cpu_user_ns);
      put(writer, "kernel", statistics.cpu_system_ns);
      put(writer, "user", statistics.cpu_user_ns);
    });
    object(writer, "throttling", [&] {
      put(writer, "periods", statistics.periods);
      put(writer, "throttledPeriods", statistics.throttled_periods);
      put(writer, "throttledTime", statistics.throttled_ns);
    });
    put_pressure(writer, statistics.cpu_pressure);
  });
}

void put_cpuset(Writer& writer, const cgroup::CpusetDetails& set) {
  object(writer, "cpuset", [&] {
    put_list(writer, "cpus", set.cpus);
    put(writer, "cpu_exclusive", set.cpu_exclusive);
    put_list(writer, "mems", set.mems);
    put(writer, "mem_hardwall", set.mem_hardwall);
    put(writer, "mem_exclusive", set.mem_exclusive);
    put(writer, "memory_migrate", set.memory_migrate);
    put(writer, "memory_spread_page", set.memory_spread_page);
    put(writer, "memory_spread_slab", set.memory_spread_slab);
    put(writer, "memory_pressure", set.memory_pressure);
    put(writer, "sched_load_balance", set.sched_load_balance);
    writer.Key("sched_relax_domain_level");
    writer.Int64(set.sched_relax_domain_level);
  });
}

void put_counter(Writer& writer, const char* key, const cgroup::MemoryCounter& counter) {
  object(writer, key, [&] {
    put(writer, "limit", counter.limit);
    put(writer, "usage", counter.usage);
    put(writer, "max", counter.max);
    put(writer, "failcnt", counter.failures);
  });
}

// v2 counts memory and swap apart; as runc (its fs2/memory.go), they are shown together, which is how v1
// counts.
cgroup::MemoryCounter both_of(const cgroup::Statistics& statistics) {
  const bool limited =
      statistics.swap_limit != cgroup::kNoLimit && statistics.memory_limit != cgroup::kNoLimit;
  return {limited ? statistics.memory_limit + statistics.swap_limit : cgroup::kNoLimit,
          statistics.memory_current + statistics.swap_current, 0, 0};
}

void put_memory(Writer& writer, const Figures& figures) {
  const cgroup::Statistics& statistics = figures.statistics;
  const cgroup::Details& details = figures.details;
  const cgroup::MemoryCounter own = {statistics.memory_limit, statistics.memory_current,
                                     statistics.usage.memory_peak.value_or(0), statistics.memory_limit_hits};
  object(writer, "memory", [&] {
    put(writer, "cache", statistics.memory_cache);
    put_counter(writer, "usage", details.memory.value_or(own));
    put_counter(writer, "swap", details.memory_and_swap.value_or(both_of(statistics)));
    put_counter(writer, "kernel",
                details.kernel.value_or(cgroup::MemoryCounter{0, statistics.memory_kernel, 0, 0}));
    put_counter(writer, "kernelTCP", details.kernel_tcp.value_or(cgroup::MemoryCounter{}));
    object(writer, "raw", [&] {
      for (const auto& [key, value] : statistics.memory_stat) put(writer, key.c_str(), value);
    });
    put_pressure(writer, statistics.memory_pressure);
  });
}

void put_entries(Writer& writer, const char* key, const std::vector<cgroup::BlkioEntry>& entries) {
  if (entries.empty()) return;
  writer.Key(key);
  writer.StartArray();
  for (const cgroup::BlkioEntry& entry : entries) {
    writer.StartObject();
    put(writer, "major", entry.major);
    put(writer, "minor", entry.minor);
    writer.Key("op");
    writer.String(entry.operation.c_str());
    put(writer, "value", entry.value);
    writer.EndObject();
  }
  writer.EndArray();
}

std::vector<cgroup::BlkioEntry> entries_of(const std::vector<cgroup::DeviceIo>& devices, bool bytes) {
  std::vector<cgroup::BlkioEntry> entries;
  for (const cgroup::DeviceIo& device : devices) {
    entries.push_back({device.major, device.minor, "Read", bytes ? device.read_bytes : device.reads});
    entries.push_back({device.major, device.minor, "Write", bytes ? device.write_bytes : device.writes});
  }
  return entries;
}

void put_io(Writer& writer, const Figures& figures) {
  const cgroup::Details& details = figures.details;
  const std::vector<cgroup::DeviceIo>& io = figures.statistics.io;
  object(writer, "blkio", [&] {
    put_entries(writer, "ioServiceBytesRecursive",
                details.blkio_bytes.empty() ? entries_of(io, true) : details.blkio_bytes);
    put_entries(writer, "ioServicedRecursive",
                details.blkio_operations.empty() ? entries_of(io, false) : details.blkio_operations);
    put_pressure(writer, figures.statistics.io_pressure);
  });
}

}  // namespace

void write_figures(Writer& writer, const Figures& figures) {
  const cgroup::Statistics& statistics = figures.statistics;
  writer.StartObject();
  put_cpu(writer, figures);
  put_cpuset(writer, figures.details.cpuset.value_or(cgroup::CpusetDetails{}));
  put_memory(writer, figures);
  object(writer, "pids", [&] {
    put(writer, "current", statistics.pids_current);
    if (statistics.pids_limit != cgroup::kNoLimit) put(writer, "limit", statistics.pids_limit);
  });
  put_io(writer, figures);
  object(writer, "hugetlb", [&] {
    for (const cgroup::HugetlbUse& use : statistics.hugetlb)
      object(writer, use.page_size.c_str(), [&] {
        put(writer, "usage", use.current);
        put(writer, "failcnt", use.failures);
      });
  });
  object(writer, "intel_rdt", [] {});
  // runc counts those alone that it has made itself, which no config.json of today asks for.
  writer.Key("network_interfaces");
  writer.Null();
  writer.EndObject();
}

}  // namespace fastdock::oci
