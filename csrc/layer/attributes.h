// Extended attributes, as layers carry them and as overlayfs uses them.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "layer/layer.h"

namespace fastdock::layer {

// overlayfs keeps its own state in attributes (trusted.overlay.*, or user.overlay.* with `userxattr`).
// An archive must not set them: a redirect or metacopy attribute would show files from elsewhere.
bool is_overlay_private(std::string_view name);

// A path to an open file, O_PATH too, that the l*xattr(2) family takes: it does not follow the file
// itself if that is a symbolic link.
std::string descriptor_path(int fd);

// Sets `attributes`, skipping overlay's own; counts in `skipped` those that this kind of file or file
// system does not take.  `fd` may be O_PATH.
Result<void> set_attributes(int fd, const std::vector<Attribute>& attributes, std::string_view name,
                            std::uint64_t& skipped);

// All of them, sorted by name, without overlay's own.
Result<std::vector<Attribute>> get_attributes(int fd, std::string_view name);

// Whether overlayfs hides what lower layers have in this directory.
Result<bool> is_opaque(int fd, std::string_view name);
// Makes it so, for mounts with and without `userxattr`.
Result<void> set_opaque(int fd, std::string_view name);

// Whether the file's name or data is elsewhere in the overlay (redirect_dir, metacopy).
Result<bool> refers_elsewhere(int fd, std::string_view name);

// Takes `uid_offset` and `gid_offset` from the ids inside of security.capability and POSIX ACLs, so that
// they mean the same in an archive as in the user namespace whose ids begin there.
Result<void> shift_ids(std::vector<Attribute>& attributes, uid_t uid_offset, gid_t gid_offset,
                       std::string_view name);

}  // namespace fastdock::layer
