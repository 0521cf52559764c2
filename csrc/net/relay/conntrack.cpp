#include "net/relay/conntrack.h"

#include <netinet/in.h>
// clang-format off: the C library's addresses before the kernel's headers that define them too
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
// clang-format on

#include <array>
#include <cerrno>
#include <cstring>

namespace fastdock::net::relay {
namespace {

void put_place(Batch& batch, const Place& from, const Place& to) {
  std::size_t tuple = batch.open(CTA_TUPLE_REPLY);
  std::size_t addresses = batch.open(CTA_TUPLE_IP);
  batch.put(CTA_IP_V6_SRC, from.address.bytes());
  batch.put(CTA_IP_V6_DST, to.address.bytes());
  batch.close(addresses);
  std::size_t protocol = batch.open(CTA_TUPLE_PROTO);
  batch.put_number<std::uint8_t>(CTA_PROTO_NUM, IPPROTO_UDP);
  batch.put_number(CTA_PROTO_SRC_PORT, htons(from.port));
  batch.put_number(CTA_PROTO_DST_PORT, htons(to.port));
  batch.close(protocol);
  batch.close(tuple);
}

// An attribute below others, by its path.
void find(Bytes bytes, std::span<const std::uint16_t> path, std::optional<std::uint16_t>& port) {
  for_each_attribute(bytes, [&](std::uint16_t type, Bytes value) {
    if (type != path.front()) return;
    if (path.size() > 1) return find(value, path.subspan(1), port);
    std::uint16_t number = 0;
    if (value.size() == sizeof number) {
      std::memcpy(&number, value.data(), sizeof number);
      port = ntohs(number);
    }
  });
}

}  // namespace

Result<std::optional<std::uint16_t>> original_udp_port(NetlinkSocket& netfilter, const Place& sender,
                                                       const Place& here) {
  Batch batch;
  constexpr std::uint16_t kGet = NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_GET;
  batch.begin(kGet, NLM_F_ACK, nfgenmsg{AF_INET6, NFNETLINK_V0, 0}, Operation::kOpenRelay, "udp");
  put_place(batch, here, sender);  // a flow is found by the answers that it expects
  constexpr std::array<std::uint16_t, 3> kPath{CTA_TUPLE_ORIG, CTA_TUPLE_PROTO, CTA_PROTO_DST_PORT};
  std::optional<std::uint16_t> port;
  auto asked = netfilter.ask(batch, [&](std::uint16_t, Bytes message) {
    if (message.size() > sizeof(nfgenmsg)) find(message.subspan(sizeof(nfgenmsg)), kPath, port);
  });
  if (!asked && asked.error().number != ENOENT) return std::unexpected(asked.error());
  return port;
}

}  // namespace fastdock::net::relay
