#include "launch/seccomp_cache.h"

#include <gtest/gtest.h>
#include <linux/seccomp.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <thread>

#include "base/blake2b.h"
#include "base/path.h"

namespace fastdock::launch {
namespace {

namespace fs = std::filesystem;
using Program = std::vector<sock_filter>;

const Program kProgram = {{BPF_LD | BPF_W | BPF_ABS, 0, 0, 0},
                          {BPF_JMP | BPF_JEQ | BPF_K, 0, 1, 39},
                          {BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ERRNO | 1},
                          {BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ALLOW}};

bool same(const Program& a, const Program& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(sock_filter)) == 0;
}

class SeccompCache : public testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/fastdock-cache-XXXXXX";
    ASSERT_NE(::mkdtemp(name), nullptr);
    root_ = name;
    directory_ = root_ + "/seccomp";
  }
  void TearDown() override { EXPECT_TRUE(remove_tree(AT_FDCWD, root_)); }

  // Whether the program had to be compiled.
  bool compiles(std::string_view key = "key") {
    bool called = false;
    auto program = cached_program(directory_, std::as_bytes(std::span(key)), [&]() -> Result<Program> {
      called = true;
      return kProgram;
    });
    EXPECT_TRUE(program && same(*program, kProgram));
    return called;
  }

  std::string only_file() {
    std::vector<std::string> names;
    for (const auto& entry : fs::directory_iterator(directory_)) names.push_back(entry.path());
    EXPECT_EQ(names.size(), 1U);
    return names.empty() ? "" : names.front();
  }

  std::string root_, directory_;
};

TEST_F(SeccompCache, KeepsAProgramForItsKey) {
  EXPECT_TRUE(compiles());
  EXPECT_FALSE(compiles());
  EXPECT_TRUE(compiles("another key"));
  EXPECT_FALSE(compiles("another key"));
  EXPECT_FALSE(compiles());
  for (const auto& entry : fs::directory_iterator(directory_))
    EXPECT_EQ(entry.status().permissions(), fs::perms(0600)) << entry.path();
  EXPECT_EQ(fs::status(directory_).permissions(), fs::perms(0700));
}

TEST_F(SeccompCache, AFileWithAnyBitChangedIsMadeAnew) {
  compiles();
  const std::string file = only_file();
  const std::string good = read_file(file).value();
  for (std::size_t i = 0; i < good.size(); ++i) {
    std::string bad = good;
    bad[i] = static_cast<char>(bad[i] ^ (1 << i % 8));
    std::ofstream(file, std::ios::binary) << bad;
    ASSERT_TRUE(compiles()) << "byte " << i;
    ASSERT_FALSE(compiles()) << "and is good again";
  }
}

TEST_F(SeccompCache, AFileOfAnyOtherLengthIsMadeAnew) {
  compiles();
  const std::string file = only_file();
  const std::string good = read_file(file).value();
  for (std::size_t length = 0; length < good.size(); ++length) {
    fs::resize_file(file, length);
    ASSERT_TRUE(compiles()) << length << " bytes";
  }
  std::ofstream(file, std::ios::app) << "more";
  EXPECT_TRUE(compiles());
  fs::resize_file(file, std::uintmax_t{1} << 40);
  EXPECT_TRUE(compiles()) << "a terabyte";
}

TEST_F(SeccompCache, AnotherKeysFileIsNotTaken) {
  compiles();
  const std::string first = only_file();
  const std::string content = read_file(first).value();
  fs::remove(first);
  compiles("another key");
  std::ofstream(only_file(), std::ios::binary) << content;
  EXPECT_TRUE(compiles("another key"));
}

TEST_F(SeccompCache, FilesThatOthersCouldHaveWrittenAreNotTaken) {
  compiles();
  const std::string file = only_file();
  for (mode_t mode : {0644, 0620, 0602, 0400, 04600}) {
    ASSERT_EQ(::chmod(file.c_str(), mode), 0);
    EXPECT_TRUE(compiles()) << mode;
  }
  fs::create_hard_link(file, root_ + "/other name");
  EXPECT_TRUE(compiles()) << "a second name, by which it can still be changed";
  fs::remove(root_ + "/other name");
  EXPECT_FALSE(compiles());
  if (::geteuid() == 0) {
    ASSERT_EQ(::chown(file.c_str(), 1, 1), 0);
    EXPECT_TRUE(compiles()) << "another owner";
  }
}

TEST_F(SeccompCache, LinksAndPipesInPlaceOfTheFileAreReplaced) {
  compiles();
  const std::string file = only_file();
  fs::rename(file, root_ + "/moved");
  fs::create_symlink(root_ + "/moved", file);
  EXPECT_TRUE(compiles());
  EXPECT_FALSE(fs::is_symlink(file));
  fs::remove(file);
  ASSERT_EQ(::mkfifo(file.c_str(), 0600), 0);
  EXPECT_TRUE(compiles()) << "and does not wait for a writer";
  EXPECT_FALSE(compiles());
}

TEST_F(SeccompCache, ADirectoryThatOthersCanReachIsNotUsed) {
  ASSERT_EQ(::mkdir(directory_.c_str(), 0700), 0);
  ASSERT_EQ(::chmod(directory_.c_str(), 0755), 0);
  EXPECT_TRUE(compiles());
  EXPECT_TRUE(compiles());
  EXPECT_TRUE(fs::is_empty(directory_)) << "nothing is left there";
  fs::rename(directory_, root_ + "/real");
  ASSERT_EQ(::chmod((root_ + "/real").c_str(), 0700), 0);
  fs::create_directory_symlink(root_ + "/real", directory_);
  EXPECT_TRUE(compiles());
  EXPECT_TRUE(compiles()) << "a link is not a directory";
}

TEST_F(SeccompCache, AnErrorOfTheCompilerIsNotKept) {
  auto fail = [] { return Result<Program>(failed_with(EINVAL, Operation::kCompileSeccomp, "x")); };
  std::string_view key = "key";
  EXPECT_FALSE(cached_program(directory_, std::as_bytes(std::span(key)), fail));
  EXPECT_TRUE(compiles());
}

TEST_F(SeccompCache, ManyAtOnceLeaveOneFile) {
  std::vector<std::jthread> threads;
  for (int i = 0; i < 8; ++i) threads.emplace_back([this] { compiles(); });
  threads.clear();
  EXPECT_FALSE(compiles());
  only_file();
}

TEST_F(SeccompCache, TheDefaultProfileComesBackAsCompiled) {
  const Program compiled = compile(default_profile(kDefaultCapabilities, false)).value();
  EXPECT_TRUE(same(cached_default_program(directory_, kDefaultCapabilities, false).value(), compiled));
  EXPECT_TRUE(same(cached_default_program(directory_, kDefaultCapabilities, false).value(), compiled));
  EXPECT_FALSE(same(cached_default_program(directory_, kAllCapabilities, false).value(), compiled));
  EXPECT_FALSE(same(cached_default_program(directory_, kDefaultCapabilities, true).value(), compiled));
}

// The digests of Python's hashlib.blake2b(…, digest_size=32).
TEST(Blake2b, IsRfc7693s) {
  auto digest = [](std::string_view text) {
    Blake2b hash;
    hash.update(text);
    return hex(hash.finish());
  };
  EXPECT_EQ(digest(""), "0e5751c026e543b2e8ab2eb06099daa1d1e5df47778f7787faab45cdf12fe3a8");
  EXPECT_EQ(digest("abc"), "bddd813c634239723171ef3fee98579b94964e3bb1cb3e427262c8c068d52319");
  const std::string block(128, 'x');
  EXPECT_EQ(digest(block), "164ffb7089bae6f5a62fb0795e751dc9e88eac92e1a5b2fafe93a25abf2d9c3b");
  EXPECT_EQ(digest(block + "y"), "b49893a95644b2323d4008660fcd51b527e8348769c087b36ecc4e35184051a8");
  Blake2b in_parts;
  for (char c : block + "y") in_parts.update(std::string_view(&c, 1));
  EXPECT_EQ(hex(in_parts.finish()), digest(block + "y"));
}

}  // namespace
}  // namespace fastdock::launch
