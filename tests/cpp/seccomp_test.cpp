#include "launch/seccomp.h"

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

#include "launch/seccomp_numbers.h"
#include "launch/seccomp_optimize.h"
#include "launch/seccomp_program.h"
#include "seccomp_evaluate.h"

namespace fastdock::launch {
namespace {

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

}  // namespace
}  // namespace fastdock::launch
