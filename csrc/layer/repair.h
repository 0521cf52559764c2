// What a lone layer cannot know.
//
// A layer is unpacked by its own bytes alone, so that layers unpack in parallel and one directory serves
// every image that has the layer.  Two things then depend on the layers below, which differ by image:
//
// - A directory that a layer does not list but has files in.  overlayfs takes a directory's attributes
//   from the topmost layer that has it, and would show the defaults (0755, root) instead of the
//   attributes that a lower layer lists.
// - A hard link to a file of a lower layer.
//
// Neither is written into the shared directory.  Where an image needs it (few do), both go into one more
// directory, stacked above all layers of that image and kept by its chain ID: the directories with the
// attributes that the stack should show, and copies of the linked files (a hard link cannot reach into
// another layer; several links to one file are links to one copy).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "layer/layer.h"

namespace fastdock::layer {

struct UnpackedLayer {
  std::string path;
  std::string repairs;  // LayerResult::repairs
};

// Layers from the bottom to the top.  Fills `destination`, an empty directory, and returns how many
// directories and links needed it; 0: leave it out of the stack.  A missing link target is an error.
//
// A directory needs it if mode, owner or extended attributes differ; its time alone is no reason.
Result<std::uint64_t> repair_layers(const std::vector<UnpackedLayer>& layers, const std::string& destination);

}  // namespace fastdock::layer
