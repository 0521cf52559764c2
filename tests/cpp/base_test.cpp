#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>

#include "base/descriptors.h"
#include "base/error.h"
#include "base/path.h"

namespace fastdock {
namespace {

class Base : public testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/fastdock-base-XXXXXX";
    ASSERT_NE(::mkdtemp(name), nullptr);
    path_ = name;
    directory_ = open_file(path_, O_RDONLY | O_DIRECTORY).value();
  }
  void TearDown() override { EXPECT_TRUE(remove_tree(AT_FDCWD, path_)); }

  std::string path_;
  Fd directory_;
};

TEST(Error, SaysWhatOnWhatWhyAndWhatToDo) {
  Error error{ENOENT, Operation::kExecute, "/bin/nope", Hint::kProgramMissing};
  EXPECT_EQ(describe(error),
            "cannot execute /bin/nope: No such file or directory (no such program in the container; "
            "check the name, the image and PATH)");
}

TEST_F(Base, ALinkOutOfTheRootStaysInside) {
  ASSERT_EQ(::symlink("/etc/hostname", (path_ + "/link").c_str()), 0);
  auto opened = open_in_root(directory_.get(), "link", O_RDONLY);
  ASSERT_FALSE(opened);
  EXPECT_EQ(opened.error().number, ENOENT);
  EXPECT_FALSE(open_beneath(directory_.get(), "../etc", O_RDONLY));
}

TEST_F(Base, RemoveTreeDoesNotFollowLinks) {
  ASSERT_TRUE(make_directories(path_ + "/tree/deep/er"));
  ASSERT_TRUE(make_directories(path_ + "/kept"));
  ASSERT_EQ(::symlink((path_ + "/kept").c_str(), (path_ + "/tree/link").c_str()), 0);
  EXPECT_TRUE(remove_tree(directory_.get(), "tree"));
  struct stat status{};
  EXPECT_EQ(::stat((path_ + "/kept").c_str(), &status), 0);
  EXPECT_NE(::stat((path_ + "/tree").c_str(), &status), 0);
  EXPECT_TRUE(remove_tree(directory_.get(), "tree")) << "removing what is gone is success";
}

TEST_F(Base, WriteFileNeverCreates) {
  auto written = write_file(path_ + "/none", "x");
  ASSERT_FALSE(written);
  EXPECT_EQ(written.error().operation, Operation::kOpenFile);
}

TEST(Descriptors, OneThatTheKernelClosesIsClosed) {
  std::array<int, 2> ends{};
  ASSERT_EQ(::pipe2(ends.data(), O_CLOEXEC), 0);
  Fd reader(ends[0]);
  close_in_kernel(Fd(ends[1]));
  char byte = 0;
  EXPECT_EQ(::read(reader.get(), &byte, 1), 0);  // the end of the pipe, once nobody can write to it
}

}  // namespace
}  // namespace fastdock
