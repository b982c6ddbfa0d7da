/* Integer kernels of a neural network in plain C99: no allocation, no floating point, no state.
 *
 * Values are unsigned 8-bit, real = scale * (stored - zero), laid out channel by channel (C, H, W). Weights are
 * signed 8-bit with zero 0. A sum in 32 bits is brought to the output's grid by multiplier / 2^shift.
 */
#ifndef CWB_KERNELS_H
#define CWB_KERNELS_H

#include <stdint.h>

typedef struct {
    int32_t in_channels, in_height, in_width, out_height, out_width;
    int32_t kernel_height, kernel_width, stride_y, stride_x, dilation_y, dilation_x, pad_top, pad_left;
    int32_t out_channels, groups, in_zero, out_zero;
    const int8_t *weights;
    const int32_t *biases, *multipliers;
    const uint8_t *shifts;
} cwb_conv_t;

typedef cwb_conv_t cwb_depthwise_t;

typedef struct {
    int32_t rows, in_features, out_features, in_zero, out_zero;
    const int8_t *weights;
    const int32_t *biases, *multipliers;
    const uint8_t *shifts;
} cwb_linear_t;

typedef struct {
    int32_t in_channels, in_height, in_width, out_height, out_width;
    int32_t kernel_height, kernel_width, stride_y, stride_x, dilation_y, dilation_x, pad_top, pad_left;
    int32_t in_zero, out_zero, multiplier, shift;
} cwb_pool_t;

typedef cwb_pool_t cwb_max_pool_t;
typedef cwb_pool_t cwb_average_pool_t;

typedef struct {
    int32_t size, first_zero, second_zero, out_zero, first_multiplier, second_multiplier, shift;
} cwb_add_t;

typedef struct {
    int32_t size, offset, low, high, in_zero, out_zero, multiplier, shift;
} cwb_rescale_t;

typedef struct {
    int32_t rows, columns, out_zero, multiplier, shift;
    const int32_t *exponentials;
} cwb_softmax_t;

void cwb_conv(const cwb_conv_t *p, const uint8_t *in, uint8_t *out);
void cwb_depthwise(const cwb_depthwise_t *p, const uint8_t *in, uint8_t *out);
void cwb_linear(const cwb_linear_t *p, const uint8_t *in, uint8_t *out);
void cwb_max_pool(const cwb_max_pool_t *p, const uint8_t *in, uint8_t *out);
void cwb_average_pool(const cwb_average_pool_t *p, const uint8_t *in, uint8_t *out);
void cwb_add(const cwb_add_t *p, const uint8_t *first, const uint8_t *second, uint8_t *out);
void cwb_rescale(const cwb_rescale_t *p, const uint8_t *in, uint8_t *out);
void cwb_softmax(const cwb_softmax_t *p, const uint8_t *in, uint8_t *out);

#endif
