// From the entries of a tar to files: one layer, as overlayfs wants a lower directory.
#pragma once

#include <map>
#include <string>

#include "base/fd.h"
#include "layer/directories.h"
#include "layer/layer.h"

namespace fastdock::layer {

class Unpacker {
 public:
  // `destination` is an empty directory.
  static Result<Unpacker> create(Fd destination, const Limits& limits);

  // Makes the files of one entry, with its data.
  Result<void> add(const Entry& entry, EntryData& data);
  // Gives the directories their attributes.  Nothing may be added afterwards.
  Result<void> finish();

  [[nodiscard]] std::uint64_t skipped_attributes() const { return skipped_; }
  // What only the layers below can complete (repair.h reads it).
  [[nodiscard]] std::string repairs() const;

 private:
  Unpacker(Directories directories, const Limits& limits);

  struct Place {  // of a new file
    int parent;
    std::string name;
    std::string_view path;
  };
  Result<Place> place(std::string_view path);  // which must outlive it

  Result<void> add_directory(const Entry& entry, const std::string& path);
  Result<void> add_file(const Entry& entry, const Place& place, EntryData& data);
  Result<void> add_hard_link(const Entry& entry, const Place& place);
  Result<void> add_special(const Entry& entry, const Place& place);
  Result<void> add_whiteout(const std::string& path);
  Result<void> hide(const Place& place);

  Result<Fd> create_file(const Place& place, mode_t mode);
  Result<void> write_data(int fd, const Entry& entry, EntryData& data);
  Result<void> set_metadata(int fd, const Entry& entry);
  // Calls `make` (a system call that fails with EEXIST), removing what is in the way once.
  template <class Make>
  Result<void> make_replacing(const Place& place, Operation operation, Make&& make);
  Result<void> clear(const Place& place);

  Directories directories_;
  Limits limits_;
  uid_t uid_;  // what new files get by themselves
  gid_t gid_;
  std::uint64_t skipped_ = 0;
  // Hard links whose target must be in a lower layer: name -> target.
  std::map<std::string, std::string, std::less<>> links_below_;
};

}  // namespace fastdock::layer
