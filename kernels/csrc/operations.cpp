// Compiled once for each instruction set, which FGMCLIP_TARGET names.
#include "operations.h"

#include "flow.h"
#include "resample.h"

namespace fgmclip {

extern const Operations FGMCLIP_TARGET;

const Operations FGMCLIP_TARGET = {
    FGMCLIP_TARGET_NAME, strip,
    pixel_rows,          luma_rows,
    normalize_plane,     normalize_pixels,
    frame_difference,    optical_flow,
};

}  // namespace fgmclip
