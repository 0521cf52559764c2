#include <gtest/gtest.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/seccomp.h>
#include <seccomp.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include <cerrno>
#include <cstring>
#include <random>

#include "launch/seccomp.h"
#include "launch/seccomp_numbers.h"
#include "launch/seccomp_optimize.h"
#include "launch/seccomp_program.h"
#include "seccomp_evaluate.h"

namespace fastdock::launch {
namespace {

TEST(SeccompDefault, RefusesWhatReachesOutOfTheContainer) {
  const BpfProgram program = compile(default_profile(0, false)).value();
  for (const char* name : {"mount",
                           "umount2",
                           "pivot_root",
                           "fsopen",
                           "fsmount",
                           "fsconfig",
                           "fspick",
                           "move_mount",
                           "open_tree",
                           "mount_setattr",
                           "open_tree_attr",
                           "setns",
                           "unshare",
                           "bpf",
                           "perf_event_open",
                           "keyctl",
                           "add_key",
                           "request_key",
                           "userfaultfd",
                           "io_uring_setup",
                           "io_uring_enter",
                           "io_uring_register",
                           "kexec_load",
                           "kexec_file_load",
                           "init_module",
                           "finit_module",
                           "delete_module",
                           "swapon",
                           "swapoff",
                           "reboot",
                           "open_by_handle_at",
                           "quotactl",
                           "quotactl_fd",
                           "iopl",
                           "ioperm",
                           "acct",
                           "settimeofday",
                           "clock_settime",
                           "sethostname",
                           "setdomainname",
                           "syslog",
                           "vhangup",
                           "chroot",
                           "fanotify_init"}) {
    auto number = syscall_number(SCMP_ARCH_X86_64, name);
    ASSERT_TRUE(number) << name;
    EXPECT_EQ(answer(program, {*number}), error(EPERM)) << name;
  }
  for (const char* name : {"_sysctl", "uselib", "create_module", "sysfs", "ustat", "nfsservctl", "clone3"})
    EXPECT_EQ(answer(program, {*syscall_number(SCMP_ARCH_X86_64, name)}), error(ENOSYS)) << name;
  EXPECT_EQ(answer(program, {470}), error(ENOSYS)) << "Linux 6.19's listns";
}

TEST(SeccompDefault, NothingIsKilledWhateverTheNumber) {
  for (bool i386 : {false, true}) {
    const BpfProgram program = compile(default_profile(kAllCapabilities, i386)).value();
    for (std::uint32_t architecture :
         std::initializer_list<std::uint32_t>{AUDIT_ARCH_X86_64, AUDIT_ARCH_I386, AUDIT_ARCH_AARCH64}) {
      for (std::uint32_t number = 0; number < 1024; ++number) {
        for (std::uint32_t bit : {0U, kX32Bit, 0x80000000U}) {
          const std::uint32_t result = answer(program, {number | bit, {}, architecture});
          const bool native = architecture == AUDIT_ARCH_X86_64 && bit == 0;
          const bool emulated = i386 && architecture == AUDIT_ARCH_I386;
          if (native || emulated) {
            ASSERT_TRUE(result == kAllowed || result == error(EPERM) || result == error(ENOSYS)) << number;
          } else {
            ASSERT_EQ(result, error(ENOSYS)) << number << " of " << architecture;
          }
        }
      }
    }
  }
}

TEST(SeccompDefault, ProcessesGetNoNamespacesWithoutTheirCapability) {
  const BpfProgram without = compile(default_profile(kDefaultCapabilities, true)).value();
  const BpfProgram admin = compile(default_profile(capability_bit(CAP_SYS_ADMIN), false)).value();
  for (std::uint64_t flag :
       {0x00020000UL, 0x02000000UL, 0x04000000UL, 0x08000000UL, 0x10000000UL, 0x20000000UL, 0x40000000UL}) {
    EXPECT_EQ(answer(without, {SYS_clone, {flag | 17}}), error(EPERM));
    EXPECT_EQ(answer(without, {SYS_clone, {flag | 0xffffffff00000000}}), error(EPERM))
        << "high bits do not help";
    EXPECT_EQ(answer(without, {120, {flag | 17}, AUDIT_ARCH_I386}), error(EPERM));
    EXPECT_EQ(answer(admin, {SYS_clone, {flag | 17}}), kAllowed);
  }
  EXPECT_EQ(answer(without, {SYS_clone, {17}}), kAllowed);
  EXPECT_EQ(answer(without, {SYS_clone, {0x3d0f00}}), kAllowed) << "a thread, as glibc makes it";
  EXPECT_EQ(answer(without, {SYS_clone3}), error(ENOSYS));
  EXPECT_EQ(answer(admin, {SYS_clone3}), kAllowed);
}

TEST(SeccompDefault, TerminalInjectionIsRefusedWithAnyHighBits) {
  const BpfProgram program = compile(default_profile(kAllCapabilities, true)).value();
  for (std::uint64_t request : {0x5412UL, 0x541cUL}) {
    for (std::uint64_t high : {0x0UL, 0x1UL, 0x80000000UL, 0xffffffffUL}) {
      EXPECT_EQ(answer(program, {SYS_ioctl, {0, high << 32 | request}}), error(EPERM));
    }
    EXPECT_EQ(answer(program, {54, {0, request}, AUDIT_ARCH_I386}), error(EPERM));
  }
  EXPECT_EQ(answer(program, {SYS_ioctl, {0, 0x5413}}), kAllowed);
  EXPECT_EQ(answer(program, {SYS_ioctl, {0x5412, 0x5401}}), kAllowed) << "the descriptor is not the request";
}

TEST(SeccompDefault, SocketsOfOtherWorldsAreRefusedWithAnyHighBits) {
  const BpfProgram program = compile(default_profile(kAllCapabilities, true)).value();
  for (std::uint64_t high : {0x0UL, 0x1UL << 32, 0xffffffffUL << 32}) {
    EXPECT_EQ(answer(program, {SYS_socket, {high | AF_VSOCK}}), error(EPERM));
    EXPECT_EQ(answer(program, {SYS_socket, {high | AF_ALG}}), error(EAFNOSUPPORT));
  }
  EXPECT_EQ(answer(program, {359, {AF_VSOCK}, AUDIT_ARCH_I386}), error(EPERM));
  for (std::uint64_t family : {AF_UNIX, AF_INET, AF_INET6, AF_NETLINK, AF_PACKET, AF_NFC, AF_XDP})
    EXPECT_EQ(answer(program, {SYS_socket, {family}}), kAllowed);
}

TEST(SeccompDefault, PersonalitiesThatAreHarmless) {
  const BpfProgram program = compile(default_profile(0, false)).value();
  for (std::uint64_t persona : {0x0UL, 0x8UL, 0x20000UL, 0x20008UL, 0x40000UL, 0xffffffffUL, ~0UL})
    EXPECT_EQ(answer(program, {SYS_personality, {persona}}), kAllowed);
  for (std::uint64_t persona : {0x400000UL, 0x1UL, 0x100400000UL, 0x8000000UL})
    EXPECT_EQ(answer(program, {SYS_personality, {persona}}), error(EPERM));
}

TEST(SeccompDefault, ACapabilityOpensItsOwnCalls) {
  const std::pair<int, const char*> doors[] = {{CAP_SYS_CHROOT, "chroot"},
                                               {CAP_SYS_BOOT, "reboot"},
                                               {CAP_SYS_MODULE, "init_module"},
                                               {CAP_SYS_PACCT, "acct"},
                                               {CAP_SYS_RAWIO, "iopl"},
                                               {CAP_SYS_TIME, "settimeofday"},
                                               {CAP_SYS_NICE, "mbind"},
                                               {CAP_SYSLOG, "syslog"},
                                               {CAP_BPF, "bpf"},
                                               {CAP_PERFMON, "perf_event_open"},
                                               {CAP_DAC_READ_SEARCH, "open_by_handle_at"},
                                               {CAP_SYS_ADMIN, "mount"},
                                               {CAP_SYS_TTY_CONFIG, "vhangup"}};
  for (auto [capability, name] : doors) {
    const std::uint32_t number = *syscall_number(SCMP_ARCH_X86_64, name);
    const CapabilitySet only = capability_bit(capability);
    EXPECT_EQ(answer(compile(default_profile(only, false)).value(), {number}), kAllowed) << name;
    const CapabilitySet others = kAllCapabilities & ~only & ~capability_bit(CAP_SYS_ADMIN);
    EXPECT_EQ(answer(compile(default_profile(others, false)).value(), {number}), error(EPERM)) << name;
  }
}

}  // namespace
}  // namespace fastdock::launch
