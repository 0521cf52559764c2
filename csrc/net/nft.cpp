#include "net/nft.h"

#include <arpa/inet.h>
#include <linux/netfilter/nf_nat.h>
#include <linux/netfilter/nfnetlink.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "net/nft_socket.h"

namespace fastdock::net {
namespace {

constexpr std::size_t kElementsPerMessage = 32 * 1024;  // bytes; a nested attribute holds 64 KiB
constexpr std::uint8_t kTableComment = 0;               // NFTNL_UDATA_TABLE_COMMENT (libnftnl, udata.h)

void put_number(Batch& batch, std::uint16_t type, std::uint32_t value) {
  batch.put_number(type, htonl(value));
}

std::uint32_t length_of(NftType type) {
  switch (type) {
    case NftType::kIpv4:
      return 4;
    case NftType::kIpv6:
      return 16;
    case NftType::kEther:
      return 6;
    case NftType::kProtocol:
      return 1;
    case NftType::kService:
      return 2;
    case NftType::kInterface:
      return 16;
  }
  return 0;
}

struct Shape {
  std::uint32_t type = 0;
  std::uint32_t length = 0;
};

// A concatenation: nft packs six bits per field, the kernel pads each field to a register's four bytes.
Shape shape_of(const std::vector<NftType>& fields) {
  Shape shape;
  for (NftType field : fields) {
    shape.type = shape.type << 6 | static_cast<std::uint32_t>(field);
    shape.length += fields.size() == 1 ? length_of(field) : (length_of(field) + 3) / 4 * 4;
  }
  return shape;
}

}  // namespace

std::vector<std::byte> mark_of(const std::vector<NftType>& fields) {
  constexpr std::string_view kNoDevice = "/mark";  // no device's name has a slash (dev_valid_name())
  std::vector<std::byte> mark;
  for (NftType field : fields) {
    std::size_t start = mark.size();
    std::size_t size = start + length_of(field);
    mark.resize(size, field == NftType::kInterface ? std::byte{0} : std::byte{0xff});
    if (field == NftType::kInterface) std::memcpy(mark.data() + start, kNoDevice.data(), kNoDevice.size());
    if (fields.size() > 1) mark.resize((size + 3) / 4 * 4);
  }
  return mark;
}

NftTransaction::NftTransaction() {
  batch_.begin(NFNL_MSG_BATCH_BEGIN, 0, header_of(AF_UNSPEC, NFNL_SUBSYS_NFTABLES),
               Operation::kConfigureFirewall, {});
}

void NftTransaction::add_table(std::uint8_t family, const std::string& table, std::string_view comment) {
  batch_.begin(type_of(NFT_MSG_NEWTABLE), NLM_F_CREATE, header_of(family), Operation::kConfigureFirewall,
               table);
  batch_.put_string(NFTA_TABLE_NAME, table);
  put_number(batch_, NFTA_TABLE_FLAGS, 0);
  if (comment.empty()) return;
  std::string data{static_cast<char>(kTableComment), static_cast<char>(comment.size() + 1)};
  data.append(comment).push_back('\0');
  batch_.put(NFTA_TABLE_USERDATA, std::as_bytes(std::span(data)));
}

void NftTransaction::remove_table(std::uint8_t family, const std::string& table) {
  replaces_table_ = true;
  batch_.begin(type_of(NFT_MSG_DELTABLE), 0, header_of(family), Operation::kConfigureFirewall, table);
  batch_.put_string(NFTA_TABLE_NAME, table);
}

void NftTransaction::add_set(std::uint8_t family, const std::string& table, const Set& set) {
  batch_.begin(type_of(NFT_MSG_NEWSET), NLM_F_CREATE, header_of(family), Operation::kConfigureFirewall,
               set.name);
  batch_.put_string(NFTA_SET_TABLE, table);
  batch_.put_string(NFTA_SET_NAME, set.name);
  std::uint32_t flags = set.flags;
  if (!set.data.empty()) flags |= NFT_SET_MAP;
  if (set.key.size() > 1 && (flags & NFT_SET_INTERVAL)) flags |= NFT_SET_CONCAT;
  put_number(batch_, NFTA_SET_FLAGS, flags);
  Shape key = shape_of(set.key);
  put_number(batch_, NFTA_SET_KEY_TYPE, key.type);
  put_number(batch_, NFTA_SET_KEY_LEN, key.length);
  if (!set.data.empty()) {
    Shape data = shape_of(set.data);
    put_number(batch_, NFTA_SET_DATA_TYPE, data.type);
    put_number(batch_, NFTA_SET_DATA_LEN, data.length);
  }
  put_number(batch_, NFTA_SET_ID, next_set_++);
  if (set.key == std::vector{NftType::kInterface}) {
    // For `nft list`: names are in the host's byte order (libnftnl's NFTNL_UDATA_SET_KEYBYTEORDER, nft's
    // BYTEORDER_HOST_ENDIAN).
    constexpr std::uint32_t kHostEndian = 1;
    std::array<std::byte, 6> order{std::byte{0}, std::byte{4}};
    std::memcpy(order.data() + 2, &kHostEndian, sizeof kHostEndian);
    batch_.put(NFTA_SET_USERDATA, order);
  }
  if (flags & NFT_SET_CONCAT) {
    std::size_t description = batch_.open(NFTA_SET_DESC);
    std::size_t fields = batch_.open(NFTA_SET_DESC_CONCAT);
    for (NftType field : set.key) {
      std::size_t element = batch_.open(NFTA_LIST_ELEM);
      put_number(batch_, NFTA_SET_FIELD_LEN, length_of(field));
      batch_.close(element);
    }
    batch_.close(fields);
    batch_.close(description);
  }
}

void NftTransaction::add_mark(std::uint8_t family, const std::string& table, const Set& set) {
  NftElement mark{.key = mark_of(set.key), .data = mark_of(set.data)};
  if (set.flags & NFT_SET_INTERVAL) mark.key_end = mark.key;
  add_elements(family, table, set.name, {mark});
  shape_.marks.push_back({family, set.name, mark.key});
}

void NftTransaction::count_use(std::uint8_t family, const std::string& chain) {
  for (auto& known : shape_.chains)
    if (known.family == family && known.name == chain) ++known.uses;
}

void NftTransaction::add_chain(std::uint8_t family, const std::string& table, const std::string& chain,
                               std::optional<Hook> hook) {
  shape_.chains.push_back({family, chain});
  batch_.begin(type_of(NFT_MSG_NEWCHAIN), NLM_F_CREATE, header_of(family), Operation::kConfigureFirewall,
               chain);
  batch_.put_string(NFTA_CHAIN_TABLE, table);
  batch_.put_string(NFTA_CHAIN_NAME, chain);
  if (!hook) return;
  std::size_t nest = batch_.open(NFTA_CHAIN_HOOK);
  put_number(batch_, NFTA_HOOK_HOOKNUM, hook->number);
  put_number(batch_, NFTA_HOOK_PRIORITY, static_cast<std::uint32_t>(hook->priority));
  batch_.close(nest);
  put_number(batch_, NFTA_CHAIN_POLICY, NF_ACCEPT);
  batch_.put_string(NFTA_CHAIN_TYPE, hook->type);
}

void NftTransaction::change_elements(int message, std::uint16_t flags, std::uint8_t family,
                                     const std::string& table, const std::string& set,
                                     const std::vector<NftElement>& elements) {
  for (std::size_t next = 0; next < elements.size();) {
    batch_.begin(type_of(message), flags, header_of(family), Operation::kConfigureFirewall, set);
    batch_.put_string(NFTA_SET_ELEM_LIST_TABLE, table);
    batch_.put_string(NFTA_SET_ELEM_LIST_SET, set);
    std::size_t list = batch_.open(NFTA_SET_ELEM_LIST_ELEMENTS);
    for (; next < elements.size() && batch_.nested_size(list) < kElementsPerMessage; ++next) {
      const auto& element = elements[next];
      std::size_t nest = batch_.open(NFTA_LIST_ELEM);
      put_value(batch_, NFTA_SET_ELEM_KEY, element.key);
      if (!element.key_end.empty()) put_value(batch_, NFTA_SET_ELEM_KEY_END, element.key_end);
      if (!element.data.empty()) put_value(batch_, NFTA_SET_ELEM_DATA, element.data);
      if (element.timeout_ms != 0) batch_.put_number(NFTA_SET_ELEM_TIMEOUT, htobe64(element.timeout_ms));
      batch_.close(nest);
    }
    batch_.close(list);
  }
}

void NftTransaction::add_elements(std::uint8_t family, const std::string& table, const std::string& set,
                                  const std::vector<NftElement>& elements) {
  change_elements(NFT_MSG_NEWSETELEM, NLM_F_CREATE, family, table, set, elements);
}

void NftTransaction::remove_elements(std::uint8_t family, const std::string& table, const std::string& set,
                                     const std::vector<NftElement>& elements) {
  surely_changes_ |= !elements.empty();
  change_elements(NFT_MSG_DELSETELEM, 0, family, table, set, elements);
}

Result<void> NftTransaction::commit() {
  if (batch_.requests().size() == 1) return {};  // nothing but the beginning
  batch_.begin(NFNL_MSG_BATCH_END, 0, header_of(AF_UNSPEC, NFNL_SUBSYS_NFTABLES),
               Operation::kConfigureFirewall, {});
  NftSocket& shared = NftSocket::of_process();
  return shared.with([&](NetlinkSocket& socket) {
    auto done = socket.execute_transaction(batch_);
    if (done && surely_changes_ && !replaces_table_)
      shared.count_own_change();
    else
      shared.forget_generations();
    return done;
  });
}

NftRule::NftRule(NftTransaction& transaction, std::uint8_t family, const std::string& table,
                 const std::string& chain)
    : transaction_(transaction), batch_(transaction.batch()), family_(family) {
  transaction.count_use(family, chain);
  batch_.begin(type_of(NFT_MSG_NEWRULE), NLM_F_CREATE | NLM_F_APPEND, header_of(family),
               Operation::kConfigureFirewall, chain);
  batch_.put_string(NFTA_RULE_TABLE, table);
  batch_.put_string(NFTA_RULE_CHAIN, chain);
  expressions_ = batch_.open(NFTA_RULE_EXPRESSIONS);
}

NftRule::~NftRule() { batch_.close(expressions_); }

std::size_t NftRule::open(const char* name) {
  element_ = batch_.open(NFTA_LIST_ELEM);
  batch_.put_string(NFTA_EXPR_NAME, name);
  return data_ = batch_.open(NFTA_EXPR_DATA);
}

void NftRule::close() {
  batch_.close(data_);
  batch_.close(element_);
}

void NftRule::number(std::uint16_t type, std::uint32_t value) { put_number(batch_, type, value); }
void NftRule::value(std::uint16_t type, Bytes bytes) { put_value(batch_, type, bytes); }

NftRule& NftRule::meta(nft_meta_keys key, std::uint32_t slot) {
  open("meta");
  number(NFTA_META_KEY, key);
  number(NFTA_META_DREG, NFT_REG32_00 + slot);
  close();
  return *this;
}

NftRule& NftRule::payload(nft_payload_bases base, std::uint32_t offset, std::uint32_t length,
                          std::uint32_t slot) {
  open("payload");
  number(NFTA_PAYLOAD_DREG, NFT_REG32_00 + slot);
  number(NFTA_PAYLOAD_BASE, base);
  number(NFTA_PAYLOAD_OFFSET, offset);
  number(NFTA_PAYLOAD_LEN, length);
  close();
  return *this;
}

NftRule& NftRule::ct(nft_ct_keys key, std::uint32_t slot) {
  open("ct");
  number(NFTA_CT_KEY, key);
  number(NFTA_CT_DREG, NFT_REG32_00 + slot);
  close();
  return *this;
}

NftRule& NftRule::address_type_of_destination(std::uint32_t slot) {
  open("fib");
  number(NFTA_FIB_DREG, NFT_REG32_00 + slot);
  number(NFTA_FIB_RESULT, NFT_FIB_RESULT_ADDRTYPE);
  number(NFTA_FIB_FLAGS, NFTA_FIB_F_DADDR);
  close();
  return *this;
}

NftRule& NftRule::mask(std::uint32_t slot, std::vector<std::uint8_t> bits) {
  std::vector<std::uint8_t> zeros(bits.size());
  open("bitwise");
  number(NFTA_BITWISE_SREG, NFT_REG32_00 + slot);
  number(NFTA_BITWISE_DREG, NFT_REG32_00 + slot);
  number(NFTA_BITWISE_LEN, static_cast<std::uint32_t>(bits.size()));
  value(NFTA_BITWISE_MASK, std::as_bytes(std::span(bits)));
  value(NFTA_BITWISE_XOR, std::as_bytes(std::span(zeros)));
  close();
  return *this;
}

void NftRule::compare(nft_cmp_ops operation, std::uint32_t slot, Bytes bytes) {
  open("cmp");
  number(NFTA_CMP_SREG, NFT_REG32_00 + slot);
  number(NFTA_CMP_OP, operation);
  value(NFTA_CMP_DATA, bytes);
  close();
}

NftRule& NftRule::equals(std::uint32_t slot, std::initializer_list<std::uint8_t> bytes) {
  compare(NFT_CMP_EQ, slot, std::as_bytes(std::span(bytes.begin(), bytes.size())));
  return *this;
}

NftRule& NftRule::equals(std::uint32_t slot, std::string_view text, bool whole_name) {
  std::string bytes(text);
  if (whole_name) bytes.resize(16);
  compare(NFT_CMP_EQ, slot, std::as_bytes(std::span(bytes)));
  return *this;
}

NftRule& NftRule::differs(std::uint32_t slot, std::initializer_list<std::uint8_t> bytes) {
  compare(NFT_CMP_NEQ, slot, std::as_bytes(std::span(bytes.begin(), bytes.size())));
  return *this;
}

NftRule& NftRule::in(const std::string& set, std::uint32_t slot) {
  open("lookup");
  batch_.put_string(NFTA_LOOKUP_SET, set);
  number(NFTA_LOOKUP_SREG, NFT_REG32_00 + slot);
  close();
  return *this;
}

NftRule& NftRule::not_in(const std::string& set, std::uint32_t slot) {
  open("lookup");
  batch_.put_string(NFTA_LOOKUP_SET, set);
  number(NFTA_LOOKUP_SREG, NFT_REG32_00 + slot);
  number(NFTA_LOOKUP_FLAGS, NFT_LOOKUP_F_INV);
  close();
  return *this;
}

NftRule& NftRule::look_up(const std::string& map, std::uint32_t slot, std::uint32_t destination) {
  open("lookup");
  batch_.put_string(NFTA_LOOKUP_SET, map);
  number(NFTA_LOOKUP_SREG, NFT_REG32_00 + slot);
  number(NFTA_LOOKUP_DREG, NFT_REG32_00 + destination);
  close();
  return *this;
}

void NftRule::verdict(std::int32_t code, const std::string& chain) {
  open("immediate");
  number(NFTA_IMMEDIATE_DREG, NFT_REG_VERDICT);
  std::size_t data = batch_.open(NFTA_IMMEDIATE_DATA);
  std::size_t nest = batch_.open(NFTA_DATA_VERDICT);
  number(NFTA_VERDICT_CODE, static_cast<std::uint32_t>(code));
  if (!chain.empty()) batch_.put_string(NFTA_VERDICT_CHAIN, chain);
  batch_.close(nest);
  batch_.close(data);
  close();
}

void NftRule::accept() { verdict(NF_ACCEPT); }
void NftRule::drop() { verdict(NF_DROP); }
void NftRule::leave() { verdict(NFT_RETURN); }
void NftRule::go(const std::string& chain) {
  transaction_.count_use(family_, chain);
  verdict(NFT_GOTO, chain);
}

void NftRule::reject() {
  open("reject");
  number(NFTA_REJECT_TYPE, NFT_REJECT_ICMPX_UNREACH);
  batch_.put_number<std::uint8_t>(NFTA_REJECT_ICMP_CODE, NFT_REJECT_ICMPX_ADMIN_PROHIBITED);
  close();
}

void NftRule::masquerade() {
  open("masq");
  close();
}

void NftRule::redirect_to(std::uint8_t family, std::uint32_t address_slot, std::uint32_t port_slot) {
  open("nat");
  number(NFTA_NAT_TYPE, NFT_NAT_DNAT);
  number(NFTA_NAT_FAMILY, family);
  number(NFTA_NAT_REG_ADDR_MIN, NFT_REG32_00 + address_slot);
  number(NFTA_NAT_REG_PROTO_MIN, NFT_REG32_00 + port_slot);
  number(NFTA_NAT_FLAGS, NF_NAT_RANGE_MAP_IPS | NF_NAT_RANGE_PROTO_SPECIFIED);
  close();
}

void NftRule::redirect_to_port(std::uint8_t family, std::uint32_t slot) {
  open("nat");
  number(NFTA_NAT_TYPE, NFT_NAT_DNAT);
  number(NFTA_NAT_FAMILY, family);
  number(NFTA_NAT_REG_PROTO_MIN, NFT_REG32_00 + slot);
  number(NFTA_NAT_FLAGS, NF_NAT_RANGE_PROTO_SPECIFIED);
  close();
}

}  // namespace fastdock::net
