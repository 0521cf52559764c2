#include "launch/seccomp_program.h"

#include <linux/audit.h>

#include <algorithm>
#include <cerrno>

#include "launch/bpf.h"
#include "launch/seccomp_numbers.h"

namespace fastdock::launch {
namespace {

void append(BpfProgram& program, std::span<const sock_filter> more) {
  program.insert(program.end(), more.begin(), more.end());
}

// `block`, but only where `A code k` holds, or where it does not; conditional jumps reach 255 at most.
void append_if(BpfProgram& program, std::uint16_t code, std::uint32_t k, std::span<const sock_filter> block,
               bool holds = true) {
  if (block.size() <= 255) {
    const auto size = static_cast<std::uint8_t>(block.size());
    program.push_back(holds ? sock_filter{code, 0, size, k} : sock_filter{code, size, 0, k});
  } else {
    program.push_back(holds ? sock_filter{code, 1, 0, k} : sock_filter{code, 0, 1, k});
    program.push_back(statement(kJump, static_cast<std::uint32_t>(block.size())));
  }
  append(program, block);
}

// Where a conditional jump of a comparison goes, until the rule's length is known.
constexpr std::uint8_t kNext = 0;
constexpr std::uint8_t kMatches = 254;
constexpr std::uint8_t kFails = 255;

struct Halves {
  std::uint32_t low, high;
  explicit Halves(std::uint64_t value)
      : low(static_cast<std::uint32_t>(value)), high(static_cast<std::uint32_t>(value >> 32)) {}
};

// Falls through where the argument satisfies the condition, and jumps to kFails where it does not.
// seccomp_data holds each argument as 64 bits; x86 is little-endian, so the low half comes first.
BpfProgram comparison(const SeccompArgument& argument) {
  const auto low = static_cast<std::uint32_t>(offsetof(seccomp_data, args) + 8 * argument.index);
  const std::uint32_t high = low + 4;
  const Halves value(argument.value);
  auto ordered = [&](std::uint16_t code, std::uint8_t high_greater, std::uint8_t high_smaller,
                     std::uint8_t holds, std::uint8_t not_holds) {
    return BpfProgram{statement(kLoad, high),
                      {kIfGreater, high_greater, kNext, value.high},
                      {kIfEqual, kNext, high_smaller, value.high},
                      statement(kLoad, low),
                      {code, holds, not_holds, value.low}};
  };
  switch (argument.op) {
    case SeccompOperator::kEqual:
      return {statement(kLoad, high),
              {kIfEqual, kNext, kFails, value.high},
              statement(kLoad, low),
              {kIfEqual, kNext, kFails, value.low}};
    case SeccompOperator::kNotEqual:
      return {statement(kLoad, high),
              {kIfEqual, kNext, kMatches, value.high},
              statement(kLoad, low),
              {kIfEqual, kFails, kNext, value.low}};
    case SeccompOperator::kGreater:
      return ordered(kIfGreater, kMatches, kFails, kNext, kFails);
    case SeccompOperator::kGreaterEqual:
      return ordered(kIfGreaterEqual, kMatches, kFails, kNext, kFails);
    case SeccompOperator::kLess:
      return ordered(kIfGreaterEqual, kFails, kMatches, kFails, kNext);
    case SeccompOperator::kLessEqual:
      return ordered(kIfGreater, kFails, kMatches, kFails, kNext);
    case SeccompOperator::kMaskedEqual: {
      const Halves datum(argument.value_two);
      return {statement(kLoad, high), statement(kAnd, value.high), {kIfEqual, kNext, kFails, datum.high},
              statement(kLoad, low),  statement(kAnd, value.low),  {kIfEqual, kNext, kFails, datum.low}};
    }
  }
  return {};
}

// Returns the rule's result where all its arguments match, and falls through where one does not.
BpfProgram compile_rule(const NumberedRule& rule) {
  BpfProgram code;
  std::vector<std::size_t> ends;  // for each instruction, where its comparison ends
  for (const SeccompArgument& argument : rule.arguments) {
    append(code, comparison(argument));
    ends.resize(code.size(), code.size());
  }
  const std::size_t failed = code.size() + 1;  // behind the return
  for (std::size_t i = 0; i < code.size(); ++i) {
    if (BPF_CLASS(code[i].code) != BPF_JMP) continue;
    for (std::uint8_t* target : {&code[i].jt, &code[i].jf}) {
      if (*target == kFails) *target = static_cast<std::uint8_t>(failed - i - 1);
      if (*target == kMatches) *target = static_cast<std::uint8_t>(ends[i] - i - 1);
    }
  }
  code.push_back(statement(kReturn, rule.result));
  return code;
}

// A return or a jump whose distance is filled in when the whole prefix is there.
constexpr std::uint32_t kToFilter = 0xffffffff;

BpfProgram compile_call(const std::vector<NumberedRule>& rules, std::optional<std::uint32_t> otherwise) {
  BpfProgram code;
  for (const NumberedRule& rule : rules) append(code, compile_rule(rule));
  code.push_back(otherwise ? statement(kReturn, *otherwise) : statement(kJump, kToFilter));
  return code;
}

// Everything about one ABI; A holds the system call's number.
BpfProgram compile_abi(const AbiPrefix& prefix, std::uint32_t default_result) {
  BpfProgram code;
  for (const auto& [number, rules] : prefix.exceptions)
    if (!prefix.new_calls.contains(number))
      append_if(code, kIfEqual, number, compile_call(rules, std::nullopt));
  for (const auto& [number, rules] : prefix.new_calls) {
    std::vector<NumberedRule> all;
    if (auto found = prefix.exceptions.find(number); found != prefix.exceptions.end()) all = found->second;
    all.insert(all.end(), rules.begin(), rules.end());
    append_if(code, kIfEqual, number, compile_call(all, default_result));
  }
  if (prefix.last_number) {
    const sock_filter refuse = statement(kReturn, SECCOMP_RET_ERRNO | ENOSYS);
    append_if(code, kIfGreater, *prefix.last_number, {&refuse, 1});
  }
  code.push_back(statement(kJump, kToFilter));
  return code;
}

// As compile_abi, for the calls of x86-64's audit architecture: x32 has the mode bit in the number.
BpfProgram compile_mode(const AbiPrefix& prefix, std::uint32_t default_result) {
  BpfProgram code{statement(kLoad, kNumberOffset)};
  BpfProgram abi = compile_abi(prefix, default_result);
  if (prefix.audit_architecture != AUDIT_ARCH_X86_64) {
    append(code, abi);
  } else if (prefix.mode_bit != 0) {
    append_if(code, kIfAnySet, prefix.mode_bit, abi);
  } else {
    append_if(code, kIfAnySet, kX32Bit, abi, false);
  }
  return code;
}

}  // namespace

BpfProgram with_prefix(std::span<const AbiPrefix> prefixes, std::uint32_t default_result,
                       std::span<const sock_filter> filter) {
  BpfProgram program;
  for (const AbiPrefix& prefix : prefixes) {
    if (!prefix.last_number && prefix.exceptions.empty() && prefix.new_calls.empty()) continue;
    program.push_back(statement(kLoad, kArchitectureOffset));
    append_if(program, kIfEqual, prefix.audit_architecture, compile_mode(prefix, default_result));
  }
  for (std::size_t i = 0; i < program.size(); ++i)
    if (program[i].code == kJump && program[i].k == kToFilter)
      program[i].k = static_cast<std::uint32_t>(program.size() - i - 1);
  append(program, filter);
  return program;
}

bool is_seccomp_program(std::span<const sock_filter> program) {
  if (program.empty() || program.size() > BPF_MAXINSNS) return false;
  for (std::size_t i = 0; i < program.size(); ++i) {
    const sock_filter& instruction = program[i];
    const std::size_t rest = program.size() - i - 1;  // instructions behind this one
    switch (instruction.code) {
      case kLoad:
        if (instruction.k % 4 != 0 || instruction.k >= sizeof(seccomp_data)) return false;
        break;
      case kAnd:
      case kReturn:
        break;
      case kJump:
        if (instruction.k >= rest) return false;
        break;
      case kIfEqual:
      case kIfGreater:
      case kIfGreaterEqual:
      case kIfAnySet:
        if (instruction.jt >= rest || instruction.jf >= rest) return false;
        break;
      default:
        return false;
    }
  }
  return program.back().code == kReturn;
}

}  // namespace fastdock::launch
