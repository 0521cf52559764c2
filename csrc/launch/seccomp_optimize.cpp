#include "launch/seccomp_optimize.h"

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <utility>
#include <vector>

#include "launch/bpf.h"

namespace fastdock::launch {
namespace {

// Bit 30 tells x32 from x86-64; within a quarter of the numbers it does not change.
constexpr std::uint32_t kQuarter = 0x40000000;

bool is_conditional(const sock_filter& instruction) {
  return BPF_CLASS(instruction.code) == BPF_JMP && instruction.code != kJump;
}

bool holds(const sock_filter& jump, std::uint32_t value) {
  switch (BPF_OP(jump.code)) {
    case BPF_JEQ:
      return value == jump.k;
    case BPF_JGT:
      return value > jump.k;
    case BPF_JGE:
      return value >= jump.k;
    default:
      return (value & jump.k) != 0;
  }
}

bool same(const BpfProgram& a, const BpfProgram& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(sock_filter)) == 0;
}

// The program, as it is for one architecture and one number.
class Specializer {
 public:
  Specializer(const BpfProgram& program, std::uint32_t architecture, std::uint32_t number)
      : program_(program), architecture_(architecture), number_(number) {}

  // What is left of it; nothing where it cannot be followed.
  std::optional<BpfProgram> run() {
    const std::size_t start = settle(0, Holds::kNothing);
    collect(start);
    if (failed_) return std::nullopt;
    return emit();
  }

  // The architectures that this one was compared with.
  [[nodiscard]] const std::set<std::uint32_t>& compared() const { return compared_; }

 private:
  // What the accumulator holds.
  enum class Holds : std::uint8_t { kNothing, kNumber, kArchitecture, kArgument };

  // Goes on from `at` through everything that is decided, to the next instruction that is not.
  std::size_t settle(std::size_t at, Holds accumulator) {
    while (true) {
      const sock_filter& instruction = program_[at];
      if (instruction.code == kReturn) return at;
      if (instruction.code == kJump) {
        at += 1 + instruction.k;
      } else if (instruction.code == kLoad) {
        if (instruction.k != kNumberOffset && instruction.k != kArchitectureOffset) return at;
        accumulator = instruction.k == kNumberOffset ? Holds::kNumber : Holds::kArchitecture;
        ++at;
      } else if (accumulator == Holds::kArgument) {
        return at;
      } else if (is_conditional(instruction) && can_decide(instruction, accumulator)) {
        const bool taken = holds(instruction, accumulator == Holds::kNumber ? number_ : architecture_);
        at += 1U + (taken ? instruction.jt : instruction.jf);
      } else {
        failed_ = true;
        return program_.size() - 1;  // a return
      }
    }
  }

  bool can_decide(const sock_filter& jump, Holds accumulator) {
    if (accumulator == Holds::kArchitecture) {
      compared_.insert(jump.k);
      return jump.code == kIfEqual;
    }
    if (accumulator != Holds::kNumber) return false;
    return jump.code != kIfAnySet || jump.k % kQuarter == 0;
  }

  // Remembers every instruction that may be reached, with where it leads; jumps go forward only.
  void collect(std::size_t start) {
    std::set<std::size_t> open{start};
    while (!open.empty() && !failed_) {
      const std::size_t at = *open.begin();
      open.erase(open.begin());
      const sock_filter& instruction = program_[at];
      Next next{};
      if (is_conditional(instruction)) {
        next = {settle(at + 1 + instruction.jt, Holds::kArgument),
                settle(at + 1 + instruction.jf, Holds::kArgument)};
      } else if (instruction.code != kReturn) {
        next = {settle(at + 1, Holds::kArgument), 0};
      }
      kept_.emplace(at, next);
      if (next.first != 0) open.insert(next.first);
      if (next.second != 0) open.insert(next.second);
    }
  }

  std::optional<BpfProgram> emit() {
    // Where each one comes to stand; a jump follows those that do not lead to their neighbour.
    std::map<std::size_t, std::size_t> places;
    std::size_t place = 0;
    for (auto it = kept_.begin(); it != kept_.end(); ++it) {
      places[it->first] = place;
      place += needs_jump(it) ? 2 : 1;
    }
    BpfProgram code;
    for (auto it = kept_.begin(); it != kept_.end(); ++it) {
      sock_filter instruction = program_[it->first];
      const std::size_t here = code.size() + 1;
      if (is_conditional(instruction)) {
        const std::size_t yes = places[it->second.first] - here;
        const std::size_t no = places[it->second.second] - here;
        if (yes > 255 || no > 255) return std::nullopt;
        instruction.jt = static_cast<std::uint8_t>(yes);
        instruction.jf = static_cast<std::uint8_t>(no);
      }
      code.push_back(instruction);
      if (needs_jump(it))
        code.push_back(statement(kJump, static_cast<std::uint32_t>(places[it->second.first] - here - 1)));
    }
    return code;
  }

  struct Next {
    std::size_t first, second;  // 0: none
  };
  using Kept = std::map<std::size_t, Next>;

  [[nodiscard]] bool needs_jump(Kept::const_iterator it) const {
    const sock_filter& instruction = program_[it->first];
    if (is_conditional(instruction) || instruction.code == kReturn) return false;
    return std::next(it) == kept_.end() || std::next(it)->first != it->second.first;
  }

  const BpfProgram& program_;
  std::uint32_t architecture_, number_;
  bool failed_ = false;
  std::set<std::uint32_t> compared_;
  Kept kept_;
};

// Numbers from `first` on do the same.
struct Range {
  std::uint32_t first;
  BpfProgram code;
};

class Optimizer {
 public:
  explicit Optimizer(const BpfProgram& program) : program_(program) {
    for (std::uint32_t quarter = 0; quarter < 4; ++quarter) firsts_.insert(quarter * kQuarter);
    for (const sock_filter& instruction : program)
      if (is_conditional(instruction)) {
        firsts_.insert(instruction.k);
        if (instruction.k != 0xffffffff) firsts_.insert(instruction.k + 1);
      }
  }

  std::optional<BpfProgram> run() {
    // Any value that the program does not know will do for "all other architectures".
    std::uint32_t other = 1;
    while (firsts_.contains(other)) ++other;
    auto others = ranges(other);
    if (!others) return std::nullopt;
    BpfProgram code{statement(kLoad, kArchitectureOffset)};
    const std::set<std::uint32_t> architectures = compared_;
    for (std::uint32_t architecture : architectures) {
      auto own = ranges(architecture);
      if (!own) return std::nullopt;
      BpfProgram tree = search(*own);
      code.push_back({kIfEqual, 0, 1, architecture});
      code.push_back(statement(kJump, 0));
      jumps_.push_back({code.size() - 1, trees_.size()});
      trees_.push_back(std::move(tree));
    }
    append(code, search(*others));
    for (std::size_t i = 0; i < trees_.size(); ++i) {
      code[jumps_[i].first].k = static_cast<std::uint32_t>(code.size() - jumps_[i].first - 1);
      append(code, trees_[i]);
    }
    return code;
  }

 private:
  static void append(BpfProgram& code, const BpfProgram& more) {
    code.insert(code.end(), more.begin(), more.end());
  }

  std::optional<std::vector<Range>> ranges(std::uint32_t architecture) {
    std::vector<Range> list;
    for (std::uint32_t first : firsts_) {
      Specializer specializer(program_, architecture, first);
      auto code = specializer.run();
      if (!code) return std::nullopt;
      compared_.insert(specializer.compared().begin(), specializer.compared().end());
      if (list.empty() || !same(list.back().code, *code)) list.push_back({first, std::move(*code)});
    }
    return list;
  }

  // The accumulator holds anything.
  static BpfProgram search(const std::vector<Range>& list) {
    if (list.size() == 1) return list.front().code;
    BpfProgram code{statement(kLoad, kNumberOffset)};
    append(code, search(std::span(list)));
    return code;
  }

  // The accumulator holds the number.
  static BpfProgram search(std::span<const Range> list) {
    constexpr std::size_t kReachable = 100;  // with as many ends, all within 255 instructions
    if (list.size() <= kReachable) return small_search(list);
    const std::size_t middle = list.size() / 2;
    BpfProgram smaller = search(list.first(middle));
    BpfProgram code{{kIfGreaterEqual, 0, 1, list[middle].first},
                    statement(kJump, static_cast<std::uint32_t>(smaller.size()))};
    append(code, smaller);
    append(code, search(list.subspan(middle)));
    return code;
  }

  // A tree of comparisons, then one end for each different piece of code: a return, or a jump to what is
  // longer.
  static BpfProgram small_search(std::span<const Range> list) {
    BpfProgram code;
    std::vector<std::pair<std::size_t, const BpfProgram*>> targets[2];  // of jt and of jf: where, and to what
    add_nodes(code, list, targets);
    std::vector<const BpfProgram*> ends;
    for (const Range& range : list)
      if (std::ranges::none_of(ends, [&](auto* end) { return same(*end, range.code); }))
        ends.push_back(&range.code);
    const std::size_t nodes = code.size();
    for (int side : {0, 1}) {
      for (auto [at, wanted] : targets[side]) {
        const auto end = std::ranges::find_if(ends, [&](auto* each) { return same(*each, *wanted); });
        const auto place = nodes + static_cast<std::size_t>(end - ends.begin());
        (side == 0 ? code[at].jt : code[at].jf) = static_cast<std::uint8_t>(place - at - 1);
      }
    }
    std::size_t behind = nodes + ends.size();
    for (const BpfProgram* end : ends) {
      if (end->size() == 1) {
        code.push_back(end->front());
      } else {
        code.push_back(statement(kJump, static_cast<std::uint32_t>(behind - code.size() - 1)));
        behind += end->size();
      }
    }
    for (const BpfProgram* end : ends)
      if (end->size() > 1) append(code, *end);
    return code;
  }

  static void add_nodes(BpfProgram& code, std::span<const Range> list,
                        std::vector<std::pair<std::size_t, const BpfProgram*>> (&targets)[2]) {
    if (list.size() < 2) return;
    const std::size_t middle = list.size() / 2;
    const std::size_t at = code.size();
    code.push_back({kIfGreaterEqual, 0, 0, list[middle].first});
    const auto smaller = list.first(middle);
    const auto larger = list.subspan(middle);
    if (smaller.size() == 1) targets[1].emplace_back(at, &smaller.front().code);
    add_nodes(code, smaller, targets);
    if (larger.size() == 1) {
      targets[0].emplace_back(at, &larger.front().code);
    } else {
      code[at].jt = static_cast<std::uint8_t>(code.size() - at - 1);
    }
    add_nodes(code, larger, targets);
  }

  const BpfProgram& program_;
  std::set<std::uint32_t> firsts_;
  std::set<std::uint32_t> compared_;
  std::vector<BpfProgram> trees_;
  std::vector<std::pair<std::size_t, std::size_t>> jumps_;
};

}  // namespace

BpfProgram optimized(const BpfProgram& program) {
  auto better = Optimizer(program).run();
  if (!better || better->size() >= program.size() || !is_seccomp_program(*better)) return program;
  return std::move(*better);
}

}  // namespace fastdock::launch
