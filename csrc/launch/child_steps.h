// The steps of the child (child.cpp has their order), a room each: child_messages.cpp, child_namespaces.cpp,
// child_terminal.cpp, child_user.cpp, child_privileges.cpp, child_execute.cpp.  What child.h says of
// allocation, locks and exceptions holds for all of them.
//
// A step that fails leaves why in `state.failure` and answers false.
#pragma once

#include "launch/child.h"
#include "launch/users.h"

namespace fastdock::launch::steps {

using child::check;
using child::Descriptor;
using child::fail;
using child::Failure;

// Everything that a step needs beside the plan.
struct State {
  const ChildPlan& plan;
  Failure failure{};
  int root = -1;      // the new root
  int proc = -1;      // a procfs that we mounted ourselves
  int terminal = -1;  // the container's side
  ResolvedUser user{};
  bool filter_loaded = false;
};

// The kernel's struct sigaction (asm/signal.h), which libc's hides.
struct KernelAction {
  void (*handler)(int);
  unsigned long flags;
  void (*restorer)();
  unsigned long mask;
};

// child_messages.cpp: what is between it and its parent.
long send(int sync, const Message& message, const char* text, int descriptor);
[[noreturn]] void give_up(const State& state);
bool wait_for_word(State& state);
bool tell_reached(State& state, SyncPoint point);
bool reach(State& state, SyncPoint point);
bool die_with_parent(State& state);
bool parent_lives(State& state);

// child_namespaces.cpp: where it is, and what it is called there.
bool join_cgroups(State& state);
bool join_namespaces(State& state);
// Of a joined user namespace's companions those that our present rights reach, but for the type
// `without`; bit n for the n-th.
std::uint64_t join_from_outside(std::span<const JoinedNamespace> joined, int without = 0);
bool become_root(State& state);
bool have_proc(State& state);
bool set_names(State& state);
bool raise_loopback(State& state);
bool write_sysctls(State& state);
bool set_labels(State& state);

// child_terminal.cpp: its terminal and its standard streams.
bool open_terminal(State& state);
bool use_terminal_and_stdio(State& state);
// Tells the parent that all is done but execve, and waits for its word, which the standard streams come with.
bool hold(State& state);

// child_user.cpp: who it will be.
bool find_user(State& state);
void fill_home(State& state, char* buffer, std::size_t size);

// child_privileges.cpp: what it may still do.
bool load_filter(State& state);
bool drop_privileges(State& state);

// child_execute.cpp: the program.
enum class Purpose : std::uint8_t { kExecute, kFind };
// Returns true where it was only to be found, and was.
bool execute(State& state, Purpose purpose);
[[noreturn]] void give_up_aloud(const State& state);
void handle_ending_signals();
bool wait_for_start(State& state);

}  // namespace fastdock::launch::steps
