#include "cgroup/devices.h"

#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <optional>

#include "base/path.h"

namespace fastdock::cgroup {
namespace {

// Registers of the program.
constexpr std::uint8_t kResult = BPF_REG_0, kContext = BPF_REG_1, kType = BPF_REG_2, kAccess = BPF_REG_3,
                       kMajor = BPF_REG_4, kMinor = BPF_REG_5, kScratch = BPF_REG_6;

constexpr bpf_insn instruction(int code, std::uint8_t to, std::uint8_t from, int offset, std::int32_t value) {
  bpf_insn insn{};
  insn.code = static_cast<std::uint8_t>(code);
  insn.dst_reg = to & 0xf;
  insn.src_reg = from & 0xf;
  insn.off = static_cast<std::int16_t>(offset);
  insn.imm = value;
  return insn;
}
constexpr bpf_insn load(std::uint8_t to, std::size_t offset) {
  return instruction(BPF_LDX | BPF_MEM | BPF_W, to, kContext, static_cast<int>(offset), 0);
}
constexpr bpf_insn calculate(int operation, std::uint8_t to, std::int32_t value) {
  return instruction(BPF_ALU | operation | BPF_K, to, 0, 0, value);
}
constexpr bpf_insn copy(std::uint8_t to, std::uint8_t from) {
  return instruction(BPF_ALU | BPF_MOV | BPF_X, to, from, 0, 0);
}
// Skips `count` instructions where the register compares so; 32 bits wide (JMP32 is there since 5.1).
constexpr bpf_insn skip_if(int comparison, std::uint8_t reg, std::uint32_t value, std::size_t count) {
  return instruction(BPF_JMP32 | comparison | BPF_K, reg, 0, static_cast<int>(count),
                     static_cast<std::int32_t>(value));
}
constexpr std::array<bpf_insn, 2> answer(int value) {
  return {instruction(BPF_ALU64 | BPF_MOV | BPF_K, kResult, 0, 0, value),
          instruction(BPF_JMP | BPF_EXIT, 0, 0, 0, 0)};
}

std::int32_t access_bits(const std::string& access) {
  std::int32_t bits = 0;
  for (char c : access) {
    if (c == 'm') bits |= BPF_DEVCG_ACC_MKNOD;
    if (c == 'r') bits |= BPF_DEVCG_ACC_READ;
    if (c == 'w') bits |= BPF_DEVCG_ACC_WRITE;
  }
  return bits;
}

bool is_everything(const DeviceRule& rule) {
  constexpr std::int32_t kAll = BPF_DEVCG_ACC_MKNOD | BPF_DEVCG_ACC_READ | BPF_DEVCG_ACC_WRITE;
  return rule.type == 'a' && !rule.major && !rule.minor && access_bits(rule.access) == kAll;
}

// kAccess holds the accesses that no later rule has decided.  An allowing rule takes its own away and
// answers yes when none is left; a denying rule answers no if it holds one of them.
void add_rule(std::vector<bpf_insn>& program, const DeviceRule& rule) {
  std::vector<bpf_insn> body;
  std::int32_t bits = access_bits(rule.access);
  if (rule.allow) {
    body.push_back(calculate(BPF_AND, kAccess, ~bits));
    body.push_back(skip_if(BPF_JNE, kAccess, 0, 2));
  } else {
    body.push_back(copy(kScratch, kAccess));
    body.push_back(calculate(BPF_AND, kScratch, bits));
    body.push_back(skip_if(BPF_JEQ, kScratch, 0, 2));
  }
  for (const bpf_insn& insn : answer(rule.allow ? 1 : 0)) body.push_back(insn);

  struct Condition {
    std::uint8_t reg;
    std::uint32_t value;
  };
  std::vector<Condition> conditions;
  if (rule.type == 'b') conditions.push_back({kType, BPF_DEVCG_DEV_BLOCK});
  if (rule.type == 'c') conditions.push_back({kType, BPF_DEVCG_DEV_CHAR});
  if (rule.major) conditions.push_back({kMajor, *rule.major});
  if (rule.minor) conditions.push_back({kMinor, *rule.minor});
  for (std::size_t i = 0; i < conditions.size(); ++i)
    program.push_back(
        skip_if(BPF_JNE, conditions[i].reg, conditions[i].value, body.size() + conditions.size() - i - 1));
  program.insert(program.end(), body.begin(), body.end());
}

long bpf(int command, bpf_attr& attributes) {
  return ::syscall(SYS_bpf, command, &attributes, sizeof attributes);
}

Result<Fd> load_program(const std::string& directory, const std::vector<bpf_insn>& program) {
  bpf_attr attributes{};
  attributes.prog_type = BPF_PROG_TYPE_CGROUP_DEVICE;
  attributes.insns = reinterpret_cast<std::uint64_t>(program.data());
  attributes.insn_cnt = static_cast<std::uint32_t>(program.size());
  attributes.license = reinterpret_cast<std::uint64_t>("");
  auto fd = static_cast<int>(bpf(BPF_PROG_LOAD, attributes));
  if (fd < 0)
    return failed(Operation::kLoadDeviceProgram, directory, errno == EPERM ? Hint::kNeedsRoot : Hint::kNone);
  return Fd(fd);
}

// The programs that are attached to this cgroup itself.
Result<std::vector<Fd>> attached_programs(int directory, const std::string& path) {
  std::array<std::uint32_t, 64> ids{};  // the kernel attaches at most 64 (BPF_CGROUP_MAX_PROGS)
  bpf_attr attributes{};
  attributes.query.target_fd = static_cast<std::uint32_t>(directory);
  attributes.query.attach_type = BPF_CGROUP_DEVICE;
  attributes.query.prog_ids = reinterpret_cast<std::uint64_t>(ids.data());
  attributes.query.prog_cnt = ids.size();
  if (bpf(BPF_PROG_QUERY, attributes) != 0) return failed(Operation::kLoadDeviceProgram, path);
  std::vector<Fd> programs;
  for (std::uint32_t i = 0; i < attributes.query.prog_cnt; ++i) {
    bpf_attr by_id{};
    by_id.prog_id = ids.at(i);
    auto fd = static_cast<int>(bpf(BPF_PROG_GET_FD_BY_ID, by_id));
    if (fd >= 0)
      programs.emplace_back(fd);
    else if (errno != ENOENT)
      return failed(Operation::kLoadDeviceProgram, path);
  }
  return programs;
}

long attach(int directory, const Fd& program, const Fd* replaced) {
  bpf_attr attributes{};
  attributes.target_fd = static_cast<std::uint32_t>(directory);
  attributes.attach_bpf_fd = static_cast<std::uint32_t>(program.get());
  attributes.attach_type = BPF_CGROUP_DEVICE;
  // ALLOW_MULTI, so that a container that manages cgroups itself can add programs below.
  attributes.attach_flags = BPF_F_ALLOW_MULTI;
  if (replaced != nullptr) {
    attributes.attach_flags |= BPF_F_REPLACE;
    attributes.replace_bpf_fd = static_cast<std::uint32_t>(replaced->get());
  }
  return bpf(BPF_PROG_ATTACH, attributes);
}

}  // namespace

std::vector<std::string> device_file_lines(const DeviceRule& rule) {
  auto number = [](const std::optional<std::uint32_t>& value) {
    return value ? std::to_string(*value) : "*";
  };
  // The kernel takes "a" for every device and access, whatever follows it (devcgroup_update_access).
  if (is_everything(rule)) return {"a"};
  std::vector<std::string> lines;
  for (char type : {'b', 'c'}) {
    if (rule.type != 'a' && rule.type != type) continue;
    std::string line(1, type);
    line.append(" ").append(number(rule.major)).append(":").append(number(rule.minor));
    lines.push_back(line.append(" ").append(rule.access));
  }
  return lines;
}

Result<void> apply_device_files(const Files& files, const std::vector<DeviceRule>& rules) {
  // One line a write; the file stays open for the next.
  std::string_view open;
  Fd file;
  for (const DeviceRule& rule : rules) {
    const std::string_view name = rule.allow ? "devices.allow" : "devices.deny";
    if (name != open) {
      // Where it cannot be, set_keyed() says so, in a limit's words.
      file = open_file(files.path(name), O_WRONLY).value_or(Fd());
      open = name;
    }
    for (const std::string& line : device_file_lines(rule))
      if (!file || ::write(file.get(), line.data(), line.size()) < 0)
        FASTDOCK_CHECK(files.set_keyed(name, line));
  }
  return {};
}

std::vector<bpf_insn> device_program(const std::vector<DeviceRule>& rules) {
  // struct bpf_cgroup_dev_ctx: access in the upper half of its first word, type in the lower.
  std::vector<bpf_insn> program{
      load(kType, offsetof(bpf_cgroup_dev_ctx, access_type)),
      copy(kAccess, kType),
      calculate(BPF_AND, kType, 0xffff),
      calculate(BPF_RSH, kAccess, 16),
      load(kMajor, offsetof(bpf_cgroup_dev_ctx, major)),
      load(kMinor, offsetof(bpf_cgroup_dev_ctx, minor)),
  };
  for (auto rule = rules.rbegin(); rule != rules.rend(); ++rule) {
    add_rule(program, *rule);
    // What comes before a rule for everything can never decide.
    if (is_everything(*rule)) break;
  }
  for (const bpf_insn& insn : answer(0)) program.push_back(insn);
  return program;
}

Result<void> attach_device_program(const std::string& directory, const std::vector<DeviceRule>& rules) {
  if (rules.empty()) return {};
  FASTDOCK_TRY(Fd cgroup, open_file(directory, O_RDONLY | O_DIRECTORY));
  FASTDOCK_TRY(Fd program, load_program(directory, device_program(rules)));
  FASTDOCK_TRY(std::vector<Fd> old, attached_programs(cgroup.get(), directory));
  // One old program is replaced at once; of several, the new one joins them first: at no moment is more
  // allowed than before and after (all attached programs must say yes).
  if (attach(cgroup.get(), program, old.size() == 1 ? &old.front() : nullptr) != 0)
    return failed(Operation::kLoadDeviceProgram, directory);
  if (old.size() < 2) return {};
  for (const Fd& each : old) {
    bpf_attr attributes{};
    attributes.target_fd = static_cast<std::uint32_t>(cgroup.get());
    attributes.attach_bpf_fd = static_cast<std::uint32_t>(each.get());
    attributes.attach_type = BPF_CGROUP_DEVICE;
    if (bpf(BPF_PROG_DETACH, attributes) != 0) return failed(Operation::kLoadDeviceProgram, directory);
  }
  return {};
}

}  // namespace fastdock::cgroup
