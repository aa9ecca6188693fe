/* Halves a photo by soft pooling, or by another pooling:
 *
 *     cc -std=c99 photo.c $(pkg-config --cflags --libs numbapool) -o photo
 *     ./photo photo.ppm half.ppm soft
 *
 * Photos are binary PPM files (P6), as many programs write them: `convert photo.jpg photo.ppm`.  With "-" as the first name a test picture is taken.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <numbapool.h>

/* All poolings that are tried here, in one shape. */
static int soft(const DLTensor *x, DLTensor *y, const numbapool_params *p) { return numbapool_soft_pool(x, y, p); }
static int avg(const DLTensor *x, DLTensor *y, const numbapool_params *p) { return numbapool_avg_pool(x, y, p); }
static int gem(const DLTensor *x, DLTensor *y, const numbapool_params *p) { return numbapool_gem_pool(x, NULL, y, p); }
static int max(const DLTensor *x, DLTensor *y, const numbapool_params *p) { return numbapool_max_pool(x, y, NULL, p); }

static const struct {
    const char *name;
    int (*pool)(const DLTensor *, DLTensor *, const numbapool_params *);
} poolings[] = {{"soft", soft}, {"avg", avg}, {"gem", gem}, {"max", max}};

/* A float image of height, width, 3 colours between 0 and 1.  A DLTensor only points to it: the memory stays ours. */
typedef struct {
    int64_t shape[3];
    float *pixels;
} image;

static DLTensor tensor_of(image *i)
{
    DLTensor t = {0};
    t.data = i->pixels;
    t.device.device_type = kDLCPU;
    t.ndim = 3;
    t.dtype.code = kDLFloat;
    t.dtype.bits = 32;
    t.dtype.lanes = 1;
    t.shape = i->shape; /* strides NULL: row-major order */
    return t;
}

static void stop(const char *what, const char *why)
{
    fprintf(stderr, "%s: %s\n", what, why);
    exit(1);
}

static image new_image(int64_t height, int64_t width)
{
    image i = {{height, width, 3}, malloc((size_t)(height * width * 3) * sizeof(float))};
    if (!i.pixels)
        stop("memory", "there is not enough");
    return i;
}

static image test_picture(void)
{
    image i = new_image(120, 160);
    for (int64_t k = 0; k < 120 * 160 * 3; k++) /* a chessboard that grows brighter to the right */
        i.pixels[k] = (float)(k / 3 % 160) / 160.0f * ((k / 480 / 8 + k / 3 / 8) % 2 ? 1.0f : 0.5f);
    return i;
}

static image read_ppm(const char *name)
{
    unsigned height, width, most;
    FILE *file = fopen(name, "rb");
    if (!file || fscanf(file, "P6 %u %u %u", &width, &height, &most) != 3 || fgetc(file) == EOF)
        stop(name, "is no binary PPM file (P6, without comments)");
    if (most != 255 || !width || !height || width > 65535 || height > 65535)
        stop(name, "has another size or depth than this example reads");
    image i = new_image(height, width);
    for (size_t k = 0; k < (size_t)height * width * 3; k++) {
        int byte = fgetc(file);
        if (byte == EOF)
            stop(name, "ends too early");
        i.pixels[k] = (float)byte / 255.0f;
    }
    fclose(file);
    return i;
}

static void write_ppm(const char *name, const image *i)
{
    FILE *file = fopen(name, "wb");
    if (!file)
        stop(name, "cannot be written");
    fprintf(file, "P6\n%d %d\n255\n", (int)i->shape[1], (int)i->shape[0]);
    for (int64_t k = 0; k < i->shape[0] * i->shape[1] * 3; k++) {
        float v = i->pixels[k];
        fputc(v <= 0.0f ? 0 : v >= 1.0f ? 255 : (int)(v * 255.0f + 0.5f), file);
    }
    if (fclose(file) != 0)
        stop(name, "was not written to the end");
}

int main(int argc, char **argv)
{
    const char *name = argc > 3 ? argv[3] : "soft";
    size_t n = 0;
    while (n < sizeof poolings / sizeof *poolings && strcmp(name, poolings[n].name) != 0)
        n++;
    if (argc < 3 || n == sizeof poolings / sizeof *poolings)
        stop("usage", "photo IN.ppm|- OUT.ppm [soft|avg|gem|max]");

    numbapool_params params;
    numbapool_params_init(&params, sizeof params);
    params.channels_last = 1; /* (height, width, colour) */
    params.kernel_size[0] = params.kernel_size[1] = 2;
    params.temperature = 0.1; /* read by soft pooling alone */

    image photo = strcmp(argv[1], "-") ? read_ppm(argv[1]) : test_picture();
    DLTensor x = tensor_of(&photo);
    int64_t shape[3];
    if (numbapool_avg_shape(&x, &params, shape) != NUMBAPOOL_OK) /* of the result: the same for all of these */
        stop("shape", numbapool_error_message());
    image half = new_image(shape[0], shape[1]);
    DLTensor y = tensor_of(&half);
    if (poolings[n].pool(&x, &y, &params) != NUMBAPOOL_OK)
        stop(name, numbapool_error_message());

    write_ppm(argv[2], &half);
    printf("%s pooling: %d x %d from %d x %d\n", name, (int)shape[1], (int)shape[0], (int)photo.shape[1], (int)photo.shape[0]);
    free(half.pixels);
    free(photo.pixels);
    return 0;
}
