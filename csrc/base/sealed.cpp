#include "base/sealed.h"

#include <fcntl.h>
#include <linux/memfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>

namespace fastdock {

#ifndef MFD_EXEC
#define MFD_EXEC 0x0010U  // Linux 6.3; refused as unknown before
#endif

Result<Fd> sealed_memory(const char* name, std::span<const std::byte> content) {
  auto fd = static_cast<int>(::syscall(SYS_memfd_create, name, MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_EXEC));
  if (fd < 0 && errno == EINVAL)
    fd = static_cast<int>(::syscall(SYS_memfd_create, name, MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (fd < 0) return failed(Operation::kCreateFile, name);
  Fd memory(fd);
  while (!content.empty()) {
    ssize_t written = ::write(memory.get(), content.data(), content.size());
    if (written < 0) return failed(Operation::kWriteFile, name);
    content = content.subspan(static_cast<std::size_t>(written));
  }
  if (::fcntl(memory.get(), F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE) != 0)
    return failed(Operation::kWriteFile, name);
  return memory;
}

}  // namespace fastdock
