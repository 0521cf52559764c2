#include "launch/seccomp.h"

#include <gtest/gtest.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/seccomp.h>
#include <seccomp.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include <cerrno>
#include <cstddef>
#include <cstring>
#include <random>

#include "launch/seccomp_numbers.h"
#include "launch/seccomp_program.h"

namespace fastdock::launch {
namespace {

// What the kernel would answer: the instructions that seccomp allows, one by one (Documentation/networking/
// filter.rst).
std::uint32_t evaluate(const BpfProgram& program, const seccomp_data& data) {
  std::uint32_t a = 0;
  for (std::size_t i = 0; i < program.size(); ++i) {
    const sock_filter& instruction = program[i];
    bool holds = false;
    switch (instruction.code) {
      case BPF_LD | BPF_W | BPF_ABS:
        std::memcpy(&a, reinterpret_cast<const char*>(&data) + instruction.k, sizeof a);
        continue;
      case BPF_ALU | BPF_AND | BPF_K:
        a &= instruction.k;
        continue;
      case BPF_RET | BPF_K:
        return instruction.k;
      case BPF_JMP | BPF_JA:
        i += instruction.k;
        continue;
      case BPF_JMP | BPF_JEQ | BPF_K:
        holds = a == instruction.k;
        break;
      case BPF_JMP | BPF_JGT | BPF_K:
        holds = a > instruction.k;
        break;
      case BPF_JMP | BPF_JGE | BPF_K:
        holds = a >= instruction.k;
        break;
      case BPF_JMP | BPF_JSET | BPF_K:
        holds = (a & instruction.k) != 0;
        break;
      default:
        ADD_FAILURE() << "instruction " << instruction.code;
        return 0;
    }
    i += holds ? instruction.jt : instruction.jf;
  }
  ADD_FAILURE() << "ran off the end";
  return 0;
}

struct Call {
  std::uint32_t number;
  std::uint64_t arguments[6] = {};
  std::uint32_t architecture = AUDIT_ARCH_X86_64;
};

std::uint32_t answer(const BpfProgram& program, const Call& call) {
  seccomp_data data{};
  data.nr = static_cast<int>(call.number);
  data.arch = call.architecture;
  std::copy(std::begin(call.arguments), std::end(call.arguments), data.args);
  return evaluate(program, data);
}

constexpr std::uint32_t kAllowed = SECCOMP_RET_ALLOW;
constexpr std::uint32_t error(int number) { return SECCOMP_RET_ERRNO | static_cast<std::uint32_t>(number); }

constexpr std::uint32_t kMseal = 462;  // not in libseccomp 2.5.4
constexpr std::uint32_t kI386Mseal = 462;

SeccompProfile with(std::vector<SeccompRule> rules) {
  SeccompProfile profile;
  profile.rules = std::move(rules);
  return profile;
}

bool holds(const SeccompArgument& condition, std::uint64_t value) {
  switch (condition.op) {
    case SeccompOperator::kNotEqual:
      return value != condition.value;
    case SeccompOperator::kLess:
      return value < condition.value;
    case SeccompOperator::kLessEqual:
      return value <= condition.value;
    case SeccompOperator::kEqual:
      return value == condition.value;
    case SeccompOperator::kGreaterEqual:
      return value >= condition.value;
    case SeccompOperator::kGreater:
      return value > condition.value;
    case SeccompOperator::kMaskedEqual:
      return (value & condition.value) == condition.value_two;
  }
  return false;
}

// Values whose halves meet those of others in every order.
std::uint64_t interesting(std::mt19937_64& random) {
  constexpr std::uint32_t halves[] = {0, 1, 2, 0x7fffffff, 0x80000000, 0xfffffffe, 0xffffffff};
  auto half = [&] { return std::uint64_t{halves[random() % std::size(halves)]}; };
  return half() << 32 | half();
}

TEST(Seccomp, EveryOperatorComparesAll64Bits) {
  std::mt19937_64 random(1);
  for (int round = 0; round < 300; ++round) {
    std::vector<SeccompArgument> arguments;
    const auto count = 1 + random() % 3;
    for (std::uint32_t index = 0; index < count; ++index) {
      SeccompArgument argument{index, interesting(random), interesting(random),
                               static_cast<SeccompOperator>(random() % 7)};
      // libseccomp refuses a datum with bits outside of the mask.
      if (argument.op == SeccompOperator::kMaskedEqual) argument.value_two &= argument.value;
      arguments.push_back(argument);
    }
    auto profile = with({{{"write", "mseal"}, SeccompAction::kAllow, {}, arguments}});
    profile.exceptions.push_back({{"read"}, SeccompAction::kErrno, EIO, arguments});
    profile.rules.push_back({{"read"}, SeccompAction::kAllow, {}, {}});
    const BpfProgram program = compile(profile).value();
    for (int sample = 0; sample < 100; ++sample) {
      Call call{SYS_write};
      bool matches = true;
      for (const auto& argument : arguments) {
        call.arguments[argument.index] = random() % 4 == 0 ? argument.value : interesting(random);
        matches = matches && holds(argument, call.arguments[argument.index]);
      }
      const std::uint32_t wanted = matches ? kAllowed : error(EPERM);
      ASSERT_EQ(answer(program, call), wanted) << "through libseccomp, round " << round;
      call.number = kMseal;
      ASSERT_EQ(answer(program, call), wanted) << "by number, round " << round;
      call.number = SYS_read;
      ASSERT_EQ(answer(program, call), matches ? error(EIO) : kAllowed) << "an exception, round " << round;
    }
  }
}

TEST(Seccomp, TwoConditionsOnOneArgumentAreAlternatives) {
  const std::vector<SeccompArgument> either = {{0, 1, 0, SeccompOperator::kEqual},
                                               {0, 2, 0, SeccompOperator::kEqual}};
  const BpfProgram program = compile(with({{{"write", "mseal"}, SeccompAction::kAllow, {}, either}})).value();
  for (std::uint32_t number : {static_cast<std::uint32_t>(SYS_write), kMseal}) {
    EXPECT_EQ(answer(program, {number, {1}}), kAllowed);
    EXPECT_EQ(answer(program, {number, {2}}), kAllowed);
    EXPECT_EQ(answer(program, {number, {3}}), error(EPERM));
  }
}

TEST(Seccomp, CallsNewerThanTheProfileDoNotExist) {
  const BpfProgram program = compile(with({{{"read", "openat"}, SeccompAction::kAllow, {}, {}}})).value();
  EXPECT_EQ(answer(program, {SYS_openat}), kAllowed);
  EXPECT_EQ(answer(program, {SYS_write}), error(EPERM));
  EXPECT_EQ(answer(program, {SYS_openat + 1}), error(ENOSYS));
  EXPECT_EQ(answer(program, {SYS_openat2}), error(ENOSYS)) << "glibc falls back to openat";
  EXPECT_EQ(answer(program, {0x3fffffff}), error(ENOSYS));
}

TEST(Seccomp, CallsNewerThanTheProfileGoThroughWhereTheDefaultSaysSo) {
  for (SeccompAction action : {SeccompAction::kAllow, SeccompAction::kLog, SeccompAction::kTrace}) {
    auto profile = with({{{"read"}, SeccompAction::kErrno, {}, {}}});
    profile.default_action = action;
    const BpfProgram program = compile(profile).value();
    EXPECT_NE(answer(program, {SYS_openat2}), error(ENOSYS));
    EXPECT_EQ(answer(program, {SYS_read}), error(EPERM));
  }
}

TEST(Seccomp, EveryActionIsTheKernels) {
  const std::pair<SeccompAction, std::uint32_t> actions[] = {
      {SeccompAction::kKillProcess, SECCOMP_RET_KILL_PROCESS},
      {SeccompAction::kKillThread, SECCOMP_RET_KILL_THREAD},
      {SeccompAction::kTrap, SECCOMP_RET_TRAP},
      {SeccompAction::kErrno, error(EPERM)},
      {SeccompAction::kTrace, SECCOMP_RET_TRACE | EPERM},
      {SeccompAction::kAllow, SECCOMP_RET_ALLOW},
      {SeccompAction::kLog, SECCOMP_RET_LOG},
      {SeccompAction::kNotify, SECCOMP_RET_USER_NOTIF},
  };
  for (auto [action, result] : actions) {
    auto profile = with({{{"read", "mseal"}, action, {}, {}}});
    profile.default_errno = EACCES;
    const BpfProgram program = compile(profile).value();
    EXPECT_EQ(answer(program, {SYS_read}), result);
    EXPECT_EQ(answer(program, {kMseal}), result);
    EXPECT_EQ(answer(program, {SYS_lseek}), error(EACCES));
  }
}

TEST(Seccomp, UnknownNamesAreSkippedAndAnEmptyProfileIsOne) {
  const BpfProgram program =
      compile(with({{{"no_such_call", "read", "swapcontext"}, SeccompAction::kAllow, {}, {}}})).value();
  EXPECT_EQ(answer(program, {SYS_read}), kAllowed);
  const BpfProgram empty = compile(with({})).value();
  EXPECT_EQ(answer(empty, {SYS_read}), error(EPERM));
}

TEST(Seccomp, AProfileThatContradictsItselfIsRefusedByName) {
  auto refuses = [](const SeccompProfile& profile, std::string_view what) {
    auto program = compile(profile);
    ASSERT_FALSE(program) << what;
    EXPECT_EQ(program.error().operation, Operation::kCompileSeccomp);
    EXPECT_EQ(program.error().path, what);
  };
  refuses(with({{{"write"}, SeccompAction::kNotify, {}, {}}}), "SCMP_ACT_NOTIFY for write");
  refuses(with({{{"read"}, SeccompAction::kAllow, 5, {}}}), "read");
  refuses(with({{{"read"}, SeccompAction::kErrno, 5000, {}}}), "read");
  refuses(with({{{"read"}, SeccompAction::kAllow, {}, {{6, 0, 0, SeccompOperator::kEqual}}}}), "read");
  refuses(with({{{""}, SeccompAction::kAllow, {}, {}}}), "a system call without a name");
  refuses(with({{{std::string("re\0ad", 5)}, SeccompAction::kAllow, {}, {}}}),
          "a system call without a name");
  SeccompProfile notify;
  notify.default_action = SeccompAction::kNotify;
  refuses(notify, "SCMP_ACT_NOTIFY as default action");
}

TEST(Seccomp, AProgramThatIsTooLongIsRefused) {
  SeccompProfile profile;
  for (std::uint64_t value = 0; value < 3000; ++value)
    profile.exceptions.push_back(
        {{"read"}, SeccompAction::kErrno, EIO, {{0, value, 0, SeccompOperator::kEqual}}});
  auto program = compile(profile);
  ASSERT_FALSE(program);
  EXPECT_EQ(program.error().number, E2BIG);
}

TEST(Seccomp, ArchitecturesHaveTheirOwnNumbers) {
  auto profile = with({{{"read", "mseal", "uretprobe"}, SeccompAction::kAllow, {}, {}}});
  profile.architectures = {*parse_seccomp_architecture("SCMP_ARCH_X86"),
                           *parse_seccomp_architecture("SCMP_ARCH_X86_64"),
                           *parse_seccomp_architecture("SCMP_ARCH_X32")};
  const BpfProgram program = compile(profile).value();
  EXPECT_EQ(answer(program, {SYS_read}), kAllowed);
  EXPECT_EQ(answer(program, {kMseal}), kAllowed);
  EXPECT_EQ(answer(program, {335}), kAllowed);
  EXPECT_EQ(answer(program, {3, {}, AUDIT_ARCH_I386}), kAllowed);
  EXPECT_EQ(answer(program, {kI386Mseal, {}, AUDIT_ARCH_I386}), kAllowed);
  EXPECT_EQ(answer(program, {335, {}, AUDIT_ARCH_I386}), error(EPERM)) << "uretprobe is x86-64's only";
  EXPECT_EQ(answer(program, {463, {}, AUDIT_ARCH_I386}), error(ENOSYS));
  EXPECT_EQ(answer(program, {kX32Bit | SYS_read}), kAllowed);
  EXPECT_EQ(answer(program, {kX32Bit | kMseal}), kAllowed);
  EXPECT_EQ(answer(program, {kX32Bit | SYS_lseek}), error(EPERM));
  EXPECT_EQ(answer(program, {kX32Bit | 600}), error(ENOSYS));
}

TEST(Seccomp, OtherAbisAreKilledUnlessTheProfileSaysOtherwise) {
  auto profile = with({{{"read"}, SeccompAction::kAllow, {}, {}}});
  BpfProgram program = compile(profile).value();
  EXPECT_EQ(answer(program, {3, {}, AUDIT_ARCH_I386}), SECCOMP_RET_KILL_THREAD);
  EXPECT_EQ(answer(program, {kX32Bit}), SECCOMP_RET_KILL_THREAD);
  profile.foreign_abi_errno = ENOSYS;
  program = compile(profile).value();
  EXPECT_EQ(answer(program, {3, {}, AUDIT_ARCH_I386}), error(ENOSYS));
  EXPECT_EQ(answer(program, {kX32Bit}), error(ENOSYS));
  EXPECT_EQ(answer(program, {3, {}, AUDIT_ARCH_AARCH64}), error(ENOSYS));
}

TEST(Seccomp, FlagsForTheKernel) {
  SeccompProfile profile;
  profile.flags = kSeccompLog | kSeccompTsync | kSeccompWaitKillable;
  EXPECT_EQ(load_flags(profile), kSeccompLog);
  profile.rules.push_back({{"read"}, SeccompAction::kNotify, {}, {}});
  EXPECT_EQ(load_flags(profile), kSeccompLog | kSeccompNewListener | kSeccompWaitKillable);
}

TEST(Seccomp, WordsOfTheSpecification) {
  EXPECT_EQ(parse_seccomp_action("SCMP_ACT_KILL"), SeccompAction::kKillThread);
  EXPECT_EQ(parse_seccomp_action("SCMP_ACT_NOTIFY"), SeccompAction::kNotify);
  EXPECT_EQ(parse_seccomp_action("scmp_act_allow"), std::nullopt);
  EXPECT_EQ(parse_seccomp_operator("SCMP_CMP_MASKED_EQ"), SeccompOperator::kMaskedEqual);
  EXPECT_EQ(parse_seccomp_flag("SECCOMP_FILTER_FLAG_SPEC_ALLOW"), kSeccompSpecAllow);
  EXPECT_EQ(static_cast<std::uint32_t>(*parse_seccomp_architecture("SCMP_ARCH_AARCH64")),
            static_cast<std::uint32_t>(SCMP_ARCH_AARCH64));
  EXPECT_FALSE(parse_seccomp_architecture("SCMP_ARCH_NATIVE"));
  EXPECT_FALSE(parse_seccomp_architecture("SCMP_ARCH_Z80"));
  EXPECT_FALSE(parse_seccomp_architecture("x86"));
}

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

TEST(SeccompProgram, OnlyWhatSeccompAllowsIsAProgram) {
  const sock_filter ret{BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ALLOW};
  auto is = [&](std::vector<sock_filter> program) { return is_seccomp_program(program); };
  EXPECT_TRUE(is({ret}));
  EXPECT_TRUE(is({{BPF_LD | BPF_W | BPF_ABS, 0, 0, 60}, ret}));
  EXPECT_TRUE(is({{BPF_JMP | BPF_JEQ | BPF_K, 0, 1, 5}, ret, ret}));
  EXPECT_FALSE(is({}));
  EXPECT_FALSE(is({{BPF_LD | BPF_W | BPF_ABS, 0, 0, 64}, ret})) << "behind seccomp_data";
  EXPECT_FALSE(is({{BPF_LD | BPF_W | BPF_ABS, 0, 0, 2}, ret})) << "not aligned";
  EXPECT_FALSE(is({{BPF_LD | BPF_B | BPF_ABS, 0, 0, 0}, ret}));
  EXPECT_FALSE(is({{BPF_JMP | BPF_JEQ | BPF_K, 0, 1, 5}, ret})) << "jumps out";
  EXPECT_FALSE(is({{BPF_JMP | BPF_JA, 0, 0, 1}, ret}));
  EXPECT_FALSE(is({{BPF_JMP | BPF_JA, 0, 0, 0xffffffff}, ret}));
  EXPECT_FALSE(is({ret, {BPF_LD | BPF_W | BPF_ABS, 0, 0, 0}})) << "does not end in a return";
  EXPECT_FALSE(is({{BPF_ST, 0, 0, 0}, ret}));
  EXPECT_FALSE(is({{BPF_RET | BPF_A, 0, 0, 0}}));
  EXPECT_FALSE(is(std::vector<sock_filter>(BPF_MAXINSNS + 1, ret)));
}

}  // namespace
}  // namespace fastdock::launch
