// The D-Bus messages, against bytes that another implementation (dbus-fast) made: tests/fuzz/corpus.
#include <gtest/gtest.h>

#include <cerrno>
#include <string>

#include "base/path.h"
#include "dbus/connection.h"
#include "dbus/message.h"
#include "dbus/reader.h"
#include "oci/systemd_properties.h"

namespace fastdock::oci {
namespace {

std::string sample(const std::string& name) {
  return read_file(std::string(FASTDOCK_FUZZ_CORPUS "/dbus_message_fuzz/") + name).value();
}

TEST(Dbus, ACallIsTheBytesOfAnotherImplementation) {
  Properties properties;
  properties.text("Slice", "a.slice");
  properties.process_ids("PIDs", {42});
  properties.boolean("Delegate", true);
  properties.u64("MemoryMax", std::uint64_t{1} << 40);
  properties.bytes("AllowedCPUs", "\x05");
  properties.device_list("DeviceAllow", {{"char-*", "m"}});
  dbus::Writer body;
  body.text("p-n.scope").text("replace");
  properties.append_to(body);
  body.close_array(body.open_array(8));
  auto theirs = dbus::parse_message(sample("call"));
  ASSERT_TRUE(theirs);
  EXPECT_EQ(theirs->signature, "ssa(sv)a(sa(sv))");
  EXPECT_EQ(theirs->member, "StartTransientUnit");
  EXPECT_EQ(theirs->body, body.bytes());
  auto again = dbus::parse_message(dbus::to_bytes(*theirs));
  ASSERT_TRUE(again);
  EXPECT_EQ(again->body, theirs->body);
}

TEST(Dbus, SignalsAndErrorsAreRead) {
  auto signal = dbus::parse_message(sample("signal"));
  ASSERT_TRUE(signal);
  EXPECT_EQ(signal->type, dbus::MessageType::kSignal);
  dbus::Reader reader(signal->body);
  EXPECT_EQ(reader.u32(), 7U);
  EXPECT_EQ(reader.text(), "/org/freedesktop/systemd1/job/7");
  EXPECT_EQ(reader.text(), "a-b.scope");
  EXPECT_EQ(reader.text(), "done");
  auto error = dbus::parse_message(sample("error"));
  ASSERT_TRUE(error);
  EXPECT_EQ(error->error_name, "org.freedesktop.systemd1.UnitExists");
  EXPECT_EQ(error->error_text(), "Unit a.scope was already loaded");
  EXPECT_TRUE(dbus::parse_message(sample("return")));
}

TEST(Dbus, WhatIsCutOrTooLargeIsRefused) {
  for (const char* name : {"signal", "error", "return", "call"}) {
    std::string whole = sample(name);
    for (std::size_t size = 0; size < whole.size(); ++size)
      EXPECT_FALSE(dbus::parse_message(std::string_view(whole).substr(0, size))) << name << size;
    // Any one byte may be wrong: never more than an error.
    for (std::size_t at = 0; at < whole.size(); ++at) {
      std::string changed = whole;
      changed[at] = static_cast<char>(changed[at] ^ 0xFF);
      (void)dbus::parse_message(changed);
    }
    std::string huge = whole;
    huge[7] = 0x7F;
    EXPECT_FALSE(dbus::size_of_message(huge));
  }
}

TEST(Dbus, Addresses) {
  bool abstract = false;
  EXPECT_EQ(dbus::socket_of_address("unix:path=/run/a%20b,guid=1", abstract), "/run/a b");
  EXPECT_FALSE(abstract);
  EXPECT_EQ(dbus::socket_of_address("unix:guid=1,abstract=x", abstract), "x");
  EXPECT_TRUE(abstract);
  EXPECT_EQ(dbus::socket_of_address("tcp:host=a", abstract), "");
}

TEST(SystemdProperties, ScopePlaces) {
  auto place = scope_place("a-b-c.slice:cri:1", "id");
  ASSERT_TRUE(place);
  EXPECT_EQ(place->cgroup, "/a.slice/a-b.slice/a-b-c.slice/cri-1.scope");
  EXPECT_EQ(scope_place("", "id")->cgroup, "/system.slice/fastdock-id.scope");
  EXPECT_EQ(scope_place("-.slice:p:n", "id")->cgroup, "/p-n.scope");
  for (const char* bad : {"/a", "a:b", "a:b:c:d", "x:p:n", "a--b.slice:p:n", "-a.slice:p:n", "a/b.slice:p:n",
                          ".slice:p:n", "a.slice:p:../n", "a.slice:p:", "a.slice:p:n.slice", "a.slice:p:n'"})
    EXPECT_FALSE(scope_place(bad, "id")) << bad;
}

std::string annotated(const std::string& name, const std::string& value) {
  Properties properties;
  auto added = add_annotations({{"org.systemd.property." + name, value}, {"other", "x"}}, properties);
  return added ? properties.bytes_for_tests() : "refused";
}

TEST(SystemdProperties, Annotations) {
  Properties seven;
  seven.u64("TimeoutStopUSec", 7000000);
  for (const char* text : {"7", "uint64 7", "@t 7"})
    EXPECT_EQ(annotated("TimeoutStopSec", text), seven.bytes_for_tests()) << text;
  Properties text;
  text.text("CollectMode", "a'b\n");
  EXPECT_EQ(annotated("CollectMode", R"('a\'b\n')"), text.bytes_for_tests());
  Properties truth;
  truth.boolean("SendSIGHUP", true);
  EXPECT_EQ(annotated("SendSIGHUP", " true "), truth.bytes_for_tests());
  for (const char* bad : {"", "'a", "a", "uint16 65536", "-", "['a',]", "['a' 'b']", "[1]", "'a' 'b'", "0x"})
    EXPECT_EQ(annotated("Name", bad), "refused") << bad;
  EXPECT_EQ(annotated("Not-Letters", "true"), "refused");
  EXPECT_EQ(annotated("TimeoutStopSec", "-1"), "refused");
}

}  // namespace
}  // namespace fastdock::oci
