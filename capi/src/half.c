/* float16 for processors without instructions for it, and what LLVM calls there, under names of our own, since only recent compilers bring them along. */
#include <string.h>

#include "half.h"

float half_value(uint32_t half)
{
    uint32_t sign = (half & 0x8000) << 16, rest = half & 0x7FFF, word;
    float value;
    if (rest >= 0x7C00) { /* infinity; NaN, which becomes a quiet one */
        word = sign | 0x7F800000 | (rest & 0x3FF) << 13 | (rest > 0x7C00 ? 0x400000 : 0);
    } else if (rest >= 0x400) {
        word = sign | ((rest << 13) + 0x38000000);
    } else { /* a denormal is so many 2^-24 */
        value = (float)rest * 0x1p-24F;
        memcpy(&word, &value, sizeof word);
        word |= sign;
    }
    memcpy(&value, &word, sizeof value);
    return value;
}

uint32_t half_bits(float value)
{
    uint32_t word, half;
    memcpy(&word, &value, sizeof word);
    uint32_t sign = word >> 16 & 0x8000, rest = word & 0x7FFFFFFF;
    if (rest > 0x7F800000) {
        half = 0x7E00 | (rest >> 13 & 0x3FF);
    } else if (rest >= 0x477FF000) { /* from the middle of the largest half and 2^16 on */
        half = 0x7C00;
    } else if (rest >= 0x38800000) { /* to nearest, ties to even */
        half = (rest - 0x38000000 + 0xFFF + (rest >> 13 & 1)) >> 13;
    } else { /* a denormal: the sum with 1/2 rounds to multiples of 2^-24 */
        float sum, magnitude;
        memcpy(&magnitude, &rest, sizeof magnitude);
        sum = magnitude + 0.5F;
        memcpy(&word, &sum, sizeof word);
        half = word - 0x3F000000;
    }
    return sign | half;
}

#if defined(__x86_64__)
#include <emmintrin.h>

/* A half is passed and returned in the low 16 bits of a vector register. */
float numbapool__extendhfsf2(__m128i half);
__m128i numbapool__truncsfhf2(float value);

float numbapool__extendhfsf2(__m128i half) { return half_value((uint32_t)_mm_cvtsi128_si32(half) & 0xFFFF); }

__m128i numbapool__truncsfhf2(float value) { return _mm_cvtsi32_si128((int)half_bits(value)); }
#endif
