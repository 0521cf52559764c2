// What of the cgroup room is pure: parsers, conversions, the device program.  The kernel's part is
// tests/kernel/test_cgroup*.py.
#include <gtest/gtest.h>

#include <cerrno>
#include <random>

#include "base/path.h"
#include "cgroup/apply.h"
#include "cgroup/convert.h"
#include "cgroup/devices.h"
#include "cgroup/hierarchies.h"
#include "cgroup/parse.h"
#include "cgroup/tree.h"

namespace fastdock::cgroup {
namespace {

// ---------------------------------------------------------------- conversions

TEST(CgroupConvert, CpuSharesKeepMinimumDefaultAndMaximum) {
  EXPECT_EQ(cpu_weight(0), 1u);
  EXPECT_EQ(cpu_weight(2), 1u);
  EXPECT_EQ(cpu_weight(1024), 100u);  // the two defaults; the formula before runc 1.3.2 gave 39
  EXPECT_EQ(cpu_weight(262144), 10000u);
  EXPECT_EQ(cpu_weight(1u << 30), 10000u);
}

TEST(CgroupConvert, CpuWeightGrowsWithSharesAndStaysInRange) {
  std::uint64_t last = 0;
  for (std::uint64_t shares = 0; shares <= 262200; shares += 7) {
    std::uint64_t weight = cpu_weight(shares);
    EXPECT_GE(weight, std::max<std::uint64_t>(last, 1));
    EXPECT_LE(weight, 10000u);
    last = weight;
  }
}

TEST(CgroupConvert, IoWeight) {
  EXPECT_EQ(io_weight(10), 1u);
  EXPECT_EQ(io_weight(1000), 10000u);
  EXPECT_EQ(io_weight(0), 1u);
  EXPECT_EQ(io_weight(65535), 10000u);
}

TEST(CgroupConvert, SwapIsWhatIsLeftAfterMemory) {
  EXPECT_EQ(swap_alone(100, 300).value(), 200);
  EXPECT_EQ(swap_alone(100, 100).value(), 0);
  EXPECT_EQ(swap_alone(100, -1).value(), -1);
  EXPECT_EQ(swap_alone(-1, 300).value(), 300);
  auto refused = swap_alone(300, 100);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().hint, Hint::kSwapBelowMemory);
}

// ---------------------------------------------------------------- hierarchies

constexpr char kHybridMounts[] =
    "31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n"
    "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct\n"
    "35 31 0:32 / /sys/fs/cgroup/mem\\040ory rw,relatime - cgroup cgroup rw,memory\n"
    "35 31 0:32 / /second rw,relatime - cgroup cgroup rw,memory\n"
    "40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,name=systemd\n"
    "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n";

TEST(CgroupHierarchies, AHybridMachineIsV1) {
  Hierarchies found =
      Hierarchies::parse(kHybridMounts, "9:name=systemd:/a\n4:memory:/b:c\n1:cpu,cpuacct:/\n0::/d\n");
  EXPECT_EQ(found.version(), Version::kV1);
  ASSERT_EQ(found.all().size(), 4u) << "a second mount of the same hierarchy does not count";
  ASSERT_NE(found.unified(), nullptr);
  EXPECT_EQ(found.unified()->own, "/d");
  ASSERT_NE(found.of(Controller::kMemory), nullptr);
  EXPECT_EQ(found.of(Controller::kMemory)->mount_point, "/sys/fs/cgroup/mem ory");
  EXPECT_EQ(found.of(Controller::kMemory)->own, "/b:c");
  EXPECT_EQ(found.of(Controller::kCpu), found.of(Controller::kCpuacct));
  EXPECT_EQ(found.of(Controller::kPids), nullptr);
  EXPECT_EQ(found.all()[2].name, "systemd");
}

TEST(CgroupHierarchies, V2AloneIsV2AndSoIsV2BesideSystemdsNamedHierarchy) {
  constexpr char kMount[] = "41 31 0:38 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate\n";
  EXPECT_EQ(Hierarchies::parse(kMount, "0::/\n").version(), Version::kV2);
  std::string with_named =
      std::string(kMount) + "42 31 0:39 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n";
  EXPECT_EQ(Hierarchies::parse(with_named, "").version(), Version::kV2);
}

TEST(CgroupHierarchies, TheOwnCgroupIsRelativeToWhatTheMountShows) {
  // Inside a Docker container on v1 without a cgroup namespace.
  constexpr char kMount[] = "35 31 0:32 /docker/abc /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n";
  EXPECT_EQ(Hierarchies::parse(kMount, "4:memory:/docker/abc\n").all()[0].own, "");
  EXPECT_EQ(Hierarchies::parse(kMount, "4:memory:/docker/abc/x\n").all()[0].own, "/x");
  EXPECT_EQ(Hierarchies::parse(kMount, "4:memory:/docker/abcdef\n").all()[0].own, "");
  EXPECT_EQ(Hierarchies::parse(kMount, "4:memory:/../other\n").all()[0].own, "")
      << "outside of the namespace";
}

TEST(CgroupHierarchies, AMountOverAnotherIsWhatCounts) {
  // `unshare --cgroup --mount`, and a mount in the new namespace over the machine's.
  constexpr char kMounts[] =
      "41 31 0:38 /.. /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate\n"
      "52 41 0:38 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate\n";
  Hierarchies found = Hierarchies::parse(kMounts, "0::/init.scope\n");
  ASSERT_EQ(found.all().size(), 1u);
  EXPECT_EQ(found.unified()->own, "/init.scope");
}

TEST(CgroupHierarchies, PathsAreBelowTheBaseOrTheMountPoint) {
  Hierarchy hierarchy;
  hierarchy.mount_point = "/sys/fs/cgroup";
  hierarchy.base = "/sys/fs/cgroup/user.slice";
  EXPECT_EQ(directory_of(hierarchy, "fastdock/x"), "/sys/fs/cgroup/user.slice/fastdock/x");
  EXPECT_EQ(directory_of(hierarchy, "/kubepods/x"), "/sys/fs/cgroup/kubepods/x");
}

TEST(CgroupPath, LeadsNowhereElse) {
  for (const char* good : {"fastdock/abc", "/kubepods/burstable/pod1/x", "a", "a:b", "system.slice/x.scope"})
    EXPECT_TRUE(check_path(good)) << good;
  for (const char* bad : {"", "/", "//", "../x", "a/../b", "a/..", "./a", "a//b", "a/", "a\nb"})
    EXPECT_FALSE(check_path(bad)) << bad;
  EXPECT_FALSE(check_path(std::string_view("a\0b", 3)));
  EXPECT_FALSE(check_path(std::string(5000, 'a')));
}

// ---------------------------------------------------------------- parsers

TEST(CgroupParse, Numbers) {
  EXPECT_EQ(parse_number("42\n"), 42u);
  EXPECT_EQ(parse_number("max\n"), kNoLimit);
  EXPECT_EQ(parse_number("-1\n"), kNoLimit);
  EXPECT_EQ(parse_number("18446744073709551615"), kNoLimit);
  for (const char* bad : {"", "\n", "x", "1x", "-2", "18446744073709551616", "0x10"})
    EXPECT_EQ(parse_number(bad), std::nullopt) << bad;
}

TEST(CgroupParse, FlatKeyed) {
  Values values = parse_flat_keyed("usage_usec 12\nnr_periods 3\nbad\n\nlimit max\n");
  EXPECT_EQ(values.size(), 3u);
  EXPECT_EQ(value_of(values, "usage_usec"), 12u);
  EXPECT_EQ(value_of(values, "limit"), kNoLimit);
  EXPECT_EQ(value_of(values, "usage"), 0u) << "a prefix is another key";
}

TEST(CgroupParse, IoOfBothVersions) {
  auto v2 =
      parse_io_stat("8:0 rbytes=10 wbytes=20 rios=1 wios=2 dbytes=0 dios=0\n253:1 rbytes=5\nbad rbytes=1\n");
  ASSERT_EQ(v2.size(), 2u);
  EXPECT_EQ(v2[0].write_bytes, 20u);
  EXPECT_EQ(v2[1].major, 253u);
  EXPECT_EQ(v2[1].read_bytes, 5u);
  std::vector<DeviceIo> v1;
  parse_blkio("8:0 Read 4096\n8:0 Write 512\n8:0 Sync 9\n8:16 Read 1\nTotal 4609\n", true, v1);
  parse_blkio("8:0 Read 3\n8:16 Write 7\n", false, v1);
  ASSERT_EQ(v1.size(), 2u);
  EXPECT_EQ(v1[0].read_bytes, 4096u);
  EXPECT_EQ(v1[0].reads, 3u);
  EXPECT_EQ(v1[1].writes, 7u);
}

TEST(CgroupParse, Pressure) {
  auto pressure = parse_pressure(
      "some avg10=1.50 avg60=0.25 avg300=0.00 total=77\nfull avg10=0.10 avg60=0 avg300=0 total=5\n");
  ASSERT_TRUE(pressure);
  EXPECT_DOUBLE_EQ(pressure->some.avg10, 1.5);
  EXPECT_EQ(pressure->full.total_us, 5u);
  EXPECT_FALSE(parse_pressure(""));
}

TEST(CgroupParse, PidsKeepZeroAndDropNonsense) {
  EXPECT_EQ(parse_pids("1\n0\n-5\nx\n42"), (std::vector<pid_t>{1, 0, 42}));
}

// Whatever the text: no crash, no value out of nothing (sanitizers watch the asan preset).
TEST(CgroupParse, TakesAnyBytes) {
  std::mt19937 random(7);
  const std::string seeds[] = {kHybridMounts, "9:name=systemd:/a\n0::/d\n", "8:0 rbytes=10 Read 5\n",
                               "some avg10=1.5 total=77\n", "a 1\nb max\n"};
  for (int round = 0; round < 20000; ++round) {
    std::string text = seeds[random() % std::size(seeds)];
    for (unsigned changes = random() % 8; changes > 0 && !text.empty(); --changes) {
      std::size_t at = random() % text.size();
      if (random() % 3 == 0)
        text.erase(at, random() % 5);
      else
        text[at] = static_cast<char>(random() % 2 == 0 ? random() : ": =\n\\-/,"[random() % 8]);
    }
    std::vector<DeviceIo> devices;
    parse_blkio(text, true, devices);
    parse_io_stat(text);
    parse_pressure(text);
    parse_flat_keyed(text);
    for (pid_t pid : parse_pids(text)) EXPECT_GE(pid, 0);
    Hierarchies found = Hierarchies::parse(text, text);
    for (const Hierarchy& hierarchy : found.all()) EXPECT_FALSE(hierarchy.own.starts_with("/.."));
  }
}

TEST(CgroupParse, RoundTripsOfFlatKeyed) {
  std::mt19937_64 random(11);
  for (int round = 0; round < 2000; ++round) {
    Values values;
    std::string text;
    for (unsigned i = random() % 20; i > 0; --i) {
      values.emplace_back("key_" + std::to_string(random() % 1000), random() >> (random() % 64));
      text.append(values.back().first).append(" ").append(std::to_string(values.back().second)).append("\n");
    }
    EXPECT_EQ(parse_flat_keyed(text), values);
  }
}

// ---------------------------------------------------------------- limits

TEST(CgroupLimits, NeedTheirControllers) {
  EXPECT_TRUE(controllers_of({}).empty());
  Limits limits;
  limits.memory_swap = 1;
  limits.blkio_read_bps = {{8, 0, 1}};
  limits.unified = {{"hugetlb.2MB.max", "1"}, {"nonsense.max", "1"}};
  EXPECT_EQ(controllers_of(limits),
            (ControllerSet{Controller::kMemory, Controller::kIo, Controller::kHugetlb}));
}

TEST(CgroupLimits, UnifiedCannotNameFilesElsewhere) {
  for (const char* bad :
       {"../cgroup.procs", "cgroup.procs", "cgroup.kill", "memory.max/..", "", "memory", ".x", "a b.c"}) {
    Limits limits;
    limits.unified = {{bad, "1"}};
    EXPECT_FALSE(check(limits, Version::kV2)) << bad;
  }
  Limits limits;
  limits.unified = {{"memory.high", "1000000"}};
  EXPECT_TRUE(check(limits, Version::kV2));
  auto on_v1 = check(limits, Version::kV1);
  ASSERT_FALSE(on_v1);
  EXPECT_EQ(on_v1.error().hint, Hint::kNotOnThisCgroupVersion);
}

TEST(CgroupLimits, MalformedOnesAreRefusedBeforeAnythingIsMade) {
  auto refuses = [](auto&& set) {
    Limits limits;
    set(limits);
    return !check(limits, Version::kV1);
  };
  EXPECT_TRUE(refuses([](Limits& l) { l.devices = {{'x', 1, 3, "r", true}}; }));
  EXPECT_TRUE(refuses([](Limits& l) { l.devices = {{'c', 1, 3, "rx", true}}; }));
  EXPECT_TRUE(refuses([](Limits& l) { l.devices = {{'c', 1, 3, "", true}}; }));
  EXPECT_TRUE(refuses([](Limits& l) { l.hugetlb = {{"2MB/../../x", 1}}; }));
  EXPECT_TRUE(refuses([](Limits& l) { l.rdma = {{"dev ice", 1, 1}}; }));
  EXPECT_TRUE(refuses([](Limits& l) { l.network_priorities = {{"eth0\neth1", 1}}; }));
  EXPECT_TRUE(refuses([](Limits& l) { l.cpuset_cpus = ""; }));
  EXPECT_TRUE(refuses([](Limits& l) { l.memory = 200, l.memory_swap = 100; }));
  EXPECT_FALSE(refuses([](Limits& l) { l.memory = 200, l.memory_swap = -1; }));
}

// A directory of plain files stands in for the kernel's: what is written can be read.
class CgroupFiles : public testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/fastdock-cgroup-XXXXXX";
    ASSERT_NE(::mkdtemp(name), nullptr);
    path_ = name;
  }
  void TearDown() override { EXPECT_TRUE(remove_tree(AT_FDCWD, path_)); }
  void have(const std::string& file, const std::string& text = "") {
    Fd fd = open_file(path_ + "/" + file, O_WRONLY | O_CREAT, 0600).value();
    ASSERT_EQ(::write(fd.get(), text.data(), text.size()), static_cast<ssize_t>(text.size()));
  }
  std::string text(const std::string& file) { return read_file(path_ + "/" + file).value_or("(none)"); }

  std::string path_;
  Warnings warnings_;
};

TEST_F(CgroupFiles, V2Values) {
  for (const char* file :
       {"memory.max", "memory.swap.max", "memory.low", "cpu.weight", "cpu.max", "io.max", "io.weight"})
    have(file);
  have("memory.current", "0");
  Limits limits;
  limits.memory = 1000;
  limits.memory_swap = 3000;
  limits.memory_reservation = 500;
  limits.cpu_shares = 1024;
  limits.cpu_quota = 25000;
  limits.cpu_period = 50000;
  limits.blkio_weight = 1000;
  limits.blkio_write_iops = {{8, 16, 77}};
  Files files(path_);
  for (Controller controller : {Controller::kMemory, Controller::kCpu, Controller::kIo})
    ASSERT_TRUE(apply_v2(controller, files, limits, warnings_));
  EXPECT_EQ(text("memory.max"), "1000");
  EXPECT_EQ(text("memory.swap.max"), "2000");
  EXPECT_EQ(text("memory.low"), "500");
  EXPECT_EQ(text("cpu.weight"), "100");
  EXPECT_EQ(text("cpu.max"), "25000 50000");
  EXPECT_EQ(text("io.weight"), "10000");
  EXPECT_EQ(text("io.max"), "8:16 wiops=77");
  EXPECT_TRUE(warnings_.empty());
}

TEST_F(CgroupFiles, ALonePeriodKeepsTheQuota) {
  have("cpu.max", "max 100000\n");
  Limits limits;
  limits.cpu_period = 20000;
  ASSERT_TRUE(apply_v2(Controller::kCpu, Files(path_), limits, warnings_));
  EXPECT_TRUE(text("cpu.max").starts_with("max 20000"));
}

TEST_F(CgroupFiles, WithoutSwapAccountingMemoryIsStillLimited) {
  have("memory.limit_in_bytes");
  Limits limits;
  limits.memory = 1000;
  limits.memory_swap = 3000;
  ASSERT_TRUE(apply_v1(Controller::kMemory, Files(path_), limits, warnings_));
  EXPECT_EQ(text("memory.limit_in_bytes"), "1000");
  EXPECT_EQ(warnings_.size(), 1u);
}

TEST_F(CgroupFiles, AMissingFileNamesTheLimit) {
  Limits limits;
  limits.pids = 5;
  auto result = apply_v2(Controller::kPids, Files(path_), limits, warnings_);
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().number, ENOENT);
  EXPECT_EQ(result.error().path, "pids.max=5");
  EXPECT_EQ(result.error().hint, Hint::kControllerAbsent);
}

TEST_F(CgroupFiles, AnUpdateThatFailsHalfWayIsTakenBack) {
  have("cpu.weight", "55");
  Journal journal;
  Files files(path_, &journal);
  Limits limits;
  limits.cpu_shares = 2;
  limits.cpu_quota = 1000;  // there is no cpu.max here
  ASSERT_FALSE(apply_v2(Controller::kCpu, files, limits, warnings_));
  EXPECT_NE(text("cpu.weight"), "55");
  journal.take_back();
  EXPECT_EQ(text("cpu.weight"), "55");
}

// ---------------------------------------------------------------- devices

TEST(CgroupDevices, LinesOfV1) {
  EXPECT_EQ(device_file_lines({}), std::vector<std::string>{"a"});
  EXPECT_EQ(device_file_lines({'c', 1, 3, "rwm", true}), std::vector<std::string>{"c 1:3 rwm"});
  EXPECT_EQ(device_file_lines({'b', 8, std::nullopt, "r", true}), std::vector<std::string>{"b 8:* r"});
  EXPECT_EQ(device_file_lines({'a', std::nullopt, std::nullopt, "m", true}),
            (std::vector<std::string>{"b *:* m", "c *:* m"}));
}

// Runs the few instructions that device_program() uses.
int run(const std::vector<bpf_insn>& program, const bpf_cgroup_dev_ctx& context) {
  std::uint64_t r[11] = {};
  for (std::size_t at = 0; at < program.size(); ++at) {
    const bpf_insn& insn = program[at];
    auto value = static_cast<std::uint32_t>(insn.imm);
    switch (insn.code) {
      case BPF_LDX | BPF_MEM | BPF_W:
        r[insn.dst_reg] = insn.off == 0 ? context.access_type : insn.off == 4 ? context.major : context.minor;
        break;
      case BPF_ALU | BPF_MOV | BPF_X:
        r[insn.dst_reg] = static_cast<std::uint32_t>(r[insn.src_reg]);
        break;
      case BPF_ALU | BPF_AND | BPF_K:
        r[insn.dst_reg] = static_cast<std::uint32_t>(r[insn.dst_reg]) & value;
        break;
      case BPF_ALU | BPF_RSH | BPF_K:
        r[insn.dst_reg] = static_cast<std::uint32_t>(r[insn.dst_reg]) >> value;
        break;
      case BPF_ALU64 | BPF_MOV | BPF_K:
        r[insn.dst_reg] = value;
        break;
      case BPF_JMP32 | BPF_JNE | BPF_K:
        if (static_cast<std::uint32_t>(r[insn.dst_reg]) != value) at += static_cast<std::size_t>(insn.off);
        break;
      case BPF_JMP32 | BPF_JEQ | BPF_K:
        if (static_cast<std::uint32_t>(r[insn.dst_reg]) == value) at += static_cast<std::size_t>(insn.off);
        break;
      case BPF_JMP | BPF_EXIT:
        return static_cast<int>(r[0]);
      default:
        ADD_FAILURE() << "instruction " << int{insn.code};
        return -1;
    }
  }
  ADD_FAILURE() << "ran off the end";
  return -1;
}

// The meaning, said plainly: for each requested access the last rule that matches decides.
bool allows(const std::vector<DeviceRule>& rules, char type, std::uint32_t major, std::uint32_t minor,
            const std::string& access) {
  for (char each : access) {
    bool allowed = false;
    for (const DeviceRule& rule : rules)
      if ((rule.type == 'a' || rule.type == type) && rule.major.value_or(major) == major &&
          rule.minor.value_or(minor) == minor && rule.access.find(each) != std::string::npos)
        allowed = rule.allow;
    if (!allowed) return false;
  }
  return true;
}

bool program_allows(const std::vector<DeviceRule>& rules, char type, std::uint32_t major, std::uint32_t minor,
                    const std::string& access) {
  std::uint32_t bits = 0;
  for (char c : access) bits |= c == 'm' ? 1u : c == 'r' ? 2u : 4u;
  return run(device_program(rules), {bits << 16 | (type == 'b' ? 1u : 2u), major, minor}) == 1;
}

TEST(CgroupDevices, TheProgramMeansTheRules) {
  std::mt19937 random(3);
  const std::string accesses[] = {"r", "w", "m", "rw", "rm", "wm", "rwm"};
  auto number = [&]() -> std::optional<std::uint32_t> {
    if (random() % 3 == 0) return std::nullopt;
    return random() % 8 == 0 ? 0xfffffffeu : random() % 3;
  };
  for (int round = 0; round < 20000; ++round) {
    std::vector<DeviceRule> rules;
    for (unsigned i = random() % 6; i > 0; --i)
      rules.push_back({"abc"[random() % 3], number(), number(), accesses[random() % 7], random() % 2 == 0});
    char type = "bc"[random() % 2];
    std::uint32_t major = number().value_or(1), minor = number().value_or(1);
    const std::string& access = accesses[random() % 7];
    EXPECT_EQ(program_allows(rules, type, major, minor, access), allows(rules, type, major, minor, access));
  }
}

TEST(CgroupDevices, ReadAndWriteFromTwoRulesAreReadWrite) {
  std::vector<DeviceRule> rules{{'a', {}, {}, "rwm", false}, {'c', 1, 3, "r", true}, {'c', 1, 3, "w", true}};
  EXPECT_TRUE(program_allows(rules, 'c', 1, 3, "rw"));
  EXPECT_FALSE(program_allows(rules, 'c', 1, 3, "rwm"));
  EXPECT_FALSE(program_allows(rules, 'c', 1, 5, "r"));
  EXPECT_FALSE(program_allows({}, 'c', 1, 3, "r")) << "what no rule allows is denied";
}

}  // namespace
}  // namespace fastdock::cgroup
