#include "net/dns/registry.h"

#include <algorithm>
#include <cctype>
#include <cerrno>

namespace fastdock::net::dns {
namespace {

std::string lowered(std::string_view text) {
  std::string made(text);
  for (char& c : made) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  while (made.ends_with('.')) made.pop_back();
  return made;
}

Result<void> apply(Container& container, std::string_view key, std::string_view value) {
  auto bad = [&] {
    return failed_with(EINVAL, Operation::kParse, "the resolver record at '" + std::string(key) + "'");
  };
  bool of_network = key == "address" || key == "name" || key == "link";
  if (value.empty() || (of_network && container.networks.empty())) return bad();
  if (key == "container") {
    container.id = value;
  } else if (key == "domain") {
    container.domain = lowered(value);
  } else if (key == "network") {
    container.networks.push_back({std::string(value), {}, {}, {}});
  } else if (key == "address") {
    FASTDOCK_TRY(auto address, parse_address(value));
    container.networks.back().addresses.push_back(address);
  } else if (key == "name") {
    container.networks.back().names.push_back(lowered(value));
  } else if (key == "link") {
    std::size_t space = value.find(' ');
    if (space == std::string_view::npos) return bad();
    container.networks.back().links.emplace_back(lowered(value.substr(0, space)),
                                                 lowered(value.substr(space + 1)));
  } else if (key == "upstream") {
    FASTDOCK_TRY(auto address, parse_address(value));
    container.upstreams.push_back(address);
  } else if (key == "allow") {
    container.allowed.push_back(lowered(value));
  } else if (key == "forward" && value == "all") {
    container.forwarding = Forwarding::kAll;
  } else if (key == "forward" && value == "names") {
    container.forwarding = Forwarding::kNames;
  } else if (key == "forward" && value == "none") {
    container.forwarding = Forwarding::kNone;
  } else {
    return bad();
  }
  return {};
}

}  // namespace

Result<Container> parse_record(std::string_view text) {
  Container container;
  while (!text.empty()) {
    std::string_view line = text.substr(0, std::min(text.find('\n'), text.size()));
    text.remove_prefix(std::min(line.size() + 1, text.size()));
    if (line.empty()) continue;
    std::size_t space = std::min(line.find(' '), line.size());
    FASTDOCK_CHECK(apply(container, line.substr(0, space), line.substr(std::min(space + 1, line.size()))));
  }
  if (container.id.empty()) return failed_with(EINVAL, Operation::kParse, "a resolver record without an id");
  return container;
}

void Registry::add(Container container) {
  remove(container.id);
  std::string id = container.id;
  const Container& kept = containers_.emplace(std::move(id), std::move(container)).first->second;
  for (std::size_t i = 0; i < kept.networks.size(); ++i) {
    Names& names = networks_[kept.networks[i].network];
    for (const auto& name : kept.networks[i].names) names.emplace(name, Member{&kept, i});
  }
}

void Registry::remove(const std::string& id) {
  auto found = containers_.find(id);
  if (found == containers_.end()) return;
  for (const auto& membership : found->second.networks) {
    auto network = networks_.find(membership.network);
    if (network == networks_.end()) continue;
    for (const auto& name : membership.names) {
      auto [first, last] = network->second.equal_range(name);
      while (first != last) {
        first = first->second.container == &found->second ? network->second.erase(first) : std::next(first);
      }
    }
    if (network->second.empty()) networks_.erase(network);
  }
  containers_.erase(found);
}

const Container* Registry::find(const std::string& id) const {
  auto found = containers_.find(id);
  return found == containers_.end() ? nullptr : &found->second;
}

Registry::Found Registry::by_name(const Container& asker, std::string_view name, std::uint8_t family) const {
  Found result;
  for (const auto& membership : asker.networks) {
    auto network = networks_.find(membership.network);
    if (network == networks_.end()) continue;
    std::string key(name);
    auto link = std::ranges::find(membership.links, key, [](const auto& pair) { return pair.first; });
    if (link != membership.links.end()) key = link->second;
    auto [first, last] = network->second.equal_range(key);
    for (; first != last; ++first) {
      result.known = true;
      const auto& member = first->second;
      for (const auto& address : member.container->networks[member.network].addresses) {
        if (address.family == family &&
            std::ranges::find(result.addresses, address) == result.addresses.end())
          result.addresses.push_back(address);
      }
    }
  }
  return result;
}

std::string Registry::by_address(const Container& asker, const IpAddress& address) const {
  for (const auto& membership : asker.networks) {
    auto network = networks_.find(membership.network);
    if (network == networks_.end()) continue;
    for (const auto& [name, member] : network->second) {
      const auto& theirs = member.container->networks[member.network];
      if (std::ranges::find(theirs.addresses, address) == theirs.addresses.end()) continue;
      const std::string& first = theirs.names.front();
      return member.container->domain.empty() ? first : first + "." + member.container->domain;
    }
  }
  return {};
}

bool within(std::string_view name, std::string_view domain) {
  if (name == domain) return true;
  return name.size() > domain.size() && name.ends_with(domain) &&
         name[name.size() - domain.size() - 1] == '.';
}

}  // namespace fastdock::net::dns
