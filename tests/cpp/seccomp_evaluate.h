// What a seccomp program answers to a call.
#pragma once

#include <gtest/gtest.h>
#include <linux/audit.h>
#include <linux/seccomp.h>

#include <algorithm>
#include <cstdint>

#include "../support/seccomp_interpreter.h"
#include "launch/seccomp_program.h"

namespace fastdock::launch {

inline std::uint32_t evaluate(const BpfProgram& program, const seccomp_data& data) {
  auto answer = interpret(program, data);
  EXPECT_TRUE(answer.has_value()) << "not a seccomp program";
  return answer.value_or(0);
}

struct Call {
  std::uint32_t number;
  std::uint64_t arguments[6] = {};
  std::uint32_t architecture = AUDIT_ARCH_X86_64;
};

inline std::uint32_t answer(const BpfProgram& program, const Call& call) {
  seccomp_data data{};
  data.nr = static_cast<int>(call.number);
  data.arch = call.architecture;
  std::copy(std::begin(call.arguments), std::end(call.arguments), data.args);
  return evaluate(program, data);
}

constexpr std::uint32_t kAllowed = SECCOMP_RET_ALLOW;
constexpr std::uint32_t error(int number) { return SECCOMP_RET_ERRNO | static_cast<std::uint32_t>(number); }

}  // namespace fastdock::launch
