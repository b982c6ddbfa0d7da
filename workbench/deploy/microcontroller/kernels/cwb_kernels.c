#include "cwb_kernels.h"

/* Round half to even, as ONNX does; right shifts of negative numbers are arithmetic in every compiler for
 * these targets. */
static int64_t scaled(int64_t sum, int32_t multiplier, int32_t shift) {
    int64_t product = sum * multiplier, half = ((int64_t)1 << shift) >> 1, raised = product + half;
    int64_t rounded = raised >> shift;
    return half && raised == rounded * (2 * half) ? rounded & ~(int64_t)1 : rounded;
}

static uint8_t saturated(int64_t value) {
    return (uint8_t)(value < 0 ? 0 : value > 255 ? 255 : value);
}

/* The taps of a window that lie inside the image: first and one past the last. */
static void inside(int32_t start, int32_t size, int32_t dilation, int32_t taps, int32_t *first, int32_t *end) {
    *first = start < 0 ? (-start + dilation - 1) / dilation : 0;
    int32_t room = size - start;
    *end = room <= 0 ? 0 : (room + dilation - 1) / dilation;
    if (*end > taps) *end = taps;
}

void cwb_conv(const cwb_conv_t *p, const uint8_t *in, uint8_t *out) {
    int32_t depth = p->in_channels / p->groups, each = p->out_channels / p->groups;
    int32_t plane = p->in_height * p->in_width, taps = p->kernel_height * p->kernel_width;
    for (int32_t channel = 0; channel < p->out_channels; channel++) {
        const int8_t *weights = p->weights + channel * depth * taps;
        const uint8_t *group = in + channel / each * depth * plane;
        for (int32_t y = 0; y < p->out_height; y++) {
            int32_t top = y * p->stride_y - p->pad_top, row, last_row;
            inside(top, p->in_height, p->dilation_y, p->kernel_height, &row, &last_row);
            for (int32_t x = 0; x < p->out_width; x++) {
                int32_t left = x * p->stride_x - p->pad_left, column, last_column, sum = p->biases[channel];
                inside(left, p->in_width, p->dilation_x, p->kernel_width, &column, &last_column);
                for (int32_t c = 0; c < depth; c++) {
                    for (int32_t ky = row; ky < last_row; ky++) {
                        const uint8_t *line = group + c * plane + (top + ky * p->dilation_y) * p->in_width + left;
                        const int8_t *tap = weights + c * taps + ky * p->kernel_width;
                        for (int32_t kx = column; kx < last_column; kx++)
                            sum += (line[kx * p->dilation_x] - p->in_zero) * tap[kx];
                    }
                }
                *out++ = saturated(scaled(sum, p->multipliers[channel], p->shifts[channel]) + p->out_zero);
            }
        }
    }
}

/* One input channel for each output channel: no loop over the depth, and one channel in the cache at a time. */
void cwb_depthwise(const cwb_depthwise_t *p, const uint8_t *in, uint8_t *out) {
    int32_t plane = p->in_height * p->in_width, taps = p->kernel_height * p->kernel_width;
    for (int32_t channel = 0; channel < p->out_channels; channel++) {
        const int8_t *weights = p->weights + channel * taps;
        const uint8_t *image = in + channel * plane;
        for (int32_t y = 0; y < p->out_height; y++) {
            int32_t top = y * p->stride_y - p->pad_top, row, last_row;
            inside(top, p->in_height, p->dilation_y, p->kernel_height, &row, &last_row);
            for (int32_t x = 0; x < p->out_width; x++) {
                int32_t left = x * p->stride_x - p->pad_left, column, last_column, sum = p->biases[channel];
                inside(left, p->in_width, p->dilation_x, p->kernel_width, &column, &last_column);
                for (int32_t ky = row; ky < last_row; ky++) {
                    const uint8_t *line = image + (top + ky * p->dilation_y) * p->in_width + left;
                    for (int32_t kx = column; kx < last_column; kx++)
                        sum += (line[kx * p->dilation_x] - p->in_zero) * weights[ky * p->kernel_width + kx];
                }
                *out++ = saturated(scaled(sum, p->multipliers[channel], p->shifts[channel]) + p->out_zero);
            }
        }
    }
}

void cwb_linear(const cwb_linear_t *p, const uint8_t *in, uint8_t *out) {
    for (int32_t row = 0; row < p->rows; row++, in += p->in_features) {
        const int8_t *weights = p->weights;
        for (int32_t feature = 0; feature < p->out_features; feature++, weights += p->in_features) {
            int32_t sum = p->biases[feature];
            for (int32_t i = 0; i < p->in_features; i++) sum += (in[i] - p->in_zero) * weights[i];
            *out++ = saturated(scaled(sum, p->multipliers[feature], p->shifts[feature]) + p->out_zero);
        }
    }
}

void cwb_max_pool(const cwb_max_pool_t *p, const uint8_t *in, uint8_t *out) {
    for (int32_t channel = 0; channel < p->in_channels; channel++, in += p->in_height * p->in_width) {
        for (int32_t y = 0; y < p->out_height; y++) {
            int32_t top = y * p->stride_y - p->pad_top, row, last_row;
            inside(top, p->in_height, p->dilation_y, p->kernel_height, &row, &last_row);
            for (int32_t x = 0; x < p->out_width; x++) {
                int32_t left = x * p->stride_x - p->pad_left, column, last_column, most = 0;
                inside(left, p->in_width, p->dilation_x, p->kernel_width, &column, &last_column);
                for (int32_t ky = row; ky < last_row; ky++)
                    for (int32_t kx = column; kx < last_column; kx++) {
                        int32_t line = (top + ky * p->dilation_y) * p->in_width;
                        int32_t value = in[line + left + kx * p->dilation_x];
                        if (value > most) most = value;
                    }
                *out++ = saturated(scaled(most - p->in_zero, p->multiplier, p->shift) + p->out_zero);
            }
        }
    }
}

/* The multiplier holds the division by the number of taps; windows lie inside the image but for their end. */
void cwb_average_pool(const cwb_average_pool_t *p, const uint8_t *in, uint8_t *out) {
    for (int32_t channel = 0; channel < p->in_channels; channel++, in += p->in_height * p->in_width) {
        for (int32_t y = 0; y < p->out_height; y++) {
            for (int32_t x = 0; x < p->out_width; x++) {
                const uint8_t *corner = in + y * p->stride_y * p->in_width + x * p->stride_x;
                int32_t sum = 0;
                for (int32_t ky = 0; ky < p->kernel_height; ky++)
                    for (int32_t kx = 0; kx < p->kernel_width; kx++)
                        sum += corner[ky * p->in_width + kx] - p->in_zero;
                *out++ = saturated(scaled(sum, p->multiplier, p->shift) + p->out_zero);
            }
        }
    }
}

void cwb_add(const cwb_add_t *p, const uint8_t *first, const uint8_t *second, uint8_t *out) {
    for (int32_t i = 0; i < p->size; i++) {
        int64_t sum = (int64_t)(first[i] - p->first_zero) * p->first_multiplier;
        sum += (int64_t)(second[i] - p->second_zero) * p->second_multiplier;
        out[i] = saturated(scaled(sum, 1, p->shift) + p->out_zero);
    }
}

void cwb_rescale(const cwb_rescale_t *p, const uint8_t *in, uint8_t *out) {
    for (int32_t i = 0; i < p->size; i++) {
        int32_t value = in[i] < p->low ? p->low : in[i] > p->high ? p->high : in[i];
        out[p->offset + i] = saturated(scaled(value - p->in_zero, p->multiplier, p->shift) + p->out_zero);
    }
}

/* exp(x - greatest x) is looked up in units of 2^-24, since x takes 256 values only. */
void cwb_softmax(const cwb_softmax_t *p, const uint8_t *in, uint8_t *out) {
    for (int32_t row = 0; row < p->rows; row++, in += p->columns, out += p->columns) {
        uint8_t most = 0;
        int64_t sum = 0;
        for (int32_t i = 0; i < p->columns; i++)
            if (in[i] > most) most = in[i];
        for (int32_t i = 0; i < p->columns; i++) sum += p->exponentials[most - in[i]];
        for (int32_t i = 0; i < p->columns; i++) {
            int64_t share = ((int64_t)p->exponentials[most - in[i]] << 24) / sum;
            out[i] = saturated(scaled(share, p->multiplier, p->shift + 24) + p->out_zero);
        }
    }
}
