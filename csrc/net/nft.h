// nf_tables over netlink: one transaction, and the few statements that our fixed tables are made of.
//
// libnftables and libnftnl would do the same, but are GPL-2, and what they are good at (any rule that a user
// may write) is not what we need: our rules never change at run time, only the elements of their sets do.
#pragma once

#include <linux/netfilter/nf_tables.h>

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "net/netlink.h"

namespace fastdock::net {

// nft's numbers for data types (nftables, include/datatype.h): the kernel only stores them, `nft list` reads
// them to print keys as people write them.
enum class NftType : std::uint32_t {
  kIpv4 = 7,
  kIpv6 = 8,
  kEther = 9,
  kProtocol = 12,
  kService = 13,
  kInterface = 41,
};

// An element of a set, as the kernel sees it: fields padded to four bytes, numbers in network order.
struct NftElement {
  std::vector<std::byte> key = {};
  std::vector<std::byte> key_end = {};  // of a range, in a set of intervals
  std::vector<std::byte> data = {};     // of a map
  std::uint64_t timeout_ms = 0;         // 0: stays
};

// What a transaction makes, by what the kernel can be asked for without a walk: see are_tables_whole().
struct NftShape {
  struct Chain {
    std::uint8_t family;
    std::string name;
    std::uint32_t uses = 0;  // its rules, and those that lead to it: the kernel counts them together
  };
  struct Mark {
    std::uint8_t family;
    std::string set;
    std::vector<std::byte> key;
  };
  std::vector<Chain> chains;
  std::vector<Mark> marks;
};

// Everything in it happens at once or not at all.
class NftTransaction {
 public:
  NftTransaction();

  void add_table(std::uint8_t family, const std::string& table, std::string_view comment);
  // Removing what is not there fails the transaction: add it first where in doubt, as `nft` users do.
  void remove_table(std::uint8_t family, const std::string& table);

  struct Set {
    std::string name;
    std::vector<NftType> key;
    std::vector<NftType> data = {};
    std::uint32_t flags = 0;  // NFT_SET_*
  };
  void add_set(std::uint8_t family, const std::string& table, const Set& set);
  // An element that no packet is like: where it is gone, so is all else that was in the set.
  void add_mark(std::uint8_t family, const std::string& table, const Set& set);

  struct Hook {
    std::string_view type;  // filter or nat
    std::uint32_t number;
    std::int32_t priority;
  };
  void add_chain(std::uint8_t family, const std::string& table, const std::string& chain,
                 std::optional<Hook> hook = std::nullopt);

  void add_elements(std::uint8_t family, const std::string& table, const std::string& set,
                    const std::vector<NftElement>& elements);
  void remove_elements(std::uint8_t family, const std::string& table, const std::string& set,
                       const std::vector<NftElement>& elements);

  // For NftRule.
  Batch& batch() { return batch_; }
  void count_use(std::uint8_t family, const std::string& chain);

  // What was added: chains, rules and marks.
  [[nodiscard]] const NftShape& shape() const { return shape_; }
  // That some of the elements added cannot have been there: see NftSocket::count_own_change().
  void surely_changes() { surely_changes_ = true; }

  Result<void> commit();

 private:
  void change_elements(int message, std::uint16_t flags, std::uint8_t family, const std::string& table,
                       const std::string& set, const std::vector<NftElement>& elements);

  Batch batch_;
  NftShape shape_;
  std::uint32_t next_set_ = 1;
  bool surely_changes_ = false;
  bool replaces_table_ = false;
};

// The key of a mark in a set of such fields, and its data in a map of such.
std::vector<std::byte> mark_of(const std::vector<NftType>& fields);

// One rule, appended to its chain; its statements follow in the order of the calls.  Values travel through 16
// registers of four bytes ("slots").
class NftRule {
 public:
  NftRule(NftTransaction& transaction, std::uint8_t family, const std::string& table,
          const std::string& chain);
  ~NftRule();
  NftRule(const NftRule&) = delete;
  NftRule& operator=(const NftRule&) = delete;

  // Loads.
  NftRule& meta(nft_meta_keys key, std::uint32_t slot);
  NftRule& payload(nft_payload_bases base, std::uint32_t offset, std::uint32_t length, std::uint32_t slot);
  NftRule& ct(nft_ct_keys key, std::uint32_t slot);
  NftRule& address_type_of_destination(std::uint32_t slot);
  NftRule& mask(std::uint32_t slot, std::vector<std::uint8_t> bits);
  // Tests.
  NftRule& equals(std::uint32_t slot, std::initializer_list<std::uint8_t> value);
  NftRule& equals(std::uint32_t slot, std::string_view text, bool whole_name);
  NftRule& differs(std::uint32_t slot, std::initializer_list<std::uint8_t> value);
  NftRule& in(const std::string& set, std::uint32_t slot);
  NftRule& not_in(const std::string& set, std::uint32_t slot);
  NftRule& look_up(const std::string& map, std::uint32_t slot, std::uint32_t destination);
  // Verdicts.
  void accept();
  void drop();
  void leave();  // "return"
  void go(const std::string& chain);
  void reject();
  void masquerade();
  void redirect_to(std::uint8_t family, std::uint32_t address_slot, std::uint32_t port_slot);  // DNAT
  void redirect_to_port(std::uint8_t family, std::uint32_t slot);  // of the same address

 private:
  std::size_t open(const char* name);
  void close();
  void number(std::uint16_t type, std::uint32_t value);  // in network order
  void value(std::uint16_t type, Bytes bytes);
  void compare(nft_cmp_ops operation, std::uint32_t slot, Bytes bytes);
  void verdict(std::int32_t code, const std::string& chain = {});

  NftTransaction& transaction_;
  Batch& batch_;
  std::uint8_t family_;
  std::size_t expressions_ = 0;
  std::size_t element_ = 0;
  std::size_t data_ = 0;
};

// Whether the tables of this name are as a transaction of this shape made them, by what does not walk through
// their elements: comments, numbers of rules, marks.  Where nobody but this process has changed any table
// since it was asked last, that is all that is asked of the kernel.
Result<bool> are_tables_whole(const std::string& table, std::string_view comment, const NftShape& shape);

// What a map has for a key; none if it is not in it.
Result<std::optional<std::vector<std::byte>>> look_up_element(std::uint8_t family, const std::string& table,
                                                              const std::string& map,
                                                              const std::vector<std::byte>& key);
// All elements of a set, of each its key and the time that is left to it; none where the set is not there.
Result<std::vector<NftElement>> list_elements(std::uint8_t family, const std::string& table,
                                              const std::string& set);

// For a process that is about to end, instead of closing its socket: that would wait for what it removed
// last.
void leave_socket();

}  // namespace fastdock::net
