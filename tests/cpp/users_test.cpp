#include "launch/users.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "base/path.h"

namespace fastdock::launch {
namespace {

// A file in memory, read in pieces of a given size.
struct Memory {
  std::string text;
  std::size_t piece = 4096;
  std::size_t position = 0;
  long error_at_end = 0;

  ByteSource source() {
    auto read = [](void* context, char* buffer, std::size_t size) -> long {
      auto& self = *static_cast<Memory*>(context);
      const std::size_t count = std::min({size, self.piece, self.text.size() - self.position});
      if (count == 0) return self.error_at_end;
      std::memcpy(buffer, self.text.data() + self.position, count);
      self.position += count;
      return static_cast<long>(count);
    };
    return {read, this};
  }
};

struct Answer {
  long error = 0;
  UserProblem problem = UserProblem::kNone;
  std::uint32_t uid = 0, gid = 0;
  std::vector<std::uint32_t> groups;
  std::string home;
};

Answer resolve(std::string_view specification, std::string passwd, std::string group,
               std::size_t piece = 4096) {
  auto user = std::make_unique<ResolvedUser>();
  Memory users{std::move(passwd), piece};
  Memory groups{std::move(group), piece};
  Answer answer;
  answer.error = resolve_user(specification, users.source(), groups.source(), *user);
  answer.problem = user->problem;
  if (answer.error != 0) return answer;
  answer.uid = user->uid;
  answer.gid = user->gid;
  answer.groups.assign(user->groups, user->groups + user->group_count);
  answer.home = user->home;
  return answer;
}

const std::string kPasswd =
    "root:x:0:0:root:/root:/bin/bash\n"
    "daemon:*:1:1::/usr/sbin:\n"
    "\n"
    "# a comment: not:a:user\n"
    "www:x:33:33:Web,,,:/var/www:/usr/sbin/nologin\n"
    "www:x:34:34::/second:/bin/sh\n"
    "42:x:7:8::/seven:/bin/sh\n"
    "short:x:50:50\n"
    "homeless:x:51:51::\n"
    "last:x:4294967294:60::/last:/bin/sh";

const std::string kGroup =
    "root:x:0:\n"
    "www:x:33:\n"
    "disk:x:6:www,root\n"
    "audio:x:29:daemon,www\n"
    "www:x:35:www\n"
    "prefix:x:70:www2,2www,ww\n"
    "staff:x:50:last,,www";

using Groups = std::vector<std::uint32_t>;

TEST(Users, AsDockerUnderstandsThem) {
  // The pieces of a read must not matter.
  for (std::size_t piece : {1, 2, 3, 7, 64, 4096}) {
    auto user = [&](std::string_view text) { return resolve(text, kPasswd, kGroup, piece); };
    auto root = user("");
    EXPECT_EQ(root.error, 0);
    EXPECT_EQ(root.home, "/root");
    EXPECT_EQ(root.groups, (Groups{0, 6})) << "the groups that list root, as Docker does";
    auto www = user("www");
    EXPECT_EQ(www.uid, 33U);
    EXPECT_EQ(www.gid, 33U);
    EXPECT_EQ(www.home, "/var/www") << "the first line counts";
    EXPECT_EQ(www.groups, (Groups{33, 6, 29, 35, 50}));
    EXPECT_EQ(user("33").groups, www.groups) << "by number as by name";
    auto with_group = user("www:audio");
    EXPECT_EQ(with_group.gid, 29U);
    EXPECT_EQ(with_group.groups, (Groups{29})) << "a group of one's choice comes alone";
    EXPECT_EQ(with_group.home, "/var/www");
    auto stranger = user("1000:2000");
    EXPECT_EQ(stranger.uid, 1000U);
    EXPECT_EQ(stranger.gid, 2000U);
    EXPECT_EQ(stranger.home, "/");
    EXPECT_EQ(user("1000").gid, 0U);
    EXPECT_EQ(user("1000").groups, (Groups{0}));
    EXPECT_EQ(user("1000:audio").gid, 29U);
    EXPECT_EQ(user(":audio").gid, 29U);
    EXPECT_EQ(user("www:").groups, www.groups);
    EXPECT_EQ(user("42").uid, 42U) << "digits are a number, even if they are a name";
    EXPECT_EQ(user("42").gid, 0U);
    EXPECT_EQ(user("short").home, "/");
    EXPECT_EQ(user("homeless").home, "/");
    EXPECT_EQ(user("last").uid, 4294967294U) << "a last line without a newline";
    EXPECT_EQ(user("last").groups, (Groups{60, 50}));
  }
}

TEST(Users, UnknownNamesAreErrorsThatSayWhich) {
  EXPECT_EQ(resolve("nobody", kPasswd, kGroup).error, -ENOENT);
  EXPECT_EQ(resolve("nobody", kPasswd, kGroup).problem, UserProblem::kUser);
  EXPECT_EQ(resolve("www:nogroup", kPasswd, kGroup).error, -ENOENT);
  EXPECT_EQ(resolve("www:nogroup", kPasswd, kGroup).problem, UserProblem::kGroup);
  EXPECT_EQ(resolve("ww", kPasswd, kGroup).error, -ENOENT);
  EXPECT_EQ(resolve("WWW", kPasswd, kGroup).error, -ENOENT);
  EXPECT_EQ(resolve("www", "", "").error, -ENOENT);
  EXPECT_EQ(resolve("5", "", "").uid, 5U) << "an image without the files";
}

// CVE-2024-40635: containerd took 4294967296 for 0.
TEST(Users, NumbersThatAreNoIdsAreRefused) {
  for (const char* text :
       {"4294967295", "4294967296", "18446744073709551616", "99999999999999999999999999"}) {
    EXPECT_EQ(resolve(text, kPasswd, kGroup).error, -ERANGE) << text;
    EXPECT_EQ(resolve(std::string("0:") + text, kPasswd, kGroup).error, -ERANGE) << text;
  }
  for (const char* text : {"-1", "+5", " 5", "5 ", "0x5", "5.0", "1e3", "५"})
    EXPECT_EQ(resolve(text, kPasswd, kGroup).error, -ENOENT) << text << " is a name, and nobody's";
  EXPECT_EQ(resolve("4294967294:4294967294", kPasswd, kGroup).gid, 4294967294U);
  EXPECT_EQ(resolve("007", kPasswd, kGroup).uid, 7U);
}

TEST(Users, ALineWithoutGoodIdsIsNobody) {
  for (const char* ids : {":0", "0:", "-1:0", "0:-1", "x:0", "4294967295:0", "0:4294967296", " 0:0", "0 :0",
                          "+0:0", "00000000000:0"}) {
    const std::string passwd = std::string("evil:x:") + ids + "::/:/bin/sh\ngood:x:5:6::/good:\n";
    EXPECT_EQ(resolve("evil", passwd, "").error, -ENOENT) << ids;
    EXPECT_EQ(resolve("good", passwd, "").gid, 6U) << ids;
    EXPECT_EQ(resolve("u:evil", "u:x:1:1::/:", "evil:x:-1:\nevil:x::u\nevil\n").error, -ENOENT);
  }
}

TEST(Users, ControlCharactersAreRefused) {
  using namespace std::literals;
  for (auto text : {"a\nb"sv, "a\0"sv, "\0"sv, "a:b\n"sv, "a:\x7f"sv, "\t"sv, "1\n"sv})
    EXPECT_EQ(resolve(text, kPasswd, kGroup).error, -EINVAL);
  // A NUL in the file is a byte of a field: what stands before it is not a name of its own.
  const std::string passwd = "ro\0ot:x:0:0::/:\nroot\0:x:0:0::/:\nx:x:9:9::/:\n"s;
  EXPECT_EQ(resolve("root", passwd, "").error, -ENOENT);
  EXPECT_EQ(resolve("ro", passwd, "").error, -ENOENT);
  EXPECT_EQ(resolve("x", passwd, "").uid, 9U);
}

// CVE-2022-4318: a newline in HOME became a line of the container's /etc/passwd.
TEST(Users, AHomeWithControlCharactersIsRefused) {
  using namespace std::string_literals;
  for (const std::string& home : {"/a\rb"s, "/\x1b[2J"s, "/a\0b"s, "/\x7f"s, "\t"s}) {
    auto answer = resolve("u", "u:x:1:1::" + home + ":/bin/sh\n", "");
    EXPECT_EQ(answer.error, -EINVAL);
    EXPECT_EQ(answer.problem, UserProblem::kHome);
  }
  EXPECT_EQ(resolve("u", "u:x:1:1::/häuser/ü:\n", "").home, "/häuser/ü");
}

TEST(Users, HugeLinesAreSkippedOrRefusedButNeverCut) {
  const std::string huge(1 << 20, 'a');
  EXPECT_EQ(resolve("u", huge + ":x:0:0::/:\nu:x:1:1::/:\n", "").uid, 1U);
  EXPECT_EQ(resolve("u", "u:x:" + std::string(1 << 20, '0') + ":0::/:\nu:x:1:1::/:\n", "").uid, 1U);
  EXPECT_EQ(resolve(huge, "a:x:0:0::/:\n", "").error, -ENOENT);
  EXPECT_EQ(resolve("u", "u:" + huge + ":1:1:" + huge + ":/h:" + huge, "").home, "/h");
  auto answer = resolve("u", "u:x:1:1::/" + std::string(5000, 'h') + ":", "");
  EXPECT_EQ(answer.error, -ENAMETOOLONG);
  EXPECT_EQ(answer.problem, UserProblem::kHome);
  EXPECT_EQ(resolve("u", "u:x:1:1::/" + std::string(4094, 'h') + ":", "").home.size(), 4095U);
  std::string members;
  for (int i = 0; i < 20000; ++i) members.append("m").append(std::to_string(i)).append(",");
  EXPECT_EQ(resolve("m19999", "m19999:x:1:1::/:", "big:x:9:" + members).groups, (Groups{1, 9}));
  EXPECT_EQ(resolve("u", "u:x:1:1::/:", "big:x:9:" + huge + ",u").groups, (Groups{1, 9}));
}

TEST(Users, FilesWithoutEndAndTooManyGroupsAreRefused) {
  EXPECT_EQ(resolve("u", std::string(kMaxAccountFile + 1, '\n'), "").error, -EFBIG);
  std::string group;
  for (int i = 1; i < 2000; ++i) group.append("g:x:").append(std::to_string(i)).append(":u\n");
  auto answer = resolve("u", "u:x:1:5000::/:", group);
  EXPECT_EQ(answer.error, -E2BIG);
  EXPECT_EQ(answer.problem, UserProblem::kGroup);
}

TEST(Users, AReadErrorIsReported) {
  auto user = std::make_unique<ResolvedUser>();
  Memory broken{"a:x:1:1::/:\n", 5, 0, -EIO};
  EXPECT_EQ(resolve_user("b", broken.source(), {}, *user), -EIO);
  Memory middle{"b:x:1:1::/ho", 5, 0, -EIO};
  EXPECT_EQ(resolve_user("b", middle.source(), {}, *user), -EIO) << "half a home is none";
  Memory group{"g:x:1:a", 5, 0, -EIO};
  EXPECT_EQ(resolve_user("1:h", {}, group.source(), *user), -EIO);
}

TEST(Users, GroupsByNameAndNumber) {
  std::uint32_t gid = 0;
  auto find = [&](std::string_view text) {
    Memory group{kGroup};
    return resolve_group(text, group.source(), gid);
  };
  EXPECT_EQ(find("audio"), 0);
  EXPECT_EQ(gid, 29U);
  EXPECT_EQ(find("999"), 0);
  EXPECT_EQ(gid, 999U);
  EXPECT_EQ(find("nope"), -ENOENT);
  EXPECT_EQ(find(""), -EINVAL);
  EXPECT_EQ(find("4294967295"), -ERANGE);
}

TEST(Users, OnlyARegularFileBelowTheRootIsOpened) {
  char name[] = "/tmp/fastdock-users-XXXXXX";
  ASSERT_NE(::mkdtemp(name), nullptr);
  const std::string path = name;
  Fd root = open_file(path, O_RDONLY | O_DIRECTORY).value();
  EXPECT_EQ(open_account_file(root.get(), "etc/passwd"), -ENOENT);
  ASSERT_EQ(::mkdir((path + "/etc").c_str(), 0755), 0);
  ASSERT_EQ(::symlink("/etc/passwd", (path + "/outside").c_str()), 0);
  EXPECT_EQ(open_account_file(root.get(), "outside"), -ENOENT) << "the link means the image's own file";
  std::ofstream(path + "/etc/passwd") << "inside:x:5:6::/in:\n";
  for (const char* file : {"etc/passwd", "outside"}) {
    Fd opened(open_account_file(root.get(), file));
    ASSERT_TRUE(opened);
    const int fd = opened.get();
    auto user = std::make_unique<ResolvedUser>();
    EXPECT_EQ(resolve_user("inside", descriptor_source(fd), {}, *user), 0);
    EXPECT_EQ(user->gid, 6U);
  }
  ASSERT_EQ(::mkfifo((path + "/fifo").c_str(), 0600), 0);
  EXPECT_EQ(open_account_file(root.get(), "fifo"), -EINVAL) << "and does not wait for a writer";
  EXPECT_EQ(open_account_file(root.get(), "etc"), -EINVAL);
  EXPECT_TRUE(remove_tree(AT_FDCWD, path));
}

// Whatever the bytes are, an answer is a line of the file: its name and its ids, as a plain parser sees them.
TEST(Users, RandomFilesAgreeWithAPlainParser) {
  std::mt19937 random(7);
  const std::string alphabet = "ab01:,\n\n::";
  for (int round = 0; round < 20000; ++round) {
    std::string passwd(random() % 60, ' ');
    for (char& c : passwd) c = alphabet[random() % alphabet.size()];
    Answer wanted{-ENOENT, UserProblem::kUser, 0, 0, {}, ""};
    for (std::size_t start = 0; start < passwd.size();) {
      const std::size_t end = std::min(passwd.find('\n', start), passwd.size());
      std::vector<std::string> fields(1);
      for (char c : passwd.substr(start, end - start)) {
        if (c == ':') {
          fields.emplace_back();
        } else {
          fields.back() += c;
        }
      }
      start = end + 1;
      std::uint32_t uid = 0;
      std::uint32_t gid = 0;
      if (fields.size() < 4 || fields[0] != "a" || fields[2].size() > 10 || fields[3].size() > 10 ||
          parse_id(fields[2], uid) != IdSyntax::kNumber || parse_id(fields[3], gid) != IdSyntax::kNumber)
        continue;
      wanted = {
          0, UserProblem::kNone, uid, gid, {gid}, fields.size() > 5 && !fields[5].empty() ? fields[5] : "/"};
      break;
    }
    const Answer got = resolve("a", passwd, "", 1 + random() % 8);
    ASSERT_EQ(got.error, wanted.error) << passwd;
    ASSERT_EQ(got.uid, wanted.uid) << passwd;
    ASSERT_EQ(got.gid, wanted.gid) << passwd;
    ASSERT_EQ(got.home, wanted.home) << passwd;
  }
}

}  // namespace
}  // namespace fastdock::launch
