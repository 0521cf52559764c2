#include "launch/capabilities.h"

#include <gtest/gtest.h>
#include <linux/capability.h>

namespace fastdock::launch {
namespace {

TEST(Capabilities, NamesAndNumbers) {
  for (int number = 0; number < kCapabilityCount; ++number)
    EXPECT_EQ(capability_number(capability_name(number)), number);
  for (const char* name : {"CAP_SYS_ADMIN", "sys_admin", "Sys_Admin", "cap_sys_admin"})
    EXPECT_EQ(capability_number(name), CAP_SYS_ADMIN) << name;
  for (const char* name : {"", "CAP_", "CAP_CAP_CHOWN", "CHOWN ", "CAPCHOWN", "ALL", "21"})
    EXPECT_EQ(capability_number(name), std::nullopt) << name;
  EXPECT_EQ(capability_name(-1), "");
  EXPECT_EQ(capability_name(kCapabilityCount), "");
}

TEST(Capabilities, Sets) {
  std::string unknown;
  EXPECT_EQ(parse_capabilities({}, nullptr), CapabilitySet{0});
  EXPECT_EQ(parse_capabilities({"all"}, nullptr), kAllCapabilities);
  EXPECT_EQ(parse_capabilities({"chown", "CAP_KILL", "chown"}, nullptr),
            capability_bit(CAP_CHOWN) | capability_bit(CAP_KILL));
  EXPECT_EQ(parse_capabilities({"chown", "CAP_NONSENSE", "x"}, &unknown), std::nullopt);
  EXPECT_EQ(unknown, "CAP_NONSENSE");
  EXPECT_EQ(capability_names(kDefaultCapabilities).size(), 14U) << "Docker's default";
  EXPECT_EQ(parse_capabilities(capability_names(kDefaultCapabilities), nullptr), kDefaultCapabilities);
}

TEST(Capabilities, OfThisMachine) {
  EXPECT_GE(last_capability(), CAP_AUDIT_READ);
  EXPECT_EQ(bounding_set() & ~kAllCapabilities, 0U);
  EXPECT_EQ(available_capabilities(kDefaultCapabilities) & ~kDefaultCapabilities, 0U);
}

}  // namespace
}  // namespace fastdock::launch
