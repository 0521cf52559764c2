#include "launch/seccomp.h"

#include <linux/audit.h>
#include <seccomp.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <memory>
#include <set>

#include "base/fd.h"
#include "launch/seccomp_numbers.h"
#include "launch/seccomp_optimize.h"
#include "launch/seccomp_program.h"

namespace fastdock::launch {
namespace {

constexpr std::uint32_t kArgumentCount = 6;
constexpr std::uint32_t kMaxErrno = 4095;  // the kernel cuts larger ones down to it (kernel/seccomp.c)

// As runc: libseccomp up to 2.5.4 fails with a binary tree over no rules, and it pays for many only.
constexpr std::size_t kManyRules = 32;

struct ReleaseFilter {
  void operator()(void* filter) const { seccomp_release(filter); }
};
using Filter = std::unique_ptr<void, ReleaseFilter>;

std::unexpected<Error> refused(std::string_view what, int number = EINVAL) {
  return failed_with(number, Operation::kCompileSeccomp, what);
}

// libseccomp's actions have the values of the kernel's (SCMP_ACT_ALLOW is SECCOMP_RET_ALLOW, and so on).
Result<std::uint32_t> result_of(SeccompAction action, std::optional<std::uint32_t> errno_value,
                                std::string_view name) {
  if (errno_value && action != SeccompAction::kErrno && action != SeccompAction::kTrace)
    return refused(name);  // config-linux.md: "the runtime MUST print and error and fail"
  const std::uint32_t value = errno_value.value_or(EPERM);
  if (value > (action == SeccompAction::kTrace ? 0xffffU : kMaxErrno)) return refused(name, ERANGE);
  switch (action) {
    case SeccompAction::kKillProcess:
      return SCMP_ACT_KILL_PROCESS;
    case SeccompAction::kKillThread:
      return SCMP_ACT_KILL_THREAD;
    case SeccompAction::kTrap:
      return SCMP_ACT_TRAP;
    case SeccompAction::kErrno:
      return SCMP_ACT_ERRNO(value);
    case SeccompAction::kTrace:
      return SCMP_ACT_TRACE(value);
    case SeccompAction::kAllow:
      return SCMP_ACT_ALLOW;
    case SeccompAction::kLog:
      return SCMP_ACT_LOG;
    case SeccompAction::kNotify:
      return SCMP_ACT_NOTIFY;
  }
  return refused(name);
}

// Whether calls that the profile does not know go through anyway (runc, patchbpf: isAllowAction).
bool lets_through(SeccompAction action) {
  return action == SeccompAction::kAllow || action == SeccompAction::kLog || action == SeccompAction::kTrace;
}

scmp_compare comparison_of(SeccompOperator op) {
  switch (op) {
    case SeccompOperator::kNotEqual:
      return SCMP_CMP_NE;
    case SeccompOperator::kLess:
      return SCMP_CMP_LT;
    case SeccompOperator::kLessEqual:
      return SCMP_CMP_LE;
    case SeccompOperator::kEqual:
      return SCMP_CMP_EQ;
    case SeccompOperator::kGreaterEqual:
      return SCMP_CMP_GE;
    case SeccompOperator::kGreater:
      return SCMP_CMP_GT;
    case SeccompOperator::kMaskedEqual:
      return SCMP_CMP_MASKED_EQ;
  }
  return _SCMP_CMP_MIN;
}

scmp_arg_cmp condition_of(const SeccompArgument& argument) {
  // OCI has the mask in `value` and what must be left in `valueTwo`, which is libseccomp's order as well.
  return {argument.index, comparison_of(argument.op), argument.value, argument.value_two};
}

bool same_argument_twice(const std::vector<SeccompArgument>& arguments) {
  std::uint32_t seen = 0;
  for (const SeccompArgument& argument : arguments) {
    if ((seen >> argument.index & 1) != 0) return true;
    seen |= 1U << argument.index;
  }
  return false;
}

// The conditions of a rule, each list of which must match as a whole.
std::vector<std::vector<SeccompArgument>> alternatives(const SeccompRule& rule) {
  if (!same_argument_twice(rule.arguments)) return {rule.arguments};
  std::vector<std::vector<SeccompArgument>> lists;
  for (const SeccompArgument& argument : rule.arguments) lists.push_back({argument});
  return lists;
}

Result<void> check_rule(const SeccompRule& rule) {
  const std::string_view name = rule.names.empty() ? std::string_view() : rule.names.front();
  for (const SeccompArgument& argument : rule.arguments)
    if (argument.index >= kArgumentCount) return refused(name);
  for (const std::string& each : rule.names) {
    if (each.empty() || each.find('\0') != std::string::npos) return refused("a system call without a name");
    // The process that loads the filter must still write the listener's descriptor to its parent, and would
    // wait forever for a listener that nobody holds yet (as runc refuses it).
    if (rule.action == SeccompAction::kNotify && each == "write") return refused("SCMP_ACT_NOTIFY for write");
  }
  return {};
}

// One compilation: libseccomp's filter, and what goes before it.
class Compiler {
 public:
  explicit Compiler(const SeccompProfile& profile) : profile_(profile) {}

  Result<BpfProgram> run() {
    FASTDOCK_TRY(default_result_,
                 result_of(profile_.default_action, profile_.default_errno, "the default action"));
    if (profile_.default_action == SeccompAction::kNotify)
      return refused("SCMP_ACT_NOTIFY as default action");
    filter_.reset(seccomp_init(default_result_));
    if (!filter_) return refused("the default action");
    FASTDOCK_CHECK(add_architectures());
    for (const SeccompRule& rule : profile_.rules) FASTDOCK_CHECK(add_rule(rule));
    for (const SeccompRule& rule : profile_.exceptions) FASTDOCK_CHECK(add_exception(rule));
    if (added_ > kManyRules) FASTDOCK_CHECK(set_attribute(SCMP_FLTATR_CTL_OPTIMIZE, 2));
    FASTDOCK_TRY(BpfProgram filter, export_filter());
    BpfProgram program = with_prefix(prefixes(), default_result_, filter);
    if (program.size() > BPF_MAXINSNS) return refused("more than 4096 instructions", E2BIG);
    if (!is_seccomp_program(program)) return refused("a program that is not well-formed", EPROTO);
    return optimized(program);
  }

 private:
  struct Abi {
    std::uint32_t architecture;
    AbiPrefix prefix;
    std::optional<std::uint32_t> last;
  };

  Result<void> set_attribute(scmp_filter_attr attribute, std::uint32_t value) {
    int answer = seccomp_attr_set(filter_.get(), attribute, value);
    if (answer != 0) return refused("libseccomp's attributes", -answer);
    return {};
  }

  Result<void> add_architectures() {
    std::set<std::uint32_t> tokens{seccomp_arch_native()};
    for (SeccompArchitecture each : profile_.architectures) {
      auto token = static_cast<std::uint32_t>(each);
      if (!tokens.insert(token).second) continue;
      int answer = seccomp_arch_add(filter_.get(), token);
      if (answer != 0) return refused("the architectures", -answer);
    }
    if (tokens.contains(SCMP_ARCH_X86_64))
      abis_.push_back({SCMP_ARCH_X86_64, {AUDIT_ARCH_X86_64, 0, {}, {}, {}}, {}});
    if (tokens.contains(SCMP_ARCH_X32))
      abis_.push_back({SCMP_ARCH_X32, {AUDIT_ARCH_X86_64, kX32Bit, {}, {}, {}}, {}});
    if (tokens.contains(SCMP_ARCH_X86))
      abis_.push_back({SCMP_ARCH_X86, {AUDIT_ARCH_I386, 0, {}, {}, {}}, {}});
    if (profile_.foreign_abi_errno) {
      FASTDOCK_TRY(auto result,
                   result_of(SeccompAction::kErrno, profile_.foreign_abi_errno, "foreign_abi_errno"));
      FASTDOCK_CHECK(set_attribute(SCMP_FLTATR_ACT_BADARCH, result));
    }
    return {};
  }

  void remember_number(const std::string& name) {
    for (Abi& abi : abis_)
      if (auto number = syscall_number(abi.architecture, name.c_str()))
        abi.last = std::max(abi.last.value_or(0), *number);
  }

  Result<void> add_rule(const SeccompRule& rule) {
    FASTDOCK_CHECK(check_rule(rule));
    const std::string_view first = rule.names.empty() ? std::string_view() : rule.names.front();
    FASTDOCK_TRY(std::uint32_t result, result_of(rule.action, rule.errno_value, first));
    for (const std::string& name : rule.names) {
      remember_number(name);
      if (result == default_result_) continue;  // nothing to say; libseccomp would answer EACCES
      for (const auto& conditions : alternatives(rule)) {
        if (newer_than_libseccomp(name.c_str())) {
          add_numbered(&AbiPrefix::new_calls, name, {result, conditions});
        } else {
          FASTDOCK_CHECK(add_to_filter(name, result, conditions));
        }
      }
    }
    return {};
  }

  Result<void> add_exception(const SeccompRule& rule) {
    FASTDOCK_CHECK(check_rule(rule));
    const std::string_view first = rule.names.empty() ? std::string_view() : rule.names.front();
    FASTDOCK_TRY(std::uint32_t result, result_of(rule.action, rule.errno_value, first));
    for (const std::string& name : rule.names) {
      remember_number(name);
      for (const auto& conditions : alternatives(rule))
        add_numbered(&AbiPrefix::exceptions, name, {result, conditions});
    }
    return {};
  }

  void add_numbered(std::map<std::uint32_t, std::vector<NumberedRule>> AbiPrefix::* calls,
                    const std::string& name, const NumberedRule& rule) {
    for (Abi& abi : abis_)
      if (auto number = syscall_number(abi.architecture, name.c_str()))
        (abi.prefix.*calls)[*number].push_back(rule);
  }

  Result<void> add_to_filter(const std::string& name, std::uint32_t result,
                             const std::vector<SeccompArgument>& arguments) {
    int number = seccomp_syscall_resolve_name(name.c_str());
    if (number == __NR_SCMP_ERROR) return {};  // unknown: skipped, as runc does
    std::array<scmp_arg_cmp, kArgumentCount> conditions{};
    std::ranges::transform(arguments, conditions.begin(), condition_of);
    int answer = seccomp_rule_add_array(filter_.get(), result, number,
                                        static_cast<unsigned>(arguments.size()), conditions.data());
    if (answer != 0) return refused(name, -answer);
    ++added_;
    return {};
  }

  std::vector<AbiPrefix> prefixes() {
    std::vector<AbiPrefix> list;
    for (Abi& abi : abis_) {
      // An unconditional rule wins over conditional ones, as in libseccomp.
      for (auto& [number, rules] : abi.prefix.new_calls) {
        auto always = std::ranges::find_if(rules, [](const auto& rule) { return rule.arguments.empty(); });
        if (always != rules.end()) rules = {NumberedRule(*always)};
      }
      if (!lets_through(profile_.default_action)) abi.prefix.last_number = abi.last;
      list.push_back(abi.prefix);
    }
    return list;
  }

  Result<BpfProgram> export_filter() {
    Fd file(::memfd_create("fastdock-seccomp", MFD_CLOEXEC));
    if (!file) return failed(Operation::kCompileSeccomp, "memfd_create");
    int answer = seccomp_export_bpf(filter_.get(), file.get());
    if (answer != 0) return refused("seccomp_export_bpf", -answer);
    struct stat status{};
    if (::fstat(file.get(), &status) != 0) return failed(Operation::kCompileSeccomp, "fstat");
    const auto size = static_cast<std::size_t>(status.st_size);
    BpfProgram program(size / sizeof(sock_filter));
    if (::pread(file.get(), program.data(), size, 0) != status.st_size)
      return failed(Operation::kCompileSeccomp, "pread");
    return program;
  }

  const SeccompProfile& profile_;
  std::uint32_t default_result_ = 0;
  Filter filter_;
  std::vector<Abi> abis_;
  std::size_t added_ = 0;
};

template <class Value>
struct Word {
  std::string_view word;
  Value value;
};

template <class Value, std::size_t count>
std::optional<Value> look_up(const std::array<Word<Value>, count>& table, std::string_view word) {
  auto* entry = std::ranges::find(table, word, &Word<Value>::word);
  if (entry == table.end()) return std::nullopt;
  return entry->value;
}

constexpr auto kActions = std::to_array<Word<SeccompAction>>({
    {"SCMP_ACT_KILL", SeccompAction::kKillThread},
    {"SCMP_ACT_KILL_PROCESS", SeccompAction::kKillProcess},
    {"SCMP_ACT_KILL_THREAD", SeccompAction::kKillThread},
    {"SCMP_ACT_TRAP", SeccompAction::kTrap},
    {"SCMP_ACT_ERRNO", SeccompAction::kErrno},
    {"SCMP_ACT_TRACE", SeccompAction::kTrace},
    {"SCMP_ACT_ALLOW", SeccompAction::kAllow},
    {"SCMP_ACT_LOG", SeccompAction::kLog},
    {"SCMP_ACT_NOTIFY", SeccompAction::kNotify},
});

constexpr auto kOperators = std::to_array<Word<SeccompOperator>>({
    {"SCMP_CMP_NE", SeccompOperator::kNotEqual},
    {"SCMP_CMP_LT", SeccompOperator::kLess},
    {"SCMP_CMP_LE", SeccompOperator::kLessEqual},
    {"SCMP_CMP_EQ", SeccompOperator::kEqual},
    {"SCMP_CMP_GE", SeccompOperator::kGreaterEqual},
    {"SCMP_CMP_GT", SeccompOperator::kGreater},
    {"SCMP_CMP_MASKED_EQ", SeccompOperator::kMaskedEqual},
});

constexpr auto kFilterFlags = std::to_array<Word<std::uint32_t>>({
    {"SECCOMP_FILTER_FLAG_TSYNC", kSeccompTsync},
    {"SECCOMP_FILTER_FLAG_LOG", kSeccompLog},
    {"SECCOMP_FILTER_FLAG_SPEC_ALLOW", kSeccompSpecAllow},
    {"SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV", kSeccompWaitKillable},
});

}  // namespace

Result<std::vector<sock_filter>> compile(const SeccompProfile& profile) { return Compiler(profile).run(); }

std::uint32_t load_flags(const SeccompProfile& profile) {
  auto asks = [](const SeccompRule& rule) { return rule.action == SeccompAction::kNotify; };
  std::uint32_t flags = profile.flags;
  // TSYNC is left out: the process that loads the filter has one thread and executes next, and the kernel
  // refuses TSYNC together with a listener unless it is told how to report a thread (Linux 5.7).
  flags &= ~kSeccompTsync;
  if (std::ranges::any_of(profile.rules, asks) || std::ranges::any_of(profile.exceptions, asks)) {
    flags |= kSeccompNewListener;
  } else {
    flags &= ~kSeccompWaitKillable;  // EINVAL without a listener
  }
  return flags;
}

std::optional<SeccompAction> parse_seccomp_action(std::string_view word) { return look_up(kActions, word); }
std::optional<SeccompOperator> parse_seccomp_operator(std::string_view word) {
  return look_up(kOperators, word);
}
std::optional<std::uint32_t> parse_seccomp_flag(std::string_view word) { return look_up(kFilterFlags, word); }

std::optional<SeccompArchitecture> parse_seccomp_architecture(std::string_view word) {
  constexpr std::string_view prefix = "SCMP_ARCH_";
  if (!word.starts_with(prefix)) return std::nullopt;
  std::string name(word.substr(prefix.size()));
  for (char& letter : name)
    if (letter >= 'A' && letter <= 'Z') letter = static_cast<char>(letter - 'A' + 'a');
  std::uint32_t token = seccomp_arch_resolve_name(name.c_str());
  if (name == "native" || token == 0) return std::nullopt;
  return SeccompArchitecture{token};
}

}  // namespace fastdock::launch
