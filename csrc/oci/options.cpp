#include "oci/options.h"

#include <algorithm>
#include <cerrno>
#include <charconv>

namespace fastdock::oci {
namespace {

std::unexpected<Error> refused(std::string_view command, std::string what) {
  std::string sentence = "fastdock-oci";
  if (!command.empty()) sentence.append(" ").append(command);
  return failed_with(EINVAL, Operation::kUseContainer, sentence + ": " + std::move(what));
}

}  // namespace

std::optional<bool> parse_truth(std::string_view word) {
  for (std::string_view yes : {"true", "1", "t", "T", "TRUE", "True"})
    if (word == yes) return true;
  for (std::string_view no : {"false", "0", "f", "F", "FALSE", "False"})
    if (word == no) return false;
  return std::nullopt;
}

bool Arguments::has(std::string_view flag) const {
  return std::ranges::any_of(given_, [&](const auto& entry) { return entry.first == flag; });
}

std::optional<std::string> Arguments::value(std::string_view flag) const {
  for (auto entry = given_.rbegin(); entry != given_.rend(); ++entry)
    if (entry->first == flag) return entry->second;
  return std::nullopt;
}

std::vector<std::string> Arguments::values(std::string_view flag) const {
  std::vector<std::string> all;
  for (const auto& entry : given_)
    if (entry.first == flag) all.push_back(entry.second);
  return all;
}

std::string Arguments::text(std::string_view flag, std::string otherwise) const {
  return value(flag).value_or(std::move(otherwise));
}

Result<std::optional<std::int64_t>> Arguments::number(std::string_view flag) const {
  auto word = value(flag);
  if (!word) return std::nullopt;
  std::int64_t number = 0;
  auto [end, problem] = std::from_chars(word->data(), word->data() + word->size(), number);
  if (problem != std::errc{} || end != word->data() + word->size())
    return refused("", "--" + std::string(flag) + " must be a number, not \"" + *word + "\"");
  return number;
}

class Parser {
 public:
  Parser(std::span<const Flag> flags, std::span<char* const>& words, std::string_view command)
      : flags_(flags), words_(words), command_(command) {}

  Result<Arguments> run(FlagsEnd end) {
    while (!words_.empty()) {
      std::string_view word = words_.front();
      if (word == "--") {
        words_ = words_.subspan(1);
        break;
      }
      if (word.size() < 2 || word[0] != '-') {
        if (end == FlagsEnd::kFirstPositional) return std::move(arguments_);
        arguments_.positional.emplace_back(word);
        words_ = words_.subspan(1);
        continue;
      }
      words_ = words_.subspan(1);
      FASTDOCK_CHECK(take_flag(word));
    }
    if (end == FlagsEnd::kNever) {
      for (const char* word : words_) arguments_.positional.emplace_back(word);
      words_ = {};
    }
    return std::move(arguments_);
  }

 private:
  [[nodiscard]] Result<void> help() const {
    // In the shape of runc's.
    const std::string name(command_);
    std::string text = "NAME:\n   fastdock-oci " + name + "\n\nUSAGE:\n   fastdock-oci [global flags] " +
                       name + " [flags] [arguments]\n";
    if (!flags_.empty()) text += "\nFLAGS:\n";
    for (const Flag& flag : flags_) {
      std::string name = "--" + std::string(flag.name);
      if (flag.letter != 0) name.append(", -").append(1, flag.letter);
      if (flag.takes_value) name += " <value>";
      text.append("   ").append(name).append(name.size() < 30 ? 30 - name.size() : 1, ' ');
      text.append(flag.help).append("\n");
    }
    return failed_with(kHelpWanted, Operation::kUseContainer, text);
  }

  Result<void> take_flag(std::string_view word) {
    std::string_view name = word.substr(word.starts_with("--") ? 2 : 1);
    std::optional<std::string_view> value;
    if (std::size_t equals = name.find('='); equals != std::string_view::npos) {
      value = name.substr(equals + 1);
      name = name.substr(0, equals);
    }
    auto flag = std::ranges::find_if(flags_, [&](const Flag& candidate) {
      return candidate.name == name || (name.size() == 1 && candidate.letter == name[0]);
    });
    if (flag == flags_.end() && (name == "help" || name == "h")) return help();
    if (flag == flags_.end()) return refused(command_, "unknown flag " + std::string(word));
    if (!flag->takes_value) {
      auto truth = parse_truth(value.value_or("true"));
      if (!truth) return refused(command_, std::string(word) + " must be true or false");
      if (*truth) arguments_.given_.emplace_back(flag->name, "true");
      return {};
    }
    if (!value) {
      if (words_.empty()) return refused(command_, std::string(word) + " needs a value");
      value = words_.front();
      words_ = words_.subspan(1);
    }
    arguments_.given_.emplace_back(flag->name, *value);
    return {};
  }

  std::span<const Flag> flags_;
  std::span<char* const>& words_;
  std::string_view command_;
  Arguments arguments_;
};

Result<Arguments> parse_flags(std::span<const Flag> flags, std::span<char* const>& words, FlagsEnd end,
                              std::string_view command) {
  return Parser(flags, words, command).run(end);
}

}  // namespace fastdock::oci
