// The ranges of user ids: whose they are, and what holding many costs.
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <set>

#include "launch/ids.h"

namespace fastdock::launch {
namespace {

class IdRanges : public testing::Test {
 protected:
  void SetUp() override { ASSERT_NE(::mkdtemp(directory_.data()), nullptr); }
  void TearDown() override {
    release_kept_ids();
    std::filesystem::remove_all(directory_);
  }

  [[nodiscard]] std::string directory() const { return directory_; }

 private:
  std::string directory_ = testing::TempDir() + "idsXXXXXX";
};

TEST_F(IdRanges, AreOneHoldersEach) {
  std::set<std::uint32_t> numbers;
  std::vector<std::unique_ptr<IdRange>> held;
  for (int i = 0; i < 300; ++i) {
    auto range = take_ids(directory(), directory() + "/reserved");
    ASSERT_TRUE(range.has_value());
    EXPECT_TRUE(numbers.insert((*range)->number()).second);
    EXPECT_EQ((*range)->first_id(), kFirstId + (*range)->number() * kIdsPerRange);
    held.push_back(*std::move(range));
  }
}

// In another process: how many ranges it can take while those of this one are held.
int taken_by_a_child(const std::string& directory, const std::string& reserved) {
  pid_t child = ::fork();
  if (child == 0) {
    std::vector<std::unique_ptr<IdRange>> held;
    for (auto range = take_ids(directory, reserved); range; range = take_ids(directory, reserved))
      held.push_back(*std::move(range));
    ::_exit(static_cast<int>(held.size()));
  }
  int status = 0;
  EXPECT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status));
  return WEXITSTATUS(status);
}

TEST_F(IdRanges, OfAnotherProcessAreTakenUntilItEnds) {
  std::string reserved = directory() + "/reserved";
  ASSERT_TRUE(std::filesystem::create_directory(reserved));
  for (std::uint32_t number = 0; number + 5 < kRanges; ++number)
    std::ofstream(reserved + "/" + std::to_string(number)) << "container";
  auto ours = take_ids(directory(), reserved);
  ASSERT_TRUE(ours.has_value());
  EXPECT_EQ(taken_by_a_child(directory(), reserved), 4);
  EXPECT_EQ(taken_by_a_child(directory(), reserved), 4);
  ours->reset();
  EXPECT_EQ(taken_by_a_child(directory(), reserved), 5);
}

TEST_F(IdRanges, ThatAreReservedAreNotTaken) {
  std::string reserved = directory() + "/reserved";
  std::uint32_t number = 0;
  {
    auto range = take_ids(directory(), reserved);
    ASSERT_TRUE(range.has_value());
    number = (*range)->number();
  }
  ASSERT_TRUE(std::filesystem::create_directory(reserved));
  std::ofstream(reserved + "/" + std::to_string(number)) << "container";
  auto next = take_ids(directory(), reserved);
  ASSERT_TRUE(next.has_value());
  EXPECT_NE((*next)->number(), number);
}

// Each child of a process closes its copies of all descriptors, and each close looks through the locks of its
// file (fs/locks.c, locks_remove_posix): with all locks on one file a start beside 1,000 containers took
// a million such looks.
TEST_F(IdRanges, AreSpreadOverFiles) {
  std::vector<std::unique_ptr<IdRange>> held;
  for (int i = 0; i < 512; ++i) {
    auto range = take_ids(directory(), directory() + "/reserved");
    ASSERT_TRUE(range.has_value());
    held.push_back(*std::move(range));
  }
  std::map<std::filesystem::path, int> locks;
  for (const auto& descriptor : std::filesystem::directory_iterator("/proc/self/fd")) {
    std::error_code gone;  // the directory's own descriptor
    auto file = std::filesystem::read_symlink(descriptor, gone);
    if (file.string().starts_with(directory())) ++locks[file];
  }
  EXPECT_GE(locks.size(), 32U);
  for (const auto& [file, count] : locks) EXPECT_LE(count, 16) << file;
}

TEST_F(IdRanges, MakeTheirFilesOnce) {
  auto range = take_ids(directory(), directory() + "/reserved");
  ASSERT_TRUE(range.has_value());
  auto count = [&] {
    std::filesystem::recursive_directory_iterator all(directory());
    return std::distance(begin(all), end(all));
  };
  auto before = count();
  auto another = take_ids(directory(), directory() + "/reserved");
  ASSERT_TRUE(another.has_value());
  EXPECT_EQ(count(), before);
}

}  // namespace
}  // namespace fastdock::launch
