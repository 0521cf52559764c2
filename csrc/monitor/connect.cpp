#include "monitor/connect.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <sched.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <string>
#include <thread>

#include "base/path.h"

namespace fastdock::monitor {
namespace {

Result<Fd> connect_here(int network, std::uint16_t port) {
  if (::setns(network, CLONE_NEWNET) != 0) return failed(Operation::kJoinNamespace, "net");
  Fd socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!socket) return failed(Operation::kCreatePipe, "socket");
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
    return failed(Operation::kOpenFile, "127.0.0.1:" + std::to_string(port));
  return socket;
}

}  // namespace

Result<Fd> connect_in(pid_t pid, std::uint16_t port) {
  FASTDOCK_TRY(Fd network, open_file("/proc/" + std::to_string(pid) + "/ns/net", O_RDONLY));
  Result<Fd> answer;
  // setns(2): only the calling thread moves.
  std::thread([&] { answer = connect_here(network.get(), port); }).join();
  return answer;
}

Result<void> own_files_as(uid_t uid, gid_t gid) {
  // The system calls, not the C library: those would change all threads, or keep the thread's capabilities out.
  ::syscall(SYS_setfsgid, gid);
  ::syscall(SYS_setfsuid, uid);
  // capabilities(7), "Effect of user ID changes on capabilities": leaving fsuid 0 took these away.
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct data[2];
  if (::syscall(SYS_capget, &header, &data) != 0) return failed(Operation::kSetCapabilities);
  for (__user_cap_data_struct& part : data) part.effective = part.permitted;
  if (::syscall(SYS_capset, &header, &data) != 0) return failed(Operation::kSetCapabilities);
  return {};
}

}  // namespace fastdock::monitor
