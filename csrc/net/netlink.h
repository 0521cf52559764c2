// Netlink without a library: a builder of request batches, and a socket that executes them.
//
// Why not libmnl: the builder below is what we would have to wrap anyway (libmnl's puts do not check
// bounds and know nothing of batches of different operations), the kernel's own work is 20 to 100 times
// what either costs, and one dependency less is one less in the static helper programs.
#pragma once

#include <linux/netlink.h>

#include <concepts>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "base/error.h"
#include "base/fd.h"

namespace fastdock::net {

using Bytes = std::span<const std::byte>;

// Several requests that go to the kernel in one sendmsg(2).  Each remembers what it was for, so that the
// kernel's error for it can say so.
class Batch {
 public:
  struct Request {
    std::uint32_t sequence;
    std::size_t offset;  // in the buffer
    Operation operation;
    std::string path;
  };

  // Starts a request; `header` is the family's fixed structure (ifinfomsg, nfgenmsg, ...).
  template <class Header>
  void begin(std::uint16_t type, std::uint16_t flags, const Header& header, Operation operation,
             std::string_view path) {
    static_assert(std::is_trivially_copyable_v<Header>);
    begin_raw(type, flags, std::as_bytes(std::span(&header, 1)), operation, path);
  }

  // Attributes of the request begun last.
  void put(std::uint16_t type, Bytes value);
  template <std::integral T>
  void put_number(std::uint16_t type, T value) {
    put(type, std::as_bytes(std::span(&value, 1)));
  }
  void put_string(std::uint16_t type, std::string_view text);  // with its terminating NUL
  // Opens a nested attribute; close it with the returned offset.
  std::size_t open(std::uint16_t type);
  void close(std::size_t nest);
  // Appends a fixed structure inside an attribute (veth's peer starts with an ifinfomsg).
  template <class Header>
  void put_structure(const Header& header) {
    append(std::as_bytes(std::span(&header, 1)));
  }

  // Bytes of the attribute opened at `nest` so far: its length field has 16 bits.
  [[nodiscard]] std::size_t nested_size(std::size_t nest) const { return buffer_.size() - nest; }
  [[nodiscard]] bool empty() const { return requests_.empty(); }
  [[nodiscard]] const std::vector<Request>& requests() const { return requests_; }

 private:
  friend class NetlinkSocket;
  void begin_raw(std::uint16_t type, std::uint16_t flags, Bytes header, Operation operation,
                 std::string_view path);
  void append(Bytes bytes);
  void finish();                             // writes the length of the request begun last
  void want_answer(const Request& request);  // sets NLM_F_ACK

  std::vector<std::byte> buffer_;
  std::vector<Request> requests_;
  std::size_t current_ = 0;
};

// Walks the attributes in `bytes`; stops at the first malformed one.
void for_each_attribute(Bytes bytes, const std::function<void(std::uint16_t type, Bytes value)>& visit);

// One netlink socket, with extended acknowledgements.  Belongs to the network namespace that its creating
// thread was in, whichever thread uses it later (netlink(7); sock_net() in the kernel).
class NetlinkSocket {
 public:
  static Result<NetlinkSocket> open(int protocol);  // NETLINK_ROUTE or NETLINK_NETFILTER

  // Executes the batch and returns the error of the first request that failed.  The requests after it have
  // been executed too.
  Result<void> execute(Batch& batch);
  // The same for a nf_tables transaction (first request: its beginning, last: its end): all or nothing.
  Result<void> execute_transaction(Batch& batch);

  // Executes one request and hands each answer (without its netlink header) to `visit`.
  using Visit = std::function<void(std::uint16_t type, Bytes message)>;
  Result<void> ask(Batch& batch, const Visit& visit);
  // The same for many requests of one answer each, of up to 1 KiB: it takes two or three system calls.
  Result<void> ask_all(Batch& batch, const Visit& visit);

  // The index of a device in the socket's network namespace; ENODEV when there is none.
  Result<std::uint32_t> index_of(const std::string& device);

  // Throws away what has been answered but not read.
  void discard_answers();

  Fd take_descriptor() { return std::move(fd_); }

 private:
  Result<void> send(Batch& batch);
  Result<void> receive(const Batch& batch, const Batch::Request& last, const Visit& visit);
  Result<void> receive_many(const Batch& batch, const Batch::Request& last, const Visit& visit);

  Fd fd_;
};

}  // namespace fastdock::net
