/* The floor: read r bytes and write w bytes, side by side, at the speed of the memory. Nothing that reads and writes as much can be faster.

   Both buffers are cut into the same number of blocks, so that reads and writes advance in proportion. Everything read goes into the bits
   written, or the compiler would drop the loads. Stores come in two kinds: plain ones, and ones past the cache, which save the read of the
   line that is overwritten; which of them wins depends on the sizes, and the caller times both. */
#include <stdint.h>
#include <string.h>
#ifdef __SSE2__
#include <immintrin.h>
#endif
#ifdef _OPENMP
#include <omp.h>
#endif

enum { LINE = 64, BLOCK = 4096, SMALL = 1 << 18 };  /* bytes; below SMALL waking a thread costs more than it saves */
typedef uint64_t line __attribute__((vector_size(LINE), aligned(LINE), may_alias));

static line read_lines(const line *in, int64_t n, line sum) {
    line a = sum, b = {0}, c = {0}, d = {0};  /* four sums: the loads do not wait for each other */
    int64_t i = 0;
    for (; i + 4 <= n; i += 4) { a ^= in[i]; b ^= in[i + 1]; c ^= in[i + 2]; d ^= in[i + 3]; }
    for (; i < n; i++) a ^= in[i];
    return (a ^ b) ^ (c ^ d);
}

static void write_lines(line *out, int64_t n, line value, int past_cache) {
#ifdef __SSE2__
    if (past_cache) {
        __m128i part[4];
        memcpy(part, &value, LINE);
        for (int64_t i = 0; i < n; i++)
            for (int k = 0; k < 4; k++) _mm_stream_si128((__m128i *)(out + i) + k, part[k]);
        return;
    }
#endif
    for (int64_t i = 0; i < n; i++) out[i] = value;
}

static line pass(const line *in, int64_t r, line *out, int64_t w, int64_t blocks, int64_t lo, int64_t hi, int past_cache) {
    line sum = {0};
    for (int64_t b = lo; b < hi; b++) {
        int64_t from = r * b / blocks, to = w * b / blocks;
        sum = read_lines(in + from, r * (b + 1) / blocks - from, sum);
        write_lines(out + to, w * (b + 1) / blocks - to, sum, past_cache);
    }
#ifdef __SSE2__
    if (past_cache) _mm_sfence();
#endif
    return sum;
}

/* in, out: at multiples of 64 bytes. Returns what was read, combined, so that it is read where nothing is written, too. */
uint64_t run(const char *in, int64_t r, char *out, int64_t w, int threads, int past_cache) {
    int64_t blocks = ((r > w ? r : w) + BLOCK - 1) / BLOCK;
    uint64_t sum = 0;
    if (blocks == 0) return 0;
    if (r + w < SMALL) threads = 1;
    #pragma omp parallel for num_threads(threads) schedule(static) reduction(^ : sum) if (threads > 1)
    for (int t = 0; t < threads; t++)
        sum ^= pass((const line *)in, r / LINE, (line *)out, w / LINE, blocks, blocks * t / threads, blocks * (t + 1) / threads, past_cache)[0];
    for (int64_t i = r / LINE * LINE; i < r; i++) sum ^= (uint64_t)(unsigned char)in[i];
    for (int64_t i = w / LINE * LINE; i < w; i++) out[i] = (char)sum;
    return sum;
}

/* Put the memory out of every cache, and OpenMP's threads to work; 0 where this processor has no such instruction. */
int evict(const char *memory, int64_t size, int threads) {
#ifdef __SSE2__
    #pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t i = 0; i < size; i += LINE) {
#ifdef __CLFLUSHOPT__
        _mm_clflushopt((void *)(memory + i));
#else
        _mm_clflush(memory + i);
#endif
    }
    _mm_mfence();
    return 1;
#else
    return 0;
#endif
}
