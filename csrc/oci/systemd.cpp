#include "oci/systemd.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdlib>

#include "base/user_namespace.h"
#include "dbus/reader.h"

namespace fastdock::oci {
namespace {

using dbus::Message;
using dbus::MessageType;

constexpr const char* kService = "org.freedesktop.systemd1";
constexpr const char* kManagerPath = "/org/freedesktop/systemd1";
constexpr const char* kManager = "org.freedesktop.systemd1.Manager";
constexpr const char* kPropertiesOf = "org.freedesktop.DBus.Properties";
// runc's time for a job.
constexpr auto kPatience = std::chrono::seconds(30);

dbus::Deadline deadline() { return std::chrono::steady_clock::now() + kPatience; }

std::unexpected<Error> refused(int number, const std::string& what) {
  return failed_with(number, Operation::kUseContainer, "systemd: " + what);
}

Message to_manager(const std::string& member, const std::string& signature, std::string body) {
  Message message;
  message.destination = kService;
  message.path = kManagerPath;
  message.interface = kManager;
  message.member = member;
  message.signature = signature;
  message.body = std::move(body);
  return message;
}

// sd_bus_path_encode: what is no letter or digit is _XX.
std::string unit_path(const std::string& unit) {
  std::string path = std::string(kManagerPath) + "/unit/";
  for (std::size_t i = 0; i < unit.size(); ++i) {
    char c = unit[i];
    bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9' && i > 0);
    constexpr const char* kDigits = "0123456789abcdef";
    auto code = static_cast<unsigned char>(c);
    if (plain)
      path += c;
    else
      path.append("_").append(1, kDigits[code >> 4]).append(1, kDigits[code & 15]);
  }
  return path;
}

std::string environment(const char* name) {
  const char* given = std::getenv(name);
  return given == nullptr ? "" : given;
}

Result<dbus::Connection> connect_to_machines() {
  std::string address = environment("DBUS_SYSTEM_BUS_ADDRESS");
  if (address.empty()) address = "unix:path=/run/dbus/system_bus_socket";
  auto connection = dbus::Connection::to_bus(address, deadline());
  if (connection) return connection;
  // systemd's own socket, without a daemon between: root's alone.
  if (auto direct = dbus::Connection::to_peer("/run/systemd/private", deadline())) return direct;
  return connection;
}

// As runc (UserSystemdDbus) and systemctl --user.
Result<dbus::Connection> connect_to_users() {
  const std::string runtime = environment("XDG_RUNTIME_DIR");
  std::string address = environment("DBUS_SESSION_BUS_ADDRESS");
  if (address.empty() && runtime.empty())
    return failed_with(
        EADDRNOTAVAIL, Operation::kTalkToBus,
        "neither DBUS_SESSION_BUS_ADDRESS nor XDG_RUNTIME_DIR is set (a session of logind has them; "
        "for services: loginctl enable-linger, and XDG_RUNTIME_DIR=/run/user/UID)");
  if (address.empty()) address = "unix:path=" + runtime + "/bus";
  auto connection = dbus::Connection::to_bus(address, deadline());
  if (connection || runtime.empty()) return connection;
  if (auto direct = dbus::Connection::to_peer(runtime + "/systemd/private", deadline())) return direct;
  return connection;
}

}  // namespace

bool has_own_systemd() { return ::geteuid() != 0 || !in_initial_user_namespace(); }

Result<Systemd> Systemd::connect() {
  struct stat status{};
  // sd_booted(3)
  if (::lstat("/run/systemd/system", &status) != 0 || !S_ISDIR(status.st_mode))
    return failed_with(ENOSYS, Operation::kUseContainer,
                       "--systemd-cgroup: systemd is not running here (no /run/systemd/system); set the "
                       "caller's cgroup driver to cgroupfs");
  auto connection = has_own_systemd() ? connect_to_users() : connect_to_machines();
  if (connection) return Systemd(std::move(*connection));
  return failed_with(ENOSYS, Operation::kUseContainer,
                     std::string("--systemd-cgroup: ") +
                         (has_own_systemd() ? "the user's own systemd" : "systemd") +
                         " cannot be reached: " + describe(connection.error()));
}

Result<Message> Systemd::call(const std::string& member, const std::string& signature, std::string body) {
  return connection_.call(to_manager(member, signature, std::move(body)), deadline());
}

Result<std::string> Systemd::property(const std::string& path, const std::string& interface,
                                      const std::string& name) {
  Message get = to_manager("Get", "ss", dbus::Writer().text(interface).text(name).bytes());
  get.path = path;
  get.interface = kPropertiesOf;
  FASTDOCK_TRY(Message answer, connection_.call(std::move(get), deadline()));
  if (answer.type == MessageType::kError) return refused(EPROTO, name + ": " + answer.error_text());
  if (answer.signature != "v") return refused(EPROTO, name + " is no value");
  return dbus::Reader(answer.body).text_variant();
}

// "252.39-1~deb12u2", "v256"
unsigned Systemd::version() {
  auto text = property(kManagerPath, kManager, "Version");
  if (!text) return 0;
  std::string_view digits = *text;
  if (digits.starts_with('v')) digits.remove_prefix(1);
  unsigned number = 0;
  std::from_chars(digits.data(), digits.data() + digits.size(), number);
  return number;
}

Result<void> Systemd::watch_jobs_of(const std::string& unit) {
  connection_.on_signal = [this](const Message& signal) { removed_.push_back(signal); };
  // A peer tells of all jobs, unasked.
  if (!connection_.through_daemon()) return {};
  Message match;
  match.destination = "org.freedesktop.DBus";
  match.path = "/org/freedesktop/DBus";
  match.interface = "org.freedesktop.DBus";
  match.member = "AddMatch";
  match.signature = "s";
  // The third argument of JobRemoved(id, job, unit, result).  A unit's name has no quotes.
  match.body = dbus::Writer()
                   .text(std::string("type='signal',sender='") + kService + "',interface='" + kManager +
                         "',member='JobRemoved',arg2='" + unit + "'")
                   .bytes();
  FASTDOCK_TRY(Message answer, connection_.call(std::move(match), deadline()));
  if (answer.type == MessageType::kError) return refused(EPROTO, answer.error_text());
  return {};
}

Result<std::string> Systemd::result_of_job(const Message& answer) {
  if (answer.signature != "o") return refused(EPROTO, "no job in the answer");
  FASTDOCK_TRY(std::string job, dbus::Reader(answer.body).text());
  const dbus::Deadline end = deadline();
  while (true) {
    for (const Message& signal : removed_) {
      // Others may send such signals, too: ours is from who answered.
      if (signal.member != "JobRemoved" || signal.interface != kManager || signal.signature != "uoss" ||
          signal.sender != answer.sender)
        continue;
      dbus::Reader reader(signal.body);
      FASTDOCK_CHECK(reader.u32());
      FASTDOCK_TRY(std::string removed, reader.text());
      if (removed != job) continue;
      FASTDOCK_CHECK(reader.text());
      return reader.text();
    }
    removed_.clear();
    FASTDOCK_TRY(Message signal, connection_.next(end));
    removed_.push_back(std::move(signal));
  }
}

Result<void> Systemd::run_job(const std::string& unit, const std::string& member,
                              const std::string& signature, std::string body) {
  FASTDOCK_CHECK(watch_jobs_of(unit));
  FASTDOCK_TRY(Message answer, call(member, signature, std::move(body)));
  if (answer.type == MessageType::kError) {
    int number = EPROTO;
    if (answer.error_name == "org.freedesktop.systemd1.UnitExists") number = EEXIST;
    if (answer.error_name == "org.freedesktop.systemd1.NoSuchUnit") number = ENOENT;
    return refused(number, unit + ": " + answer.error_text());
  }
  FASTDOCK_TRY(std::string result, result_of_job(answer));
  if (result != "done") return refused(EPROTO, unit + ": the job ended with \"" + result + "\"");
  return {};
}

Result<std::string> Systemd::start_scope(const std::string& unit, const Properties& properties) {
  dbus::Writer body;
  body.text(unit).text("replace");
  properties.append_to(body);
  body.close_array(body.open_array(8));  // no auxiliary units
  auto started = run_job(unit, "StartTransientUnit", "ssa(sv)a(sa(sv))", body.bytes());
  if (!started && started.error().number == EEXIST) {
    // As runc: one that has failed keeps its name until it is forgotten.
    FASTDOCK_CHECK(call("ResetFailedUnit", "s", dbus::Writer().text(unit).bytes()));
    started = run_job(unit, "StartTransientUnit", "ssa(sv)a(sa(sv))", body.bytes());
  }
  if (!started) return std::unexpected(std::move(started.error()));
  // Where it put it: also for names that it escapes.
  return property(unit_path(unit), "org.freedesktop.systemd1.Scope", "ControlGroup");
}

Result<void> Systemd::set_properties(const std::string& unit, const Properties& properties) {
  if (properties.empty()) return {};
  dbus::Writer body;
  body.text(unit).boolean(true);
  properties.append_to(body);
  FASTDOCK_TRY(Message answer, call("SetUnitProperties", "sba(sv)", body.bytes()));
  if (answer.type == MessageType::kError) return refused(EINVAL, unit + ": " + answer.error_text());
  return {};
}

Result<void> Systemd::attach(const std::string& unit, const std::string& below, pid_t process) {
  dbus::Writer body;
  body.text(unit).text(below);
  auto array = body.open_array(4);
  body.u32(static_cast<std::uint32_t>(process));
  body.close_array(array);
  FASTDOCK_TRY(Message answer, call("AttachProcessesToUnit", "ssau", body.bytes()));
  if (answer.type == MessageType::kError) return refused(EACCES, unit + ": " + answer.error_text());
  return {};
}

Result<void> Systemd::stop(const std::string& unit) {
  auto stopped = run_job(unit, "StopUnit", "ss", dbus::Writer().text(unit).text("replace").bytes());
  if (!stopped && stopped.error().number != ENOENT) return stopped;
  // Whether it had failed is of no interest any more.
  FASTDOCK_CHECK(call("ResetFailedUnit", "s", dbus::Writer().text(unit).bytes()));
  return {};
}

Result<void> update_scope(const std::string& unit, const cgroup::Limits& limits, cgroup::Version version) {
  FASTDOCK_TRY(Systemd systemd, Systemd::connect());
  Properties properties;
  FASTDOCK_CHECK(add_limits(limits, version, systemd.version(), properties));
  return systemd.set_properties(unit, properties);
}

Result<void> attach_to_scope(const std::string& unit, const std::string& below, pid_t process) {
  FASTDOCK_TRY(Systemd systemd, Systemd::connect());
  return systemd.attach(unit, below, process);
}

Result<bool> scope_is_out_of_reach(const State& state) {
  if (state.systemd_unit.empty() || !has_own_systemd()) return false;
  return cgroup::Hierarchies::use_delegated(state.cgroup);
}

Result<void> stop_scope(const std::string& unit) {
  FASTDOCK_TRY(Systemd systemd, Systemd::connect());
  return systemd.stop(unit);
}

}  // namespace fastdock::oci
