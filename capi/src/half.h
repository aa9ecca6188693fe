/* float16 without instructions for it (half.c). */
#ifndef NUMBAPOOL_HALF_H
#define NUMBAPOOL_HALF_H

#include <stdint.h>

float half_value(uint32_t half);
uint32_t half_bits(float value); /* rounded to nearest even; a NaN stays one */

#endif
