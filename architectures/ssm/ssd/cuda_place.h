// Which tile of which batch row, unit and heads a block of a masked product works on.
#pragma once

#include "architectures/ssm/ssd/cuda_tiles.h"

namespace hippodrome::ssd_kernel::gpu {

struct Place {
  int64_t b, unit, begin, end;  // steps [begin, end): a tile, and what follows it in its unit
  int tile;                     // of the unit
  int first_head, heads, group, head_block;
  int column;
};

// Heads that a block adds up: those of a block of heads (op.h), or one.
HIPPODROME_HOST_DEVICE int64_t head_blocks_of(const CudaParams& p, bool one_head) {
  return one_head ? p.heads : p.groups * ceil_div(p.heads / p.groups, kHeadBlock);
}

HIPPODROME_HOST_DEVICE Place place_of(const CudaParams& p, int64_t index, int64_t side, int64_t width, bool one_head) {
  const Units units = units_of(p);
  const int64_t across = ceil_div(width, side), blocks = head_blocks_of(p, one_head), tiles = tiles_of(units, side);
  const int64_t per_group = p.heads / p.groups;
  Place place;
  place.column = static_cast<int>(index % across * side);
  index /= across;
  const int64_t head = index % blocks;
  index /= blocks;
  place.tile = static_cast<int>(index % tiles);
  index /= tiles;
  place.unit = index % units.count;
  place.b = index / units.count;
  place.begin = units.begin(place.unit) + place.tile * side;
  place.end = units.end(place.unit);
  const int64_t blocks_of_group = blocks / p.groups, block = head % blocks_of_group;
  const int64_t first = one_head ? block : block * kHeadBlock, most = one_head ? 1 : kHeadBlock;
  const int64_t rest = per_group - first;
  place.group = static_cast<int>(head / blocks_of_group);
  place.head_block = static_cast<int>(block);
  place.first_head = static_cast<int>(place.group * per_group + first);
  place.heads = static_cast<int>(rest < most ? rest : most);
  return place;
}

}  // namespace hippodrome::ssd_kernel::gpu
