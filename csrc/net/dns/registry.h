// Who is called what, on which network, and whom each container may ask about the world.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/error.h"
#include "net/address.h"

namespace fastdock::net::dns {

enum class Forwarding : std::uint8_t {
  kAll,    // ask the upstream servers for every name that is not a container's
  kNames,  // only for allowed names; their addresses are opened in the firewall
  kNone,   // never: an internal network reaches nothing outside, not even by names (CVE-2024-29018)
};

struct Membership {
  std::string network;  // its id
  std::vector<IpAddress> addresses;
  std::vector<std::string>
      names;  // what others on this network may call the container; the first is its name
  std::vector<std::pair<std::string, std::string>>
      links;  // what it calls others here: alias and name.  Nobody else does.
};

struct Container {
  std::string id;
  std::string domain;  // appended to the name in PTR records: the network's name, as Docker does
  std::vector<Membership> networks;
  std::vector<IpAddress> upstreams;
  Forwarding forwarding = Forwarding::kNone;
  std::vector<std::string> allowed;  // "example.org" and everything below it
};

// Lines of "key value...", in any order but names and addresses after their network:
//   container ID / network ID / address IP / name NAME / link ALIAS NAME / upstream IP /
//   forward all|names|none / allow DOMAIN
Result<Container> parse_record(std::string_view text);

class Registry {
 public:
  void add(Container container);
  void remove(const std::string& id);
  [[nodiscard]] const Container* find(const std::string& id) const;

  // Addresses of the containers of this name that `asker` shares a network with; `known` tells a name without
  // addresses of that family from an unknown one.
  struct Found {
    bool known = false;
    std::vector<IpAddress> addresses;
  };
  [[nodiscard]] Found by_name(const Container& asker, std::string_view name, std::uint8_t family) const;
  // The name of whoever has this address on one of asker's networks; empty if nobody.
  [[nodiscard]] std::string by_address(const Container& asker, const IpAddress& address) const;
  [[nodiscard]] std::size_t size() const { return containers_.size(); }

 private:
  struct Member {
    const Container* container;
    std::size_t network;
  };
  using Names = std::unordered_multimap<std::string, Member>;  // name -> members

  std::unordered_map<std::string, Container> containers_;
  std::unordered_map<std::string, Names> networks_;
};

// Whether `name` is `domain` or below it.
bool within(std::string_view name, std::string_view domain);

}  // namespace fastdock::net::dns
