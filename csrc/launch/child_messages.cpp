#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "launch/child_steps.h"

namespace fastdock::launch::steps {

long send(int sync, const Message& message, const char* text, int descriptor) {
  if (descriptor < 0) {
    // One plain write: a seccomp filter that is loaded already will hardly forbid that.
    char packet[sizeof message + 4096];
    __builtin_memcpy(packet, &message, sizeof message);
    std::size_t size = sizeof message;
    while (*text != '\0' && size < sizeof packet) packet[size++] = *text++;
    return raw_syscall(SYS_write, sync, packet, size);
  }
  iovec parts[2] = {{const_cast<Message*>(&message), sizeof message},
                    {const_cast<char*>(text), child::length(text)}};
  msghdr header{};
  header.msg_iov = parts;
  header.msg_iovlen = parts[1].iov_len > 0 ? 2 : 1;
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  header.msg_control = control;
  header.msg_controllen = sizeof control;
  cmsghdr* first = CMSG_FIRSTHDR(&header);
  first->cmsg_level = SOL_SOCKET;
  first->cmsg_type = SCM_RIGHTS;
  first->cmsg_len = CMSG_LEN(sizeof(int));
  *reinterpret_cast<int*>(CMSG_DATA(first)) = descriptor;
  return raw_syscall(SYS_sendmsg, sync, &header, MSG_NOSIGNAL);
}

[[noreturn]] void give_up(const State& state) {
  const Failure& failure = state.failure;
  Message message{MessageKind::kError, failure.number, failure.operation, failure.hint, 0};
  send(state.plan.sync, message, failure.path, -1);
  while (true) raw_syscall(SYS_exit_group, 127);
}

bool wait_for_word(State& state) {
  char word = 0;
  long answer = raw_syscall(SYS_read, state.plan.sync, &word, 1);
  // 0: the parent is gone, and nobody wants this container.
  if (answer == 0) return fail(state.failure, -EPIPE, Operation::kWaitForProcess, "parent");
  return check(answer, state.failure, Operation::kWaitForProcess, "parent");
}

bool tell_reached(State& state, SyncPoint point) {
  Message message{MessageKind::kReached, 0, Operation::kNone, Hint::kNone, static_cast<std::int32_t>(point)};
  return check(send(state.plan.sync, message, "", -1), state.failure, Operation::kWaitForProcess, "parent");
}

bool reach(State& state, SyncPoint point) {
  if ((state.plan.sync_points & 1U << static_cast<unsigned>(point)) == 0) return true;
  return tell_reached(state, point) && wait_for_word(state);
}

bool die_with_parent(State& state) {
  if (state.plan.parent_death_signal == 0) return true;
  long answer = raw_syscall(SYS_prctl, PR_SET_PDEATHSIG, state.plan.parent_death_signal);
  return check(answer, state.failure, Operation::kSetParentDeathSignal, "");
}

// The parent may have died before the signal was asked for: then its end of the socket is closed.
bool parent_lives(State& state) {
  if (state.plan.parent_death_signal == 0) return true;
  char word = 0;
  long answer =
      raw_syscall(SYS_recvfrom, state.plan.sync, &word, 1, MSG_DONTWAIT | MSG_PEEK, nullptr, nullptr);
  return answer != 0 || fail(state.failure, -EPIPE, Operation::kSetParentDeathSignal, "parent");
}

}  // namespace fastdock::launch::steps
