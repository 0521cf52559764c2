#include "launch/seccomp_cache.h"

#include <fcntl.h>
#include <seccomp.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <optional>

#include "base/blake2b.h"
#include "base/path.h"
#include "launch/seccomp_program.h"

namespace fastdock::launch {
namespace {

// Raise it when compile() or default_profile() change what they answer.
constexpr std::uint32_t kCompilerVersion = 2;

struct Header {
  std::array<char, 8> magic;
  std::uint32_t version;
  std::uint32_t instruction_count;
  Blake2bDigest key;       // of everything the program depends on
  Blake2bDigest checksum;  // of the above and the instructions
};
constexpr std::array<char, 8> kMagic = {'f', 'd', 's', 'e', 'c', 'c', 'm', 'p'};
static_assert(sizeof(Header) == 80);

constexpr std::size_t kLargestFile = sizeof(Header) + BPF_MAXINSNS * sizeof(sock_filter);

Blake2bDigest digest_of_key(std::span<const std::byte> key) {
  const scmp_version* library = seccomp_version();
  const std::array<std::uint32_t, 5> versions = {kCompilerVersion, library->major, library->minor,
                                                 library->micro, static_cast<std::uint32_t>(key.size())};
  Blake2b digest;
  digest.update(std::as_bytes(std::span(versions)));
  digest.update(key);
  return digest.finish();
}

Blake2bDigest checksum_of(const Header& header, std::span<const sock_filter> program) {
  Blake2b digest;
  digest.update(std::as_bytes(std::span(&header, 1)).first(offsetof(Header, checksum)));
  digest.update(std::as_bytes(program));
  return digest.finish();
}

// The directory, if nobody but this user can change what is in it; made if it is not there.
std::optional<Fd> open_directory(const std::string& path) {
  constexpr int flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW;
  auto directory = open_file(path, flags);
  if (!directory && directory.error().number == ENOENT && make_directories(path, 0700))
    directory = open_file(path, flags);
  if (!directory) return std::nullopt;
  struct stat status{};
  if (::fstat(directory->get(), &status) != 0) return std::nullopt;
  if (status.st_uid != ::geteuid() || (status.st_mode & 07777) != 0700) return std::nullopt;
  return std::move(*directory);
}

std::optional<BpfProgram> read_program(int directory, const std::string& name, const Blake2bDigest& key) {
  // O_NONBLOCK: a FIFO of that name must not make us wait.
  auto file = open_at(directory, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
  if (!file) return std::nullopt;
  struct stat status{};
  if (::fstat(file->get(), &status) != 0) return std::nullopt;
  if (!S_ISREG(status.st_mode) || (status.st_mode & 07777) != 0600 || status.st_uid != ::geteuid() ||
      status.st_nlink != 1)
    return std::nullopt;
  const auto size = static_cast<std::size_t>(status.st_size);
  if (size < sizeof(Header) + sizeof(sock_filter) || size > kLargestFile) return std::nullopt;

  std::array<std::byte, kLargestFile> bytes;
  if (::pread(file->get(), bytes.data(), size, 0) != status.st_size) return std::nullopt;
  Header header;
  std::memcpy(&header, bytes.data(), sizeof header);
  if (header.magic != kMagic || header.version != kCompilerVersion || header.key != key) return std::nullopt;
  if (size != sizeof header + header.instruction_count * sizeof(sock_filter)) return std::nullopt;
  BpfProgram program(header.instruction_count);
  std::memcpy(program.data(), bytes.data() + sizeof header, size - sizeof header);
  if (header.checksum != checksum_of(header, program) || !is_seccomp_program(program)) return std::nullopt;
  return program;
}

bool write_all(int fd, std::span<const std::byte> data) {
  while (!data.empty()) {
    ssize_t count = ::write(fd, data.data(), data.size());
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return false;
    data = data.subspan(static_cast<std::size_t>(count));
  }
  return true;
}

// Failures are not errors: the next process compiles again.
void keep_program(int directory, const std::string& name, const Blake2bDigest& key,
                  const BpfProgram& program) {
  static std::atomic<unsigned> counter = 0;
  const std::string temporary =
      name + "." + std::to_string(::getpid()) + "." + std::to_string(counter.fetch_add(1)) + ".tmp";
  ::unlinkat(directory, temporary.c_str(), 0);  // of a process with the same number that was killed here
  auto file = open_at(directory, temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0600);
  if (!file) return;
  Header header{kMagic, kCompilerVersion, static_cast<std::uint32_t>(program.size()), key, {}};
  header.checksum = checksum_of(header, program);
  const bool written = ::fchmod(file->get(), 0600) == 0 &&  // whatever the umask is
                       write_all(file->get(), std::as_bytes(std::span(&header, 1))) &&
                       write_all(file->get(), std::as_bytes(std::span(program)));
  // Not fsync: after a crash a short file fails its checksum, and is made again.
  if (!written || ::renameat(directory, temporary.c_str(), directory, name.c_str()) != 0)
    ::unlinkat(directory, temporary.c_str(), 0);
}

}  // namespace

Result<std::vector<sock_filter>> cached_program(
    const std::string& directory, std::span<const std::byte> key,
    const std::function<Result<std::vector<sock_filter>>()>& compile) {
  const Blake2bDigest digest = digest_of_key(key);
  const std::string name = hex(digest);
  std::optional<Fd> opened = open_directory(directory);
  if (opened)
    if (auto program = read_program(opened->get(), name, digest)) return std::move(*program);
  FASTDOCK_TRY(BpfProgram program, compile());
  if (opened) keep_program(opened->get(), name, digest, program);
  return program;
}

Result<std::vector<sock_filter>> cached_default_program(const std::string& directory,
                                                        CapabilitySet capabilities, bool with_i386) {
  const std::array<std::uint64_t, 3> key = {0x746c756166656400 /* "\0default": no JSON starts so */,
                                            capabilities, with_i386};
  return cached_program(directory, std::as_bytes(std::span(key)),
                        [&] { return compile(default_profile(capabilities, with_i386)); });
}

}  // namespace fastdock::launch
