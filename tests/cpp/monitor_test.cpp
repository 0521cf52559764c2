// What of the monitor needs no container: its JSON, its log files, and the bytes that ask it for things.
#include <dirent.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cstdlib>
#include <random>
#include <string>

#include "base/path.h"
#include "launch/wire.h"
#include "monitor/events.h"
#include "monitor/json.h"
#include "monitor/log.h"
#include "monitor/request.h"
#include "monitor/state.h"

namespace fastdock::monitor {
namespace {

std::string escaped(std::string_view text) {
  std::string out;
  append_escaped(out, text);
  return out;
}

TEST(MonitorJson, EscapesAsGoDoes) {
  EXPECT_EQ(escaped("a\"b\\c\n\r\t\x01<>&"), R"(a\"b\\c\n\r\u0009\u0001\u003c\u003e\u0026)");
  EXPECT_EQ(escaped("äöü€𝄞"), "äöü€𝄞");
  EXPECT_EQ(escaped("\xE2\x80\xA8\xE2\x80\xA9"), R"(\u2028\u2029)");
  EXPECT_EQ(escaped(std::string("\0x", 2)), R"(\u0000x)");
}

TEST(MonitorJson, WhatIsNotUtf8IsReplacedByteByByte) {
  for (const char* bad : {"\xff", "\xc0\x80", "\xed\xa0\x80", "\xf5\x80\x80\x80", "\xe2\x82", "\x80"}) {
    std::string out;
    EXPECT_FALSE(append_escaped(out, bad)) << bad;
    EXPECT_NE(out.find("\\ufffd"), std::string::npos);
  }
  EXPECT_EQ(escaped("a\xff"
                    "b"),
            "a\\ufffdb");
}

TEST(MonitorJson, TimesHaveNoTrailingZeros) {
  EXPECT_EQ(time_text({0, 0}), "1970-01-01T00:00:00Z");
  EXPECT_EQ(time_text({951782400, 500000000}), "2000-02-29T00:00:00.5Z");
  EXPECT_EQ(time_text({4102444799, 1}), "2099-12-31T23:59:59.000000001Z");
}

TEST(MonitorJson, TimesAreThoseOfTheCLibrary) {
  std::mt19937_64 random(1);
  for (int i = 0; i < 20000; ++i) {
    timespec time{static_cast<time_t>(random() % 100000000000ULL), 0};
    tm parts{};
    ::gmtime_r(&time.tv_sec, &parts);
    char text[64];
    std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &parts);
    ASSERT_EQ(time_text(time), text);
  }
}

TEST(MonitorJson, Base64) {
  for (auto [bytes, text] :
       {std::pair("", ""), {"f", "Zg=="}, {"fo", "Zm8="}, {"foo", "Zm9v"}, {"foob", "Zm9vYg=="}}) {
    std::string out;
    append_base64(out, bytes);
    EXPECT_EQ(out, text);
  }
}

class MonitorFiles : public testing::Test {
 protected:
  void SetUp() override {
    char pattern[] = "/tmp/fastdock-monitor-XXXXXX";
    directory_ = ::mkdtemp(pattern);
  }
  void TearDown() override { (void)remove_tree(AT_FDCWD, directory_); }
  std::string content(const std::string& name) { return read_file(directory_ + "/" + name).value_or(""); }

  std::string directory_;
};

TEST_F(MonitorFiles, LogSplitsAndJoinsLines) {
  LogOptions options;
  options.path = directory_ + "/log";
  Log log(options);
  log.write(Stream::kOutput, "first ");
  log.write(Stream::kErrors, "other\n");
  log.write(Stream::kOutput, "line\nsecond\nrest");
  log.finish();
  std::string text = content("log");
  std::vector<std::string> starts = {
      R"({"log":"other\n","stream":"stderr","time":")", R"({"log":"first line\n","stream":"stdout")",
      R"({"log":"second\n","stream":"stdout")", R"({"log":"rest","stream":"stdout")"};
  std::size_t at = 0;
  for (const std::string& start : starts) {
    EXPECT_EQ(text.substr(at, start.size()), start);
    at = text.find('\n', at) + 1;
  }
  EXPECT_EQ(at, text.size());
}

TEST_F(MonitorFiles, LogKeepsItsSize) {
  LogOptions options;
  options.path = directory_ + "/log";
  options.maximum_size = 4096;
  options.maximum_files = 3;
  Log log(options);
  for (int i = 0; i < 1000; ++i) log.write(Stream::kOutput, "line " + std::to_string(i) + "\n");
  for (const char* name : {"log", "log.1", "log.2"}) {
    EXPECT_LE(content(name).size(), 4096u);
    EXPECT_GT(content(name).size(), 0u);
  }
  EXPECT_EQ(content("log.3"), "");
  EXPECT_NE(content("log").find("line 999"), std::string::npos);
}

TEST_F(MonitorFiles, LogSurvivesAFullDisk) {
  LogOptions options;
  options.path = "/dev/full";
  Log log(options);
  for (int i = 0; i < 100; ++i) log.write(Stream::kOutput, "lost\n");
  log.finish();
}

TEST_F(MonitorFiles, StateIsReplacedAtOnce) {
  State state;
  state.error = "a \"quoted\" error";
  state.health = HealthState{};
  ASSERT_TRUE(write_state(directory_, to_json(state), true));
  EXPECT_NE(content("state.json").find(R"("error":"a \"quoted\" error")"), std::string::npos);
  EXPECT_NE(content("state.json").find(R"("health":{"status":"starting","failing_streak":0,"log":[]})"),
            std::string::npos);
  EXPECT_EQ(content("state.json.new"), "");
}

TEST_F(MonitorFiles, EventsAreLines) {
  ASSERT_TRUE(append_event(directory_, {"container", "start", "id", {{"image", "i"}, {"a\"b", "c\nd"}}}));
  ASSERT_TRUE(append_event(directory_, {"volume", "create", "name", {}}));
  std::string text = content("events");
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 2);
  EXPECT_NE(text.find(R"("Action":"start","Actor":{"ID":"id","Attributes":{"image":"i","a\"b":"c\nd"}})"),
            std::string::npos);
}

Request full_request() {
  Request request;
  request.files = {{"hosts", "127.0.0.1\tlocalhost\n"}};
  request.places = {"/state", "/run", "parent"};
  request.id = std::string(64, 'a');
  request.attributes = {{"image", "x"}, {"name", "y"}};
  request.plan.argv = {"sh", "-c", "true"};
  request.plan.mounts.resize(3);
  request.limits.memory = 5;
  request.limits.cpuset_cpus = "0-1";
  request.limits.devices = {{'c', 1, std::nullopt, "rw", true}};
  request.limits.unified = {{"memory.high", "1"}};
  request.restart = {RestartPolicy::kOnFailure, 3};
  request.health = HealthCheck{};
  request.health->probe.argv = {"probe"};
  request.network.emplace();
  request.network->endpoints.resize(2);
  request.network->firewall.ports.resize(1);
  request.ids = 9;
  return request;
}

TEST(MonitorRequest, ComesBackAsItWas) {
  std::string bytes = to_bytes(full_request());
  auto back = from_bytes(bytes);
  ASSERT_TRUE(back);
  EXPECT_EQ(to_bytes(*back), bytes);
  EXPECT_EQ(back->limits.devices.at(0).minor, std::nullopt);
  EXPECT_EQ(back->health->probe.argv.at(0), "probe");
  EXPECT_EQ(back->limits.unified.at("memory.high"), "1");
}

TEST(MonitorRequest, AnyDamageIsAnErrorOrAValue) {
  std::string bytes = to_bytes(full_request());
  for (std::size_t size = 0; size < bytes.size(); ++size) EXPECT_FALSE(from_bytes(bytes.substr(0, size)));
  std::mt19937 random(2);
  for (int i = 0; i < 3000; ++i) {
    std::string damaged = bytes;
    for (int j = 0; j < 3; ++j) damaged[random() % damaged.size()] = static_cast<char>(random());
    (void)from_bytes(damaged);
  }
}

// A container goes on under the monitor that started it when fastdock is upgraded.
TEST(MonitorRequest, AnotherBuildsBytesAreKnownToBe) {
  for (const std::string& bytes :
       {to_bytes(full_request()), to_bytes(Update{}), launch::to_bytes(LaunchPlan{})}) {
    std::string foreign = bytes;
    foreign[3] ^= 1;
    EXPECT_EQ(from_bytes(foreign).error().number, EPROTO);
    EXPECT_EQ(update_from_bytes(foreign).error().number, EPROTO);
    EXPECT_EQ(launch::from_bytes(foreign).error().number, EPROTO);
    EXPECT_EQ(from_bytes("").error().number, EPROTO);
  }
}

TEST(MonitorRequest, UpdatesReplaceWhatTheyHave) {
  cgroup::Limits limits = full_request().limits;
  Update update;
  update.limits.memory = 7;
  update.limits.pids = 8;
  auto back = update_from_bytes(to_bytes(update));
  ASSERT_TRUE(back);
  merge(limits, back->limits);
  EXPECT_EQ(limits.memory, 7);
  EXPECT_EQ(limits.pids, 8);
  EXPECT_EQ(limits.cpuset_cpus, "0-1");
  EXPECT_EQ(limits.devices.size(), 1u);
}

}  // namespace
}  // namespace fastdock::monitor
