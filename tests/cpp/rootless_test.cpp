// The files of subordinate ids, as newuidmap(1) reads them.
#include <gtest/gtest.h>

#include <random>

#include "rootless/subordinate.h"

namespace fastdock::rootless {
namespace {

using Ranges = std::vector<IdRange>;

TEST(SubordinateRanges, AreFoundByNameAndByNumber) {
  constexpr auto kText = "other:1:2\nme:100000:65536\n1000:300000:10\nme:400000:1\n";
  EXPECT_EQ(subordinate_ranges(kText, "me", 1000), (Ranges{{100000, 65536}, {300000, 10}, {400000, 1}}));
  EXPECT_EQ(subordinate_ranges(kText, "", 1001), Ranges{});
}

TEST(SubordinateRanges, IgnoreWhatIsMalformedOrTooLarge) {
  for (const char* line :
       {"me", "me:", "me:1", "me::1", "me:x:1", "me:1:0", "me:-1:5", "me:1:-5", "me:4294967295:1",
        "me:4294967294:2", "me:1:4294967296", "me: 1:5", "menu:1:5", ":1:5", ""})
    EXPECT_EQ(subordinate_ranges(line, "me", 7), Ranges{}) << line;
  EXPECT_EQ(subordinate_ranges("me:4294967294:1", "me", 7), (Ranges{{4294967294, 1}}));
}

TEST(SubordinateRanges, BearAnyBytes) {
  std::mt19937 random(11);
  for (int round = 0; round < 2000; ++round) {
    std::string text;
    for (unsigned length = random() % 60; length > 0; --length)
      text += "me:0123456789\n\0\xff"[random() % 16];
    for (const IdRange& range : subordinate_ranges(text, "me", 0)) {
      EXPECT_GT(range.count, 0U);
      EXPECT_LE(std::uint64_t{range.first} + range.count - 1, 0xfffffffeU);
    }
  }
}

TEST(UserName, IsTheFirstOfThatNumber) {
  constexpr auto kText = "root:x:0:0::/root:/bin/sh\nbroken\nme:x:1000:1000:::\nalso:x:1000:1:::\n";
  EXPECT_EQ(user_name(kText, 1000), "me");
  EXPECT_EQ(user_name(kText, 5), "");
}

}  // namespace
}  // namespace fastdock::rootless
