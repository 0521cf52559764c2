// What is asked of nf_tables.
#include <netinet/in.h>
// clang-format off: the C library's addresses before the kernel's headers that define them too
#include <linux/netfilter.h>
// clang-format on

#include <endian.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "net/nft.h"
#include "net/nft_socket.h"

namespace fastdock::net {
namespace {

using Visit = std::function<void(Bytes value)>;

// The attributes of one type below a message or another attribute.
void for_each(Bytes bytes, std::uint16_t type, const Visit& visit) {
  for_each_attribute(bytes, [&](std::uint16_t found, Bytes value) {
    if (found == type) visit(value);
  });
}

// Asks for elements of a set, and visits the list's entries.
Result<void> ask_elements(Batch& batch, const Visit& visit) {
  auto read = [&](std::uint16_t type, Bytes message) {
    if (type != type_of(NFT_MSG_NEWSETELEM) || message.size() < sizeof(nfgenmsg)) return;
    for_each(message.subspan(sizeof(nfgenmsg)), NFTA_SET_ELEM_LIST_ELEMENTS,
             [&](Bytes list) { for_each(list, NFTA_LIST_ELEM, visit); });
  };
  return NftSocket::of_process().with([&](NetlinkSocket& socket) { return socket.ask(batch, read); });
}

void begin_question(Batch& batch, std::uint16_t flags, std::uint8_t family, const std::string& table,
                    const std::string& set) {
  batch.begin(type_of(NFT_MSG_GETSETELEM), flags, header_of(family), Operation::kConfigureFirewall, set);
  batch.put_string(NFTA_SET_ELEM_LIST_TABLE, table);
  batch.put_string(NFTA_SET_ELEM_LIST_SET, set);
}

void ask_for_element(Batch& batch, const std::vector<std::byte>& key) {
  std::size_t list = batch.open(NFTA_SET_ELEM_LIST_ELEMENTS);
  std::size_t element = batch.open(NFTA_LIST_ELEM);
  put_value(batch, NFTA_SET_ELEM_KEY, key);
  batch.close(element);
  batch.close(list);
}

// Reads the answers to the questions of Inspection.
class Inspection {
 public:
  Inspection(const std::string& table, std::string_view comment, const NftShape& shape)
      : table_(table), comment_(comment), shape_(shape) {}

  // What is asked in one message: each answer is there, or the kernel says ENOENT.
  [[nodiscard]] Batch questions() const {
    Batch batch;
    begin(batch, NFT_MSG_GETGEN, AF_UNSPEC);
    for (std::uint8_t family : {std::uint8_t{NFPROTO_INET}, std::uint8_t{NFPROTO_BRIDGE}}) {
      begin(batch, NFT_MSG_GETTABLE, family);
      batch.put_string(NFTA_TABLE_NAME, table_);
    }
    for (const auto& chain : shape_.chains) {
      begin(batch, NFT_MSG_GETCHAIN, chain.family);
      batch.put_string(NFTA_CHAIN_TABLE, table_);
      batch.put_string(NFTA_CHAIN_NAME, chain.name);
    }
    for (const auto& mark : shape_.marks) {
      begin_question(batch, 0, mark.family, table_, mark.set);
      ask_for_element(batch, mark.key);
    }
    return batch;
  }

  void read(std::uint16_t type, Bytes message) {
    nfgenmsg header{};
    if (message.size() < sizeof header) return;
    std::memcpy(&header, message.data(), sizeof header);
    Bytes attributes = message.subspan(sizeof header);
    if (type == type_of(NFT_MSG_NEWGEN)) generation = number_in(attributes, NFTA_GEN_ID);
    if (type == type_of(NFT_MSG_NEWTABLE)) whole &= is_table_ours(attributes);
    if (type == type_of(NFT_MSG_NEWCHAIN)) whole &= is_chain_whole(header.nfgen_family, attributes);
  }

  static void begin(Batch& batch, int message, std::uint8_t family) {
    batch.begin(type_of(message), 0, header_of(family), Operation::kConfigureFirewall, {});
  }

  bool whole = true;
  std::uint32_t generation = 0;

 private:
  static std::uint32_t number_in(Bytes attributes, std::uint16_t type) {
    std::uint32_t number = 0;
    for_each(attributes, type, [&](Bytes value) {
      if (value.size() == sizeof number) std::memcpy(&number, value.data(), sizeof number);
    });
    return ntohl(number);
  }

  // Made by this version; and not put to sleep, the only flag that keeps rules from packets.
  [[nodiscard]] bool is_table_ours(Bytes attributes) const {
    bool ours = false;
    for_each(attributes, NFTA_TABLE_USERDATA, [&](Bytes value) {  // type, length, text, NUL
      ours = value.size() == comment_.size() + 3 &&
             std::ranges::equal(value.subspan(2, comment_.size()), std::as_bytes(std::span(comment_)));
    });
    return ours && !(number_in(attributes, NFTA_TABLE_FLAGS) & NFT_TABLE_F_DORMANT);
  }

  [[nodiscard]] bool is_chain_whole(std::uint8_t family, Bytes attributes) const {
    std::string_view name;
    for_each(attributes, NFTA_CHAIN_NAME, [&](Bytes value) {
      name = {reinterpret_cast<const char*>(value.data()), value.size() - 1};  // it ends in NUL
    });
    return std::ranges::any_of(shape_.chains, [&](const auto& chain) {
      return chain.family == family && chain.name == name &&
             chain.uses == number_in(attributes, NFTA_CHAIN_USE);
    });
  }

  const std::string& table_;
  std::string_view comment_;
  const NftShape& shape_;
};

}  // namespace

Result<std::optional<std::vector<std::byte>>> look_up_element(std::uint8_t family, const std::string& table,
                                                              const std::string& map,
                                                              const std::vector<std::byte>& key) {
  Batch batch;
  begin_question(batch, NLM_F_ACK, family, table, map);
  ask_for_element(batch, key);
  std::optional<std::vector<std::byte>> data;
  auto asked = ask_elements(batch, [&](Bytes found) {
    for_each(found, NFTA_SET_ELEM_DATA, [&](Bytes nest) {
      for_each(nest, NFTA_DATA_VALUE, [&](Bytes value) { data.emplace(value.begin(), value.end()); });
    });
  });
  if (!asked && asked.error().number == ENOENT) return std::optional<std::vector<std::byte>>{};
  if (!asked) return std::unexpected(asked.error());
  return data;
}

Result<std::vector<NftElement>> list_elements(std::uint8_t family, const std::string& table,
                                              const std::string& set) {
  Batch batch;
  begin_question(batch, NLM_F_DUMP, family, table, set);
  std::vector<NftElement> elements;
  auto asked = ask_elements(batch, [&](Bytes found) {
    auto& element = elements.emplace_back();
    for_each(found, NFTA_SET_ELEM_KEY, [&](Bytes nest) {
      for_each(nest, NFTA_DATA_VALUE, [&](Bytes value) { element.key.assign(value.begin(), value.end()); });
    });
    for_each(found, NFTA_SET_ELEM_EXPIRATION, [&](Bytes value) {
      std::uint64_t left = 0;
      if (value.size() == sizeof left) std::memcpy(&left, value.data(), sizeof left);
      element.timeout_ms = be64toh(left);
    });
  });
  if (!asked && asked.error().number != ENOENT) return std::unexpected(asked.error());
  return elements;
}

Result<bool> are_tables_whole(const std::string& table, std::string_view comment, const NftShape& shape) {
  NftSocket& shared = NftSocket::of_process();
  bool whole = false;
  auto asked = shared.with([&](NetlinkSocket& socket) -> Result<void> {
    Inspection inspection(table, comment, shape);
    auto read = [&](std::uint16_t type, Bytes message) { inspection.read(type, message); };
    if (auto known = shared.known_generation(table)) {
      Batch batch;
      Inspection::begin(batch, NFT_MSG_GETGEN, AF_UNSPEC);
      FASTDOCK_CHECK(socket.ask_all(batch, read));
      whole = *known == inspection.generation;
      if (whole) return {};
    }
    shared.forget_generations();
    Batch batch = inspection.questions();
    FASTDOCK_CHECK(socket.ask_all(batch, read));
    whole = inspection.whole;
    // The generation was asked first: what changes from then on is seen the next time.
    if (whole) shared.remember_generation(table, inspection.generation);
    return {};
  });
  if (!asked && asked.error().number == ENOENT) return false;  // a table, a chain, a set or its mark
  if (!asked) return std::unexpected(asked.error());
  return whole;
}

}  // namespace fastdock::net
