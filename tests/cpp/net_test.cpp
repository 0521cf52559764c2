#include <gtest/gtest.h>

#include <string_view>

#include "net/address.h"
#include "net/dns/message.h"
#include "net/dns/registry.h"
#include "net/netlink.h"

namespace fastdock::net {
namespace {

using dns::Code;
using dns::Message;

Message query(std::string_view name, std::uint16_t type) {
  Message made{0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0};
  Message wire = dns::name_data(name);
  made.insert(made.end(), wire.begin(), wire.end());
  made.insert(made.end(), {0, static_cast<std::uint8_t>(type), 0, 1});
  return made;
}

TEST(NetAddress, ReadsAndRefuses) {
  EXPECT_EQ(to_text(parse_address("10.0.0.1").value()), "10.0.0.1");
  EXPECT_EQ(to_text(parse_address("fd00::0:1").value()), "fd00::1");
  for (std::string_view bad : std::initializer_list<std::string_view>{
           "", "10.0.0", "10.0.0.1 ", "fe80::1%eth0", "1.2.3.4:80", std::string_view("1.2.3.4\0x", 9)})
    EXPECT_FALSE(parse_address(bad)) << bad;
  for (std::string_view bad : {"10.0.0.0/33", "10.0.0.0/", "fd00::/129", "10.0.0.0/-1", "10.0.0.0/8x"})
    EXPECT_FALSE(parse_prefix(bad)) << bad;
  for (std::string_view bad :
       {"", "02:42:ac:11:00", "01:00:5e:00:00:01", "02:42:ac:11:00:0g", "02:42:ac:11:00:02:"})
    EXPECT_FALSE(parse_mac(bad)) << bad;
}

TEST(NetAddress, EndsOfAPrefix) {
  Prefix prefix = parse_prefix("10.1.2.3/20").value();
  EXPECT_EQ(to_text(first_of(prefix)), "10.1.0.0");
  EXPECT_EQ(to_text(last_of(prefix)), "10.1.15.255");
  EXPECT_EQ(to_text(link_local_of(parse_mac("02:42:ac:11:00:02").value())), "fe80::42:acff:fe11:2");
}

TEST(Netlink, AttributesThatLieAboutTheirLengthEndTheWalk) {
  std::vector<std::uint8_t> bytes = {8, 0, 1, 0, 'a', 'b', 'c', 'd', 200, 0, 2, 0, 'x'};
  int seen = 0;
  for_each_attribute(std::as_bytes(std::span(bytes)), [&](std::uint16_t type, Bytes value) {
    EXPECT_EQ(type, 1);
    EXPECT_EQ(value.size(), 4U);
    ++seen;
  });
  EXPECT_EQ(seen, 1);
}

TEST(DnsMessage, AnswersWhatWasAsked) {
  Message asked = query("Web.Example", dns::kA);
  auto question = dns::read_query(asked).value().value();
  EXPECT_EQ(question.name, "web.example");
  Message response = dns::make_response(asked, question, Code::kNoError, {{dns::kA, {10, 0, 0, 1}}}, 5, 512);
  EXPECT_TRUE(dns::answers(response, asked));
  ASSERT_EQ(dns::addresses_in(response).size(), 1U);
  EXPECT_EQ(to_text(dns::addresses_in(response)[0].address), "10.0.0.1");
  Message other = query("web.example", dns::kA);
  other[1] = 0x35;
  EXPECT_FALSE(dns::answers(response, other)) << "another id";
}

TEST(DnsMessage, OddLabelsNeverLookLikeNames) {
  Message asked = query("web", dns::kA);
  asked[13] = '.';  // a label that has a dot inside
  EXPECT_EQ(dns::read_query(asked).value().value().name, "\\046eb");
}

TEST(DnsMessage, TooLongIsTruncated) {
  Message asked = query("web", dns::kA);
  auto question = dns::read_query(asked).value().value();
  std::vector<dns::Answer> many(100, {dns::kA, {10, 0, 0, 1}});
  Message response = dns::make_response(asked, question, Code::kNoError, many, 5, 512);
  EXPECT_LE(response.size(), 512U);
  EXPECT_TRUE(response[2] & 2);
}

TEST(DnsMessage, Pointers) {
  EXPECT_EQ(to_text(dns::address_of_pointer("2.0.17.172.in-addr.arpa").value()), "172.17.0.2");
  EXPECT_EQ(to_text(dns::address_of_pointer(
                        "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa")
                        .value()),
            "fd00::1");
  for (auto bad :
       {"in-addr.arpa", "1.2.3.in-addr.arpa", "1.2.3.4.5.in-addr.arpa", "256.1.1.1.in-addr.arpa", "web"})
    EXPECT_FALSE(dns::address_of_pointer(bad)) << bad;
}

TEST(DnsRegistry, KnowsWhoSharesANetwork) {
  dns::Registry registry;
  registry.add(dns::parse_record("container a\nnetwork n\naddress 10.0.0.2\nname web\nname alias\n").value());
  registry.add(dns::parse_record("container b\nnetwork n\naddress 10.0.0.3\nname client\n").value());
  registry.add(dns::parse_record("container c\nnetwork m\naddress 10.1.0.2\nname stranger\n").value());
  EXPECT_EQ(registry.by_name(*registry.find("b"), "alias", AF_INET).addresses.size(), 1U);
  EXPECT_TRUE(registry.by_name(*registry.find("b"), "web", AF_INET6).known);
  EXPECT_FALSE(registry.by_name(*registry.find("c"), "web", AF_INET).known);
  registry.remove("a");
  EXPECT_FALSE(registry.by_name(*registry.find("b"), "web", AF_INET).known);
  for (std::string_view bad :
       {"", "name web\n", "container a\nname web\n", "container a\nforward maybe\n", "bogus x\n"})
    EXPECT_FALSE(dns::parse_record(bad)) << bad;
}

TEST(DnsRegistry, LinksAreOfTheAskerAlone) {
  dns::Registry registry;
  registry.add(dns::parse_record("container a\nnetwork n\naddress 10.0.0.2\nname web\n").value());
  registry.add(dns::parse_record("container b\nnetwork n\naddress 10.0.0.3\nlink WWW web\n").value());
  registry.add(dns::parse_record("container c\nnetwork n\naddress 10.0.0.4\nname client\n").value());
  auto found = registry.by_name(*registry.find("b"), "www", AF_INET);
  ASSERT_EQ(found.addresses.size(), 1U);
  EXPECT_EQ(to_text(found.addresses.front()), "10.0.0.2");
  EXPECT_TRUE(registry.by_name(*registry.find("b"), "web", AF_INET).known);
  EXPECT_FALSE(registry.by_name(*registry.find("c"), "www", AF_INET).known);
  for (std::string_view bad : {"container a\nlink x y\n", "container a\nnetwork n\nlink x\n"})
    EXPECT_FALSE(dns::parse_record(bad)) << bad;
}

TEST(DnsRegistry, DomainsAndWhatIsBelow) {
  EXPECT_TRUE(dns::within("example.org", "example.org"));
  EXPECT_TRUE(dns::within("a.example.org", "example.org"));
  EXPECT_FALSE(dns::within("notexample.org", "example.org"));
  EXPECT_FALSE(dns::within("org", "example.org"));
}

}  // namespace
}  // namespace fastdock::net
