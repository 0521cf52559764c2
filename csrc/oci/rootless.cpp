#include "oci/rootless.h"

#include <sched.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>

#include "base/fd.h"
#include "base/path.h"
#include "rootless/id_maps.h"

namespace fastdock::oci {
namespace {

std::vector<rootless::IdMap> copy(const std::vector<rootfs::IdMapping>& from) {
  std::vector<rootless::IdMap> maps;
  for (const rootfs::IdMapping& map : from) maps.push_back({map.inside, map.outside, map.count});
  return maps;
}

// The maps are written from outside, where this process is no longer when there is something to map.  The
// answer is the error's number; what the two programs say goes to standard error.
struct Mapper {
  pid_t pid;
  Fd go, answer;

  static Result<Mapper> start(const rootless::UserMaps& maps) {
    int go[2];
    int answer[2];
    if (::pipe2(go, O_CLOEXEC) != 0 || ::pipe2(answer, O_CLOEXEC) != 0) return failed(Operation::kCreatePipe);
    Fd go_out(go[0]);
    Fd answer_in(answer[1]);
    Mapper mapper{-1, Fd(go[1]), Fd(answer[0])};
    pid_t parent = ::getpid();
    mapper.pid = ::fork();
    if (mapper.pid < 0) return failed(Operation::kCloneProcess, "");
    if (mapper.pid > 0) return mapper;
    mapper.go.reset();
    char word = 0;
    int number = EPIPE;
    if (::read(go_out.get(), &word, 1) == 1) {
      auto mapped = rootless::map_ids(parent, maps);
      number = mapped ? 0 : mapped.error().number;
    }
    (void)!::write(answer_in.get(), &number, sizeof number);
    ::_exit(0);
  }

  Result<void> map() {
    int number = EPIPE;
    bool heard =
        ::write(go.get(), "g", 1) == 1 && ::read(answer.get(), &number, sizeof number) == sizeof number;
    end();
    if (heard && number == 0) return {};
    return failed_with(number, Operation::kWriteUidMap, "of config.json", Hint::kUserNamespaceForbidden);
  }

  void end() {
    go.reset();
    while (::waitpid(pid, nullptr, 0) < 0 && errno == EINTR) {
    }
  }
};

}  // namespace

Result<void> join_user_namespace_of(pid_t pid) {
  if (::geteuid() == 0) return {};
  std::string path = "/proc/" + std::to_string(pid) + "/ns/user";
  FASTDOCK_TRY(Fd theirs, open_file(path, O_RDONLY));
  if (::setns(theirs.get(), CLONE_NEWUSER) != 0) return failed(Operation::kJoinNamespace, path);
  return {};
}

Result<void> enter_user_namespace(launch::LaunchPlan& plan) {
  if (::geteuid() == 0) return {};
  launch::NamespacePlan& user = plan.namespaces[static_cast<std::size_t>(launch::Namespace::kUser)];
  if (user.mode == launch::NamespaceMode::kJoin) return {};
  if (user.mode == launch::NamespaceMode::kHost)
    return failed_with(EPERM, Operation::kUseContainer, "config.json has no user namespace",
                       Hint::kNeedsRoot);
  FASTDOCK_TRY(Mapper mapper, Mapper::start({copy(plan.uid_map), copy(plan.gid_map)}));
  // proc(5): the files of a process that is not dumpable are root's.  Nobody foreign runs yet.
  int dumpable = ::prctl(PR_GET_DUMPABLE, 0, 0, 0, 0);
  ::prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
  if (::unshare(CLONE_NEWUSER) != 0) {
    int number = errno;
    mapper.end();
    return failed_with(number, Operation::kCreateNamespace, "user", Hint::kUserNamespaceForbidden);
  }
  auto mapped = mapper.map();
  ::prctl(PR_SET_DUMPABLE, dumpable, 0, 0, 0);
  FASTDOCK_CHECK(std::move(mapped));
  if (::unshare(CLONE_NEWNS) != 0)
    return failed(Operation::kCreateNamespace, "mount", Hint::kNamespaceForbidden);
  if (::mount(nullptr, "/", nullptr, MS_REC | MS_SLAVE, nullptr) != 0)
    return failed(Operation::kSetPropagation, "/");
  user.mode = launch::NamespaceMode::kHost;
  plan.uid_map.clear();
  plan.gid_map.clear();
  return {};
}

}  // namespace fastdock::oci
