// The process's socket for nf_tables, what it remembers, and the beginnings of its messages.
#pragma once

#include <arpa/inet.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <sys/types.h>

#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <string>

#include "net/netlink.h"

namespace fastdock::net {

inline std::uint16_t type_of(int message) {
  return static_cast<std::uint16_t>(NFNL_SUBSYS_NFTABLES << 8 | message);
}

inline nfgenmsg header_of(std::uint8_t family, std::uint16_t resource = 0) {
  return {family, NFNETLINK_V0, htons(resource)};
}

inline void put_value(Batch& batch, std::uint16_t type, Bytes bytes) {
  std::size_t nest = batch.open(type);
  batch.put(NFTA_DATA_VALUE, bytes);
  batch.close(nest);
}

// The process's socket for transactions, one per network namespace that it works in (there is one, but for
// tests).
//
// It stays open: closing a nf_tables socket waits until everything that was removed before is freed, which
// takes RCU grace periods of 10 ms and more (nft_rcv_nl_event(), since Linux 5.18's commit 9f6958ba2e90).
class NftSocket {
 public:
  static NftSocket& of_process();

  template <class Work>
  auto with(Work&& work) -> decltype(work(*static_cast<NetlinkSocket*>(nullptr))) {
    std::scoped_lock lock(mutex_);
    FASTDOCK_CHECK(open());
    auto done = work(*socket_);
    if (!done) socket_->discard_answers();  // after an error others may be waiting
    return done;
  }

  // The generation of the namespace's tables at which those of this name are known to be whole; none:
  // unknown. The kernel counts every transaction that changes anything, whosever it is, by one
  // (nf_tables_commit()): as long as its number is this one, only this process has changed them since they
  // were looked at.  This and the next three inside with().
  std::optional<std::uint32_t> known_generation(const std::string& table);
  void remember_generation(const std::string& table, std::uint32_t generation);
  // Of a transaction that certainly changed something: one that did not is not counted, and the next one of
  // somebody else would be taken for it.
  void count_own_change();
  void forget_generations() { whole_at_.clear(); }

  // Before the process ends: see leave_socket().
  void leave();

 private:
  Result<void> open();

  std::mutex mutex_;
  std::optional<NetlinkSocket> socket_;
  std::map<std::string, std::uint32_t> whole_at_;
  pid_t process_ = 0;
  ino_t space_ = 0;
};

}  // namespace fastdock::net
