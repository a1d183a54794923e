#include "planes_body.h"

const ts_planes ts_planes_scalar = {split, merge, cut, join, pack, unpack};
