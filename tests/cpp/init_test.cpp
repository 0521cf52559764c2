// The init program as process 1 of a new PID namespace.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/sched.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <string>
#include <vector>

#include "base/fd.h"
#include "base/path.h"
#include "base/sealed.h"
#include "launch/init/init_program.h"

namespace fastdock::launch {
namespace {

// A running init; its standard output comes through a pipe.
class Init {
 public:
  explicit Init(std::vector<std::string> command, bool ignore_children = false) {
    command.insert(command.begin(), "init");
    std::vector<char*> argv;
    for (std::string& word : command) argv.push_back(word.data());
    argv.push_back(nullptr);
    const Fd program = sealed_memory("fastdock-init", init_program()).value();
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) != 0) return;
    output_ = Fd(ends[0]);
    Fd write_end(ends[1]);
    clone_args arguments{};
    arguments.flags = CLONE_NEWPID;
    arguments.exit_signal = SIGCHLD;
    pid_ = static_cast<pid_t>(::syscall(SYS_clone3, &arguments, sizeof arguments));
    if (pid_ != 0) return;
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    ::dup2(write_end.get(), 1);
    ::dup2(write_end.get(), 2);
    if (ignore_children) ::signal(SIGCHLD, SIG_IGN);
    ::syscall(SYS_execveat, program.get(), "", argv.data(), environ, AT_EMPTY_PATH);
    ::_exit(99);
  }
  Init(const Init&) = delete;
  Init& operator=(const Init&) = delete;
  ~Init() {
    if (pid_ > 0) ::kill(pid_, SIGKILL), wait();
  }

  [[nodiscard]] pid_t pid() const { return pid_; }

  // The next line of output, without its newline.
  std::string line() {
    std::string text;
    char c = 0;
    while (::read(output_.get(), &c, 1) == 1 && c != '\n') text += c;
    return text;
  }
  std::string rest() { return read_all(output_.get(), "pipe").value_or(""); }

  int wait() {
    int status = -1;
    while (::waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
    }
    pid_ = -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
  }

 private:
  pid_t pid_ = -1;
  Fd output_;
};

class InitProgram : public testing::Test {
 protected:
  void SetUp() override {
    if (::geteuid() != 0) GTEST_SKIP() << "a new PID namespace needs root";
  }
};

TEST(InitProgramFile, IsAFewKilobytesOfStaticElf) {
  auto bytes = init_program();
  ASSERT_GT(bytes.size(), 500U);
  EXPECT_LT(bytes.size(), 8192U);
  EXPECT_EQ(bytes[0], std::byte{0x7f});
}

TEST_F(InitProgram, EndsAsItsChild) {
  EXPECT_EQ(Init({"sh", "-c", "exit 0"}).wait(), 0);
  EXPECT_EQ(Init({"sh", "-c", "exit 42"}).wait(), 42);
  EXPECT_EQ(Init({"/bin/sh", "-c", "exit 255"}).wait(), 255);
  EXPECT_EQ(Init({"sh", "-c", "kill -KILL $$"}).wait(), 128 + SIGKILL);
  EXPECT_EQ(Init({"sh", "-c", "kill -SEGV $$"}).wait(), 128 + SIGSEGV);
}

TEST_F(InitProgram, TheChildIsProcess2InAGroupOfItsOwn) {
  Init init({"sh", "-c", "echo $$; exec awk '{print $4, $5}' /proc/self/stat"});
  EXPECT_EQ(init.line(), "2");
  // /proc is the outer namespace's here: parent and group by their numbers out there.
  const std::string ids = init.line();
  const auto space = ids.find(' ');
  EXPECT_EQ(ids.substr(0, space), std::to_string(init.pid()));
  EXPECT_NE(ids.substr(space + 1), std::to_string(::getpgrp()));
  EXPECT_EQ(init.wait(), 0);
}

TEST_F(InitProgram, SaysWhatCannotBeRun) {
  Init missing({"no-such-program"});
  EXPECT_EQ(missing.rest(), "fastdock-init: no-such-program: not found\n");
  EXPECT_EQ(missing.wait(), 127);
  Init directory({"/etc"});
  EXPECT_EQ(directory.rest(), "fastdock-init: /etc: cannot be executed\n");
  EXPECT_EQ(directory.wait(), 126);
  Init empty({""});
  EXPECT_EQ(empty.wait(), 126);
  Init nothing({});
  EXPECT_EQ(nothing.rest(), "fastdock-init: no program to run\n");
  EXPECT_EQ(nothing.wait(), 127);
}

TEST_F(InitProgram, HandsEverySignalOn) {
  for (int signal :
       {SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGWINCH, SIGTSTP, SIGCONT, SIGRTMIN + 3}) {
    const std::string number = std::to_string(signal);
    Init init(
        {"bash", "-c",
         "trap 'echo got; exit 9' " + number + "; echo ready; while :; do read -t 1; done < <(sleep 100)"});
    ASSERT_EQ(init.line(), "ready");
    ASSERT_EQ(::kill(init.pid(), signal), 0);
    EXPECT_EQ(init.line(), "got") << signal;
    EXPECT_EQ(init.wait(), 9);
  }
}

TEST_F(InitProgram, ASignalWithoutAHandlerEndsTheChild) {
  Init init({"sh", "-c", "echo ready; exec sleep 100"});
  ASSERT_EQ(init.line(), "ready");
  ASSERT_EQ(::kill(init.pid(), SIGTERM), 0);
  EXPECT_EQ(init.wait(), 128 + SIGTERM);
}

TEST_F(InitProgram, ReapsOrphans) {
  // Each background sh is an orphan of its subshell; kill -0 fails for a process that has been reaped, and
  // succeeds for a zombie.
  Init init({"bash", "-c", R"(
    for i in $(seq 50); do (sh -c 'echo $$' & ) ; done | { mapfile -t pids;
    for pid in "${pids[@]}"; do for n in $(seq 500); do kill -0 $pid 2>/dev/null || continue 2; sleep 0.01; done;
      echo "$pid is a zombie"; done; echo "${#pids[@]} checked"; }; exit 3)"});
  EXPECT_EQ(init.rest(), "50 checked\n");
  EXPECT_EQ(init.wait(), 3);
}

TEST_F(InitProgram, DoesNotWaitForOthersThanItsChild) {
  Init init({"sh", "-c", "sleep 1000 & exit 5"});
  EXPECT_EQ(init.wait(), 5) << "the kernel kills what is left in the namespace";
}

TEST_F(InitProgram, KnowsTheStatusThoughChildrenWereIgnored) {
  EXPECT_EQ(Init({"sh", "-c", "exit 6"}, true).wait(), 6);
}

TEST_F(InitProgram, TheChildHasTheSignalsThatInitWasGiven) {
  Init init({"sh", "-c", "grep SigBlk /proc/self/status || echo SigBlk: none"});
  EXPECT_EQ(init.line().substr(0, 8), "SigBlk:\t");
  sigset_t blocked;
  sigset_t before;
  sigemptyset(&blocked);
  sigaddset(&blocked, SIGUSR1);
  ::sigprocmask(SIG_BLOCK, &blocked, &before);
  Init with({"grep", "SigBlk", "/proc/self/status"});
  ::sigprocmask(SIG_SETMASK, &before, nullptr);
  EXPECT_EQ(with.line(), "SigBlk:\t0000000000000200");
}

}  // namespace
}  // namespace fastdock::launch
