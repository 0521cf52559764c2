// The parent of one detached container: keeps its stdio, writes its log, answers its control socket, restarts
// it, and records its end.  One thread, one loop, no more memory than it needs: hundreds of these run at
// once.
#pragma once

#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "base/error.h"
#include "base/fd.h"
#include "cgroup/cgroup.h"
#include "launch/launch.h"
#include "monitor/clients.h"
#include "monitor/events.h"
#include "monitor/health.h"
#include "monitor/log.h"
#include "monitor/request.h"
#include "monitor/state.h"

namespace fastdock::monitor {

class Monitor final : public Requests {
 public:
  explicit Monitor(Request request);

  // Starts the container for the first time.  On failure nothing is left.
  Result<void> start();
  [[nodiscard]] pid_t pid() const { return state_.pid; }
  [[nodiscard]] const std::vector<std::string>& warnings() const { return warnings_; }
  Clients& clients() { return clients_; }

  // Returns when the container has ended for good, and everything that belongs to this run is gone.
  void serve();

  Result<std::optional<int>> handle(Client& client, const PacketHeader& header, std::string_view payload,
                                    Fd descriptor) override;
  void left(const Client& client) override;

 private:
  using Time = std::optional<Clock::time_point>;

  // run.cpp: one run of the program
  [[nodiscard]] Result<void> write_files() const;
  Result<void> run();
  Result<void> make_streams(LaunchPlan& plan);
  Result<launch::Process> born_in_network(const std::function<Result<launch::Process>()>& start);
  void became_running();
  void settle();
  void program_ended();
  void restart();
  void finish();
  void abandon();
  bool should_restart() const;

  // monitor.cpp: the loop
  void poll_once();
  [[nodiscard]] int timeout() const;
  void run_timers();
  void handle_signal();
  void read_stream(Fd& from, Stream stream);
  void drain_streams();
  void write_input();
  void reap_others();
  void check_memory();

  // requests.cpp
  Result<std::optional<int>> input(std::string_view payload, bool end);
  Result<std::optional<int>> resize(std::uint32_t size);
  Result<std::optional<int>> signal(int number);
  Result<std::optional<int>> stop(Client* client, int timeout_ms, std::string_view payload);
  Result<std::optional<int>> freeze(bool frozen);
  Result<std::optional<int>> update(const Fd& descriptor);
  Result<std::optional<int>> execute(const Fd& descriptor);
  Result<void> need_running() const;

  void event(const std::string& action, std::vector<std::pair<std::string, std::string>> more = {});
  void publish();  // the live state

  Request request_;
  std::string state_directory_, run_directory_;
  Fd lock_, signals_;
  Fd shared_network_;  // another container's
  std::optional<cgroup::Cgroup> group_;
  std::optional<launch::Process> process_;
  Fd output_, errors_, input_, terminal_side_, memory_events_;
  std::string pending_input_;
  bool input_ends_ = false;
  std::uint64_t memory_kills_ = 0;
  struct Other {
    launch::Process process;
    std::string id;  // in its events
  };
  std::map<pid_t, Other> others_;  // detached execs

  State state_;
  Log log_;
  std::optional<HealthChecker> health_;
  Clients clients_;
  std::vector<std::string> warnings_;

  Time kill_at_, restart_at_;
  Clock::time_point started_;
  std::chrono::milliseconds backoff_{0};
  bool forget_ = false;     // who stops it removes it next
  bool goes_down_ = false;  // told so by a signal: it ends, and is not restarted
  bool done_ = false;
};

// The monitor's main: argv is its name, the number of the request's descriptor, that of the answer's socket,
// and the kAttach* bits if that socket goes on as a client.
int monitor_main(int argc, char** argv);

}  // namespace fastdock::monitor
