// Python binding. Values are checked in fgmclip/kernels/native.py, which words the errors; what
// could make this code read or write outside of an array is checked here as well.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>

#include <mutex>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "workspace.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace fgmclip {
namespace {

template <class Element, int kRank>
using Array = nb::ndarray<Element, nb::ndim<kRank>, nb::c_contig, nb::device::cpu>;
using FrameArray = nb::ndarray<const std::uint8_t, nb::ndim<4>, nb::device::cpu>;
using RegionArray = Array<const std::int32_t, 2>;
using ColorArray = Array<const std::int32_t, 1>;
using ChannelArray = Array<const float, 1>;

constexpr std::size_t kRegionFields = 10, kColorFields = 9;
constexpr int kLargestPatch = 16;
constexpr float kLeastStiffness = 0.1f;  // below it a patch's equations may have no solution

void require(bool condition, const char* expected) {
    if (!condition) {
        throw std::invalid_argument(expected);
    }
}

Frames frames_of(const FrameArray& array) {
    const bool nv12 = array.shape(3) == 1;
    const std::int64_t channels = static_cast<std::int64_t>(array.shape(3));
    require(channels == 1 || channels == 3, "frames: expected 1 or 3 channels");
    require((channels == 1 || array.stride(3) == 1) &&
                (array.shape(2) == 1 || array.stride(2) == channels),
            "frames: expected packed pixels");
    const int rows = static_cast<int>(array.shape(1)), width = static_cast<int>(array.shape(2));
    require(rows > 0 && width > 0 && array.shape(0) > 0, "frames: expected pixels");
    require(!nv12 || (rows % 3 == 0 && width % 2 == 0), "frames: expected whole NV12 frames");
    return {array.data(),
            array.stride(0),
            array.stride(1),
            static_cast<int>(array.shape(0)),
            nv12 ? rows / 3 * 2 : rows,
            width,
            nv12};
}

std::vector<RegionKey> regions_of(const RegionArray& array, int size, int motion) {
    require(array.shape(1) == kRegionFields && array.shape(0) > 0, "regions: expected [N,10]");
    std::vector<RegionKey> keys;
    for (std::size_t i = 0; i < array.shape(0); ++i) {
        const std::int32_t* r = array.data() + i * kRegionFields;
        const RegionKey key{r[0], r[1], r[2], r[3], r[4], r[5], r[6], r[7], r[8], r[9]};
        const bool valid = key.width > 0 && key.height > 0 && key.size == size && size > 0 &&
                           key.motion == motion && key.offset_x >= 0 && key.offset_y >= 0 &&
                           key.offset_x <= key.resized_width - size &&
                           key.offset_y <= key.resized_height - size;
        require(valid, "regions: expected squares inside resized boxes");
        keys.push_back(key);
    }
    return keys;
}

Color color_of(const ColorArray& array) {
    require(array.shape(0) == kColorFields, "color: expected 9 constants");
    const std::int32_t* c = array.data();
    return {c[0], c[1], c[2], c[3], c[4], c[5], c[6], c[7], c[8]};
}

Normalization normalization_of(const ChannelArray& mean, const ChannelArray& std) {
    require(mean.shape(0) == 3 && std.shape(0) == 3, "mean, std: expected 3 channels");
    Normalization result{};
    for (std::size_t c = 0; c < 3; ++c) {
        result.mean[c] = mean.data()[c];
        result.std[c] = std.data()[c];
    }
    return result;
}

const FlowParameters& checked(const FlowParameters& flow) {
    require(flow.patch_size >= 1 && flow.patch_size <= kLargestPatch && flow.patch_stride >= 1 &&
                flow.patch_size % flow.patch_stride == 0 && flow.coarsest_side >= 4,
            "flow: expected patches of 1 to 16 pixels, a stride that divides them, 4 coarse pixels");
    require(flow.iterations >= 1 && flow.refinement_iterations >= 0 &&
                flow.relaxation_iterations >= 1 && flow.stiffness >= kLeastStiffness,
            "flow: expected iterations, and a stiffness of at least 0.1");
    return flow;
}

template <class Container>
int square(const Container& array, std::size_t axis) {
    require(array.shape(axis) == array.shape(axis + 1), "expected squares");
    return static_cast<int>(array.shape(axis));
}

// A workspace serves one call at a time; a second one waits.
class Kernels {
  public:
    Kernels(int threads, const std::optional<std::string>& name)
        : workspace_(threads < 1 ? 1 : threads, chosen(name)) {}

    const char* instruction_set() const { return workspace_.instruction_set(); }
    int threads() const { return workspace_.threads(); }

    void preprocess(const FrameArray& frames, const RegionArray& regions, const ColorArray& color,
                    const ChannelArray& mean, const ChannelArray& std,
                    const std::optional<FlowParameters>& flow,
                    const std::optional<Array<float, 4>>& values,
                    const std::optional<Array<std::uint8_t, 4>>& levels,
                    const std::optional<Array<std::uint8_t, 4>>& luma,
                    const std::optional<Array<float, 4>>& motion) {
        require(values.has_value() != levels.has_value(), "expected values or levels");
        require(!motion || (luma && flow), "motion: expected luma and a flow too");
        const int size = values ? square(*values, 2) : square(*levels, 1);
        const int side = luma ? square(*luma, 2) : 0;
        const std::vector<RegionKey> keys = regions_of(regions, size, side);
        const Frames source = frames_of(frames);
        const std::size_t count = keys.size();
        require(source.count > 1 && count % static_cast<std::size_t>(source.count - 1) == 0,
                "regions: expected one for each track and new frame");
        require(!values || (values->shape(0) == count && values->shape(1) == 3), "values: shape");
        require(!levels || (levels->shape(0) == count && levels->shape(3) == 3), "levels: shape");
        require(!luma || (luma->shape(0) == count && luma->shape(1) == 2), "luma: shape");
        require(!motion || (motion->shape(0) == count && motion->shape(1) == 3 &&
                            square(*motion, 2) == side && side >= 16),
                "motion: shape");
        const Pixels pixels{levels ? levels->data() : nullptr, values ? values->data() : nullptr,
                            normalization_of(mean, std)};
        const Color constants = color_of(color);
        const FlowParameters parameters = flow ? checked(*flow) : FlowParameters{};
        const nb::gil_scoped_release unlocked;
        const std::lock_guard<std::mutex> lock(mutex_);
        workspace_.preprocess(source, keys, constants, pixels, parameters,
                              luma ? luma->data() : nullptr, motion ? motion->data() : nullptr);
    }

    void resize(const FrameArray& frame, const RegionArray& region, const ColorArray& color,
                const Array<std::uint8_t, 3>& levels) {
        const std::vector<RegionKey> keys = regions_of(region, square(levels, 0), 0);
        require(levels.shape(2) == 3, "levels: shape");
        const Frames source = frames_of(frame);
        const Color constants = color_of(color);
        const nb::gil_scoped_release unlocked;
        const std::lock_guard<std::mutex> lock(mutex_);
        workspace_.resize(source, keys[0], constants, {levels.data(), nullptr, {}});
    }

    void luma(const FrameArray& frame, const RegionArray& region, const ColorArray& color,
              const Array<std::uint8_t, 2>& out) {
        require(region.shape(0) == 1 && region.shape(1) == kRegionFields, "region: shape");
        const std::vector<RegionKey> keys =
            regions_of(region, region.data()[kRegionFields - 2], square(out, 0));
        const Frames source = frames_of(frame);
        const Color constants = color_of(color);
        const nb::gil_scoped_release unlocked;
        const std::lock_guard<std::mutex> lock(mutex_);
        workspace_.luma(source, keys[0], constants, out.data());
    }

    void normalize(const Array<const std::uint8_t, 4>& levels, const ChannelArray& mean,
                   const ChannelArray& std, const Array<float, 4>& values) {
        const int size = square(levels, 1);
        require(levels.shape(3) == 3 && values.shape(0) == levels.shape(0) &&
                    values.shape(1) == 3 && square(values, 2) == size,
                "values: shape");
        const Normalization how = normalization_of(mean, std);
        const nb::gil_scoped_release unlocked;
        const std::lock_guard<std::mutex> lock(mutex_);
        workspace_.normalize(levels.data(), static_cast<int>(levels.shape(0)), size, how,
                             values.data());
    }

    void motion(const Array<const std::uint8_t, 4>& luma, const FlowParameters& flow,
                const Array<float, 4>& out) {
        const int size = pairs_of(luma, out, 3);
        require(size >= 16, "luma: expected 16 pixels or more");
        const FlowParameters& parameters = checked(flow);
        const nb::gil_scoped_release unlocked;
        const std::lock_guard<std::mutex> lock(mutex_);
        workspace_.motion(luma.data(), static_cast<int>(luma.shape(0)), size, parameters,
                          out.data());
    }

    void optical_flow(const Array<const std::uint8_t, 4>& luma, const FlowParameters& flow,
                      const Array<float, 4>& out) {
        const int size = pairs_of(luma, out, 2);
        require(size >= 16, "luma: expected 16 pixels or more");
        const FlowParameters& parameters = checked(flow);
        const nb::gil_scoped_release unlocked;
        const std::lock_guard<std::mutex> lock(mutex_);
        workspace_.optical_flow(luma.data(), static_cast<int>(luma.shape(0)), size, parameters,
                                out.data());
    }

    void frame_difference(const Array<const std::uint8_t, 4>& luma, const Array<float, 3>& out) {
        const int size = square(luma, 2);
        require(luma.shape(1) == 2 && out.shape(0) == luma.shape(0) && square(out, 1) == size,
                "out: shape");
        const nb::gil_scoped_release unlocked;
        const std::lock_guard<std::mutex> lock(mutex_);
        workspace_.frame_difference(luma.data(), static_cast<int>(luma.shape(0)), size,
                                    out.data());
    }

  private:
    static const Operations* chosen(const std::optional<std::string>& name) {
        const Operations* found = name ? operations(name->c_str()) : operations();
        require(found != nullptr, "instruction_set: expected one that this machine has");
        return found;
    }

    static int pairs_of(const Array<const std::uint8_t, 4>& luma, const Array<float, 4>& out,
                        std::size_t planes) {
        const int size = square(luma, 2);
        require(luma.shape(1) == 2 && out.shape(0) == luma.shape(0) && out.shape(1) == planes &&
                    square(out, 2) == size,
                "out: shape");
        return size;
    }

    std::mutex mutex_;
    Workspace workspace_;
};

}  // namespace

NB_MODULE(_native, module) {
    nb::class_<FlowParameters>(module, "FlowParameters")
        .def(
            "__init__",
            [](FlowParameters* self, int coarsest_side, int finest_level, int patch_size,
               int patch_stride, int iterations, float stiffness, int propagations,
               int refinement_iterations, int relaxation_iterations, float smoothness,
               float gradient, float intensity) {
                new (self) FlowParameters{
                    coarsest_side, finest_level, patch_size,            patch_stride,
                    iterations,    propagations, refinement_iterations, relaxation_iterations,
                    stiffness,     smoothness,   gradient,              intensity};
            },
            nb::kw_only(), "coarsest_side"_a, "finest_level"_a, "patch_size"_a, "patch_stride"_a,
            "iterations"_a, "stiffness"_a, "propagations"_a, "refinement_iterations"_a,
            "relaxation_iterations"_a, "smoothness"_a, "gradient"_a, "intensity"_a);
    nb::class_<Kernels>(module, "Kernels")
        .def(nb::init<int, const std::optional<std::string>&>(), "threads"_a,
             "instruction_set"_a = nb::none())
        .def_prop_ro("instruction_set", &Kernels::instruction_set)
        .def_prop_ro("threads", &Kernels::threads)
        .def("preprocess", &Kernels::preprocess, "frames"_a, "regions"_a, "color"_a, "mean"_a,
             "std"_a, "flow"_a.none(), "values"_a = nb::none(), "levels"_a = nb::none(),
             "luma"_a = nb::none(), "motion"_a = nb::none())
        .def("resize", &Kernels::resize, "frame"_a, "region"_a, "color"_a, "levels"_a)
        .def("luma", &Kernels::luma, "frame"_a, "region"_a, "color"_a, "out"_a)
        .def("normalize", &Kernels::normalize, "levels"_a, "mean"_a, "std"_a, "values"_a)
        .def("motion", &Kernels::motion, "luma"_a, "flow"_a, "out"_a)
        .def("optical_flow", &Kernels::optical_flow, "luma"_a, "flow"_a, "out"_a)
        .def("frame_difference", &Kernels::frame_difference, "luma"_a, "out"_a);
}

}  // namespace fgmclip
