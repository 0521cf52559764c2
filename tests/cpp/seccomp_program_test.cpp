#include "launch/seccomp_program.h"

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
#include "seccomp_evaluate.h"

namespace fastdock::launch {
namespace {

// A program as compilers of filters write them: the architecture, then numbers, then arguments; with jumps
// and constants at random, so that most of what it does makes no sense.
BpfProgram random_program(std::mt19937& random) {
  constexpr std::uint32_t constants[] = {
      0, 1, 2, 3, 5, 100, kX32Bit, kX32Bit | 3, AUDIT_ARCH_X86_64, AUDIT_ARCH_I386};
  constexpr std::uint16_t jumps[] = {BPF_JEQ, BPF_JEQ, BPF_JGT, BPF_JGE, BPF_JSET};
  const std::size_t size = 2 + random() % 60;
  BpfProgram program{{BPF_LD | BPF_W | BPF_ABS, 0, 0, random() % 2 == 0 ? 4U : 0U}};
  while (program.size() < size) {
    const std::size_t rest = size - program.size() - 1;
    const auto k = constants[random() % std::size(constants)];
    auto near = [&] {
      return static_cast<std::uint8_t>(rest == 0 ? 0 : random() % std::min<std::size_t>(rest, 12));
    };
    auto word = [&](std::size_t count) { return static_cast<std::uint32_t>(random() % count * 4); };
    sock_filter instruction{};
    switch (random() % 8) {
      case 0:
        instruction = {BPF_LD | BPF_W | BPF_ABS, 0, 0, word(16)};
        break;
      case 1:
        instruction = {BPF_LD | BPF_W | BPF_ABS, 0, 0, word(2)};
        break;
      case 2:
        instruction = {BPF_RET | BPF_K, 0, 0, word(4)};
        break;
      case 3:
        instruction = {BPF_ALU | BPF_AND | BPF_K, 0, 0, k};
        break;
      case 4:
        instruction = {BPF_JMP | BPF_JA, 0, 0, near()};
        break;
      default:
        instruction = {static_cast<std::uint16_t>(BPF_JMP | BPF_K | jumps[random() % std::size(jumps)]),
                       near(), near(), k};
    }
    program.push_back(instruction);
  }
  program.push_back({BPF_RET | BPF_K, 0, 0, 9});
  return program;
}

TEST(SeccompOptimize, AnswersAsTheProgramItself) {
  constexpr std::uint32_t words[] = {0,
                                     1,
                                     2,
                                     3,
                                     4,
                                     5,
                                     6,
                                     99,
                                     100,
                                     101,
                                     0x3fffffff,
                                     kX32Bit,
                                     kX32Bit | 3,
                                     kX32Bit | 4,
                                     0x80000000,
                                     0xffffffff,
                                     AUDIT_ARCH_X86_64,
                                     AUDIT_ARCH_I386};
  std::mt19937 random(3);
  int smaller = 0;
  for (int round = 0; round < 20000; ++round) {
    const BpfProgram program = random_program(random);
    ASSERT_TRUE(is_seccomp_program(program));
    const BpfProgram better = optimized(program);
    ASSERT_TRUE(is_seccomp_program(better));
    ASSERT_LE(better.size(), program.size());
    smaller += better.size() < program.size();
    for (int sample = 0; sample < 50; ++sample) {
      std::uint32_t data[sizeof(seccomp_data) / 4];
      for (std::uint32_t& word : data) word = words[random() % std::size(words)];
      if (random() % 2 == 0) data[1] = AUDIT_ARCH_X86_64;
      seccomp_data call;
      std::memcpy(&call, data, sizeof call);
      ASSERT_EQ(evaluate(better, call), evaluate(program, call)) << "round " << round;
    }
  }
  EXPECT_GT(smaller, 1000) << "the test does what it says";
}

TEST(SeccompOptimize, TheDefaultProgramIsSmall) {
  EXPECT_LT(compile(default_profile(kDefaultCapabilities, false)).value().size(), 150U);
  EXPECT_LT(compile(default_profile(kAllCapabilities, true)).value().size(), 400U);
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
